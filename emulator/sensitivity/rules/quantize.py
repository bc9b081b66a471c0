"""QuantizeLinear and DequantizeLinear: the clipped straight-through estimator.

The gradient of an integer tensor is carried in real units (d loss / d dequantised value), so that
DequantizeLinear passes it on unchanged and the branches of a shared tensor simply add up.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from emulator.sensitivity.rules.quantisation import quantisation
from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape

_NO_SCALES = "its scale or zero point needs a gradient", "ask for activations or weights"


@rule("DequantizeLinear", on_integers=True)
def dequantize_linear(tape: Tape, arc: Arc) -> ir.Value:
    if arc.arg != 0:
        raise arc.refuse(*_NO_SCALES)
    here = quantisation(arc.node)
    for source in _quantizers(arc.x):
        if not here.same_grid(quantisation(source)):
            raise arc.refuse(
                f"it reads {source.name!r} with another scale or zero point", "use the same ones"
            )
    return arc.grad


def _quantizers(integers: ir.Value) -> Iterator[ir.Node]:
    """The QuantizeLinear nodes an integer tensor comes from, through operators that move values."""
    open_values = [integers]
    while open_values:
        node = open_values.pop().producer()
        if node is not None and node.op_type == "QuantizeLinear":
            yield node
        elif node is not None:
            open_values += [v for v in node.inputs if v is not None and v.dtype == integers.dtype]


@rule("QuantizeLinear")
def quantize_linear(tape: Tape, arc: Arc) -> ir.Value:
    if arc.arg != 0:
        raise arc.refuse(*_NO_SCALES)
    if tape.straight_through.kind == "hard":
        unclipped = tape.op("Equal", tape.rounded(arc.y), tape.value(arc.y))
        return tape.masked(arc.grad, unclipped, arc.x)
    return _softly_masked(tape, arc)


def _softly_masked(tape: Tape, arc: Arc) -> ir.Value:
    grid, x = quantisation(arc.node), tape.value(arc.x)
    bottom = tape.floats((grid.low - 0.5 - grid.zero_point) * grid.scale, arc.x)
    top = tape.floats((grid.high + 0.5 - grid.zero_point) * grid.scale, arc.x)
    width = tape.floats(tape.straight_through.width_lsb * grid.scale, arc.x)
    above = tape.op("Sigmoid", tape.op("Div", tape.op("Sub", x, bottom), width))
    below = tape.op("Sigmoid", tape.op("Div", tape.op("Sub", top, x), width))
    return tape.op("Mul", arc.grad, tape.op("Mul", above, below))
