"""Elementwise arithmetic with broadcasting, and conversions between float types."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from emulator.sensitivity.rules.local import Local
from emulator.sensitivity.rules.quantisation import constant_array
from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape


@rule("Add", "Sum")
def add(tape: Tape, arc: Arc) -> ir.Value:
    return tape.unbroadcast(arc.grad, arc.x, tape.dims(arc.y))


@rule("Mean")
def mean(tape: Tape, arc: Arc) -> ir.Value:
    share = tape.op("Div", arc.grad, tape.floats(len(arc.node.inputs), arc.y))
    return tape.unbroadcast(share, arc.x, tape.dims(arc.y))


@rule("Sub")
def sub(tape: Tape, arc: Arc) -> ir.Value:
    grad = tape.unbroadcast(arc.grad, arc.x, tape.dims(arc.y))
    return grad if arc.arg == 0 else tape.op("Neg", grad)


@rule("Neg")
def neg(tape: Tape, arc: Arc) -> ir.Value:
    return tape.op("Neg", arc.grad)


@rule("Mul")
def mul(tape: Tape, arc: Arc) -> ir.Value:
    other = tape.value(arc.input(1 - arc.arg))
    return tape.unbroadcast(tape.op("Mul", arc.grad, other), arc.x, tape.dims(arc.y))


@rule("Div")
def div(tape: Tape, arc: Arc) -> ir.Value:
    at = Local(tape=tape, arc=arc)
    share = at.grad / at.input(1)
    if arc.arg == 1:
        share = -(share * at.y)
    return tape.unbroadcast(share.value, arc.x, tape.dims(arc.y))


@rule("Pow")
def pow_(tape: Tape, arc: Arc) -> ir.Value:
    """y = x ** e; as a function of e only where x > 0 (elsewhere 0, as PyTorch has it for x = 0)."""
    at = Local(tape=tape, arc=arc)
    x, given = at.input(0), arc.input(1)
    if arc.arg == 1:
        logarithm = x.op("Log").where(x.above(0), 0)
        return tape.unbroadcast((at.grad * at.y * logarithm).value, arc.x, tape.dims(arc.y))
    constant = constant_array(given)
    if constant is None:
        exponent = at.term(tape.op("Cast", tape.value(given), to=int(tape.float_type(arc.y))))
        slope = exponent * x.op("Pow", exponent - 1)
    else:
        e = constant.astype(np.float64)
        # 0 * x ** -1 would be no number at x = 0.
        less = at.term(tape.floats(np.where(e == 0, 1.0, e - 1), arc.y))
        power = x if np.all(e == 2) else x.op("Pow", less)
        slope = at.term(tape.floats(e, arc.y)) * power
    return tape.unbroadcast((at.grad * slope).value, arc.x, tape.dims(arc.y))


@rule("Max", "Min")
def extreme(tape: Tape, arc: Arc) -> ir.Value:
    """The first of equal operands gets it all."""
    at = Local(tape=tape, arc=arc)
    chosen = at.x.equals(at.y)
    for index in range(arc.arg):
        earlier = tape.op("Equal", tape.value(arc.input(index)), tape.value(arc.y))
        chosen = tape.op("And", chosen, tape.op("Not", earlier))
    return tape.unbroadcast(tape.masked(arc.grad, chosen, arc.y), arc.x, tape.dims(arc.y))


@rule("Where")
def where(tape: Tape, arc: Arc) -> ir.Value | None:
    if arc.arg == 0:
        return None
    chosen = tape.value(arc.input(0))
    chosen = chosen if arc.arg == 1 else tape.op("Not", chosen)
    return tape.unbroadcast(tape.masked(arc.grad, chosen, arc.y), arc.x, tape.dims(arc.y))


@rule("Cast", "CastLike")
def cast(tape: Tape, arc: Arc) -> ir.Value | None:
    """A condition as a number has derivative 0; a number as an integer has none."""
    if arc.arg == 1 or arc.x.dtype == ir.DataType.BOOL:
        return None
    if arc.y.dtype is None or not arc.y.dtype.is_floating_point():
        raise arc.refuse(f"it casts to {arc.y.dtype}", "only casts between float types have a derivative")
    return tape.op("Cast", arc.grad, to=int(tape.float_type(arc.x)))
