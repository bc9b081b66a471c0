"""Elementwise arithmetic with broadcasting, and conversions between float types."""

from __future__ import annotations

import onnx_ir as ir

from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape


@rule("Add")
def add(tape: Tape, arc: Arc) -> ir.Value:
    return tape.unbroadcast(arc.grad, arc.x, tape.dims(arc.y))


@rule("Sub")
def sub(tape: Tape, arc: Arc) -> ir.Value:
    grad = tape.unbroadcast(arc.grad, arc.x, tape.dims(arc.y))
    return grad if arc.arg == 0 else tape.op("Neg", grad)


@rule("Mul")
def mul(tape: Tape, arc: Arc) -> ir.Value:
    other = tape.value(arc.input(1 - arc.arg))
    return tape.unbroadcast(tape.op("Mul", arc.grad, other), arc.x, tape.dims(arc.y))


@rule("Cast")
def cast(tape: Tape, arc: Arc) -> ir.Value:
    if arc.y.dtype is None or not arc.y.dtype.is_floating_point():
        raise arc.refuse(f"it casts to {arc.y.dtype}", "only casts between float types have a derivative")
    return tape.op("Cast", arc.grad, to=int(tape.float_type(arc.x)))
