"""Activation functions made of straight pieces: gradient times slope.

Where the output tells as much as the input, the output is read: ONNX Runtime can then still fuse the
activation into the operator before it.
"""

from __future__ import annotations

import onnx_ir as ir

from emulator.sensitivity.rules.local import Local
from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape


@rule("Relu")
def relu(tape: Tape, arc: Arc) -> ir.Value:
    return tape.masked(arc.grad, tape.op("Greater", tape.value(arc.y), tape.floats(0, arc.y)), arc.y)


@rule("LeakyRelu")
def leaky_relu(tape: Tape, arc: Arc) -> ir.Value:
    alpha = arc.node.attributes.get_float("alpha", 0.01)
    pivot = arc.y if alpha >= 0 else arc.x  # a negative slope turns the sign of the output
    positive = tape.op("Greater", tape.value(pivot), tape.floats(0, arc.x))
    slope = tape.op("Where", positive, tape.floats(1, arc.x), tape.floats(alpha, arc.x))
    return tape.op("Mul", arc.grad, slope)


@rule("PRelu")
def prelu(tape: Tape, arc: Arc) -> ir.Value:
    at = Local(tape=tape, arc=arc)
    x, slope = at.input(0), at.input(1)
    if arc.arg == 0:
        return at.grad.where(x.above(0), at.grad * slope).value
    return tape.unbroadcast((at.grad * x.op("Min", 0)).value, arc.x, tape.dims(arc.y))


@rule("ThresholdedRelu")
def thresholded_relu(tape: Tape, arc: Arc) -> ir.Value:
    alpha = arc.node.attributes.get_float("alpha", 1.0)
    return tape.masked(arc.grad, tape.op("Greater", tape.value(arc.x), tape.floats(alpha, arc.x)), arc.x)


@rule("Clip")
def clip(tape: Tape, arc: Arc) -> ir.Value:
    """Zero on the bounds themselves, as PyTorch's ReLU6 has it."""
    if arc.arg != 0:
        raise arc.refuse("a bound needs a gradient", "ask for tensors behind the computation of the bound")
    grad = arc.grad
    for comparison, bound in (("Greater", arc.optional(1)), ("Less", arc.optional(2))):
        if bound is not None:
            grad = tape.masked(grad, tape.op(comparison, tape.value(arc.y), tape.value(bound)), arc.x)
    return grad


@rule("HardSigmoid")
def hard_sigmoid(tape: Tape, arc: Arc) -> ir.Value:
    y, zero, one = tape.value(arc.y), tape.floats(0, arc.y), tape.floats(1, arc.y)
    alpha = tape.floats(arc.node.attributes.get_float("alpha", 0.2), arc.x)
    inside = tape.op("And", tape.op("Greater", y, zero), tape.op("Less", y, one))
    return tape.masked(tape.op("Mul", arc.grad, alpha), inside, arc.x)


@rule("HardSwish")
def hard_swish(tape: Tape, arc: Arc) -> ir.Value:
    """0 below -3, x / 3 + 1 / 2 up to 3, 1 above."""
    at = Local(tape=tape, arc=arc)
    x = at.x
    inner = (x / 3 + 0.5).where(x.above(-3), 0)
    return (at.grad * at.term(tape.floats(1, arc.y)).where(x.above(3), inner)).value
