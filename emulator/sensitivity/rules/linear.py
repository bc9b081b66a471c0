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
    """A vector on the left is a row, on the right a column."""
    ranks = [tape.rank(arc.input(index)) for index in (0, 1)]
    grad, batch = arc.grad, tape.dims(arc.y)
    for index, axis in ((1, -1), (0, -2)):
        if ranks[index] == 1:
            grad = tape.op("Unsqueeze", grad, tape.ints(axis))
            batch = [*batch, 1]
    flipped = _transposed(tape, arc.input(1 - arc.arg), vector=1 - arc.arg)
    product = tape.op("MatMul", *((grad, flipped) if arc.arg == 0 else (flipped, grad)))
    own = tape.dims(arc.x)
    if len(own) > 1:
        return tape.unbroadcast(product, arc.x, batch[:-2] + own[-2:])
    if len(batch) > 2:
        product = tape.op("ReduceSum", product, tape.ints(*range(len(batch) - 2)), keepdims=0)
    return tape.reshape(product, arc.x)


def _transposed(tape: Tape, operand: ir.Value, vector: int) -> ir.Value:
    """The other operand with its last two axes exchanged; a vector is a column (0) or a row (1) then."""
    rank, value = tape.rank(operand), tape.value(operand)
    if rank == 1:
        return tape.op("Unsqueeze", value, tape.ints(1 - vector))
    return tape.op("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])


@rule("Einsum")
def einsum(tape: Tape, arc: Arc) -> ir.Value:
    """The equation solved for one operand; what only that one sums over is repeated."""
    equation = arc.node.attributes.get_string("equation").replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = sorted(set(left) - {","})
        result = "".join(letter for letter in letters if left.count(letter) == 1)
    own = terms[arc.arg]
    if "." in equation or len(set(own)) < len(own):
        raise arc.refuse(f"equation {equation!r}", "write it without '...' and without diagonals")
    others = [
        (term, value)
        for i, (term, value) in enumerate(zip(terms, arc.node.inputs, strict=True))
        if i != arc.arg
    ]
    known = set(result).union(*(term for term, _ in others))
    found = "".join(letter for letter in own if letter in known)
    solved = ",".join([result, *(term for term, _ in others)]) + "->" + found
    values = [tape.value(value) for _, value in others if value is not None]
    grad = tape.op("Einsum", arc.grad, *values, equation=solved)
    missing = [axis for axis, letter in enumerate(own) if letter not in known]
    if missing:
        grad = tape.op("Expand", tape.op("Unsqueeze", grad, tape.ints(*missing)), tape.shape(arc.x))
    return grad
