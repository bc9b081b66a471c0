"""QuantizeLinear and DequantizeLinear: the clipped straight-through estimator.

The gradient of an integer tensor is carried in real units (d loss / d dequantised value), so that
DequantizeLinear passes it on unchanged and the branches of a shared tensor simply add up.
"""

from __future__ import annotations

import onnx_ir as ir

from emulator.sensitivity.rules.quantisation import Quantisation, lies_on, quantisation
from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape


@rule("DequantizeLinear")
def dequantize_linear(tape: Tape, arc: Arc) -> ir.Value:
    """Read with another scale than it was written with, an integer means another real value."""
    _refuse_scales(arc)
    source = arc.x.producer()
    if source is None or source.op_type != "QuantizeLinear":
        return arc.grad
    written, read = quantisation(source).scale, quantisation(arc.node).scale
    if written.shape == read.shape and (written == read).all():
        return arc.grad
    return tape.op("Mul", arc.grad, tape.floats(read / written, arc.y))


@rule("QuantizeLinear")
def quantize_linear(tape: Tape, arc: Arc) -> ir.Value:
    """Unmasked where nothing can be clipped: values of the same grid, or a range that follows the values."""
    _refuse_scales(arc)
    grid = quantisation(arc.node)
    if grid.computed_zero_point is not None or lies_on(grid, arc.x):
        return arc.grad
    if tape.straight_through.kind == "hard":
        unclipped = tape.op("Equal", tape.rounded(arc.y), tape.value(arc.y))
        return tape.masked(arc.grad, unclipped, arc.x)
    return _softly_masked(tape, arc, grid)


def _refuse_scales(arc: Arc) -> None:
    if arc.arg != 0:
        raise arc.refuse("its scale or zero point needs a gradient", "ask for activations or weights")


def _softly_masked(tape: Tape, arc: Arc, grid: Quantisation) -> ir.Value:
    x = tape.value(arc.x)
    bottom = tape.floats((grid.low - 0.5 - grid.zero_point) * grid.scale, arc.x)
    top = tape.floats((grid.high + 0.5 - grid.zero_point) * grid.scale, arc.x)
    width = tape.floats(tape.straight_through.width_lsb * grid.scale, arc.x)
    above = tape.op("Sigmoid", tape.op("Div", tape.op("Sub", x, bottom), width))
    below = tape.op("Sigmoid", tape.op("Div", tape.op("Sub", top, x), width))
    return tape.op("Mul", arc.grad, tape.op("Mul", above, below))
