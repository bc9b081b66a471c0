"""Matrix products."""

from __future__ import annotations

import onnx_ir as ir

from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape


@rule("Gemm")
def gemm(tape: Tape, arc: Arc) -> ir.Value:
    """y = alpha * op(a) @ op(b) + beta * c"""
    attributes, grad = arc.node.attributes, arc.grad
    alpha, beta = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)
    flip_a, flip_b = attributes.get_int("transA", 0), attributes.get_int("transB", 0)
    if arc.arg == 2:
        scaled = grad if beta == 1 else tape.op("Mul", grad, tape.floats(beta, arc.y))
        return tape.unbroadcast(scaled, arc.x, tape.dims(arc.y))
    other = tape.value(arc.input(1 - arc.arg))
    if arc.arg == 0 and not flip_a:
        return tape.op("Gemm", grad, other, alpha=alpha, transB=1 - flip_b)
    if arc.arg == 0:
        return tape.op("Gemm", other, grad, alpha=alpha, transA=flip_b, transB=1)
    if not flip_b:
        return tape.op("Gemm", other, grad, alpha=alpha, transA=1 - flip_a)
    return tape.op("Gemm", grad, other, alpha=alpha, transA=1, transB=flip_a)


@rule("MatMul")
def matmul(tape: Tape, arc: Arc) -> ir.Value:
    other = arc.input(1 - arc.arg)
    if min(tape.rank(arc.x), tape.rank(other)) < 2:
        raise arc.refuse("an operand is a vector", "make it a matrix with one row or column")
    flipped = _transposed(tape, other)
    product = ("MatMul", arc.grad, flipped) if arc.arg == 0 else ("MatMul", flipped, arc.grad)
    batch = tape.dims(arc.y)[:-2]
    return tape.unbroadcast(tape.op(*product), arc.x, batch + tape.dims(arc.x)[-2:])


def _transposed(tape: Tape, value: ir.Value) -> ir.Value:
    rank = tape.rank(value)
    return tape.op("Transpose", tape.value(value), perm=[*range(rank - 2), rank - 1, rank - 2])
