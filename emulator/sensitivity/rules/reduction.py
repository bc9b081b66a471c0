"""Reductions over axes."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from emulator.sensitivity.rules.local import Local
from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape
from emulator.sensitivity.rules.term import Term


def _axes(tape: Tape, arc: Arc) -> list[int]:
    """The axes that are reduced, none where the node does nothing."""
    rank = tape.rank(arc.x)
    given = [] if arc.optional(1) is None else tape.array(arc.optional(1), "reduction axes").ravel().tolist()
    if not given and arc.node.attributes.get_int("noop_with_empty_axes", 0) == 1:
        return []
    return [int(axis) % rank for axis in given] or list(range(rank))


def _kept(tape: Tape, arc: Arc, value: ir.Value) -> ir.Value:
    """A value in the shape of the output, with the reduced axes there as size 1."""
    axes = _axes(tape, arc)
    if arc.node.attributes.get_int("keepdims", 1) or not axes:
        return value
    return tape.op("Unsqueeze", value, tape.ints(*axes))


def _repeated(tape: Tape, arc: Arc, grad: ir.Value) -> ir.Value:
    """A gradient with reduced axes of size 1, repeated along them."""
    axes, dims = _axes(tape, arc), tape.dims(arc.x)
    if not all(isinstance(dims[axis], int) for axis in axes):
        return tape.op("Expand", grad, tape.shape(arc.x))
    repeats = [dim if axis in axes and isinstance(dim, int) else 1 for axis, dim in enumerate(dims)]
    return tape.op("Expand", grad, tape.ints(*repeats))


@rule("ReduceSum")
def reduce_sum(tape: Tape, arc: Arc) -> ir.Value:
    return _repeated(tape, arc, _kept(tape, arc, arc.grad))


@rule("ReduceMean")
def reduce_mean(tape: Tape, arc: Arc) -> ir.Value:
    dims = tape.dims(arc.x)
    sizes = [dims[axis] for axis in _axes(tape, arc)]
    fixed = [size for size in sizes if isinstance(size, int)]
    if len(fixed) != len(sizes):
        raise arc.refuse(f"a mean over a dynamic axis of {dims}", "only the batch may be dynamic")
    share = tape.op("Mul", _kept(tape, arc, arc.grad), tape.floats(1 / prod(fixed), arc.x))
    return _repeated(tape, arc, share)


@rule("ReduceMax", "ReduceMin")
def reduce_extreme(tape: Tape, arc: Arc) -> ir.Value:
    """Equal extremes share."""
    at, y = Local(tape=tape, arc=arc), _kept(tape, arc, tape.value(arc.y))
    chosen = at.term(tape.op("Cast", at.x.equals(at.term(y)), to=int(tape.float_type(arc.x))))
    axes = _axes(tape, arc)
    share = chosen / chosen.total(*axes) if axes else chosen
    return (share * at.term(_kept(tape, arc, arc.grad))).value


@rule("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
def reduce_norm(tape: Tape, arc: Arc) -> ir.Value:
    """d y / d x for each element; the two norms have 0 where they have a corner."""
    at = Local(tape=tape, arc=arc)
    y = at.term(_kept(tape, arc, tape.value(arc.y)))
    grad = at.term(_kept(tape, arc, arc.grad))
    if arc.node.op_type == "ReduceLogSum":
        return _repeated(tape, arc, (grad * (-y).op("Exp")).value)
    return (grad * _slope(arc.node.op_type, at.x, y)).value


def _slope(op_type: str, x: Term, y: Term) -> Term:
    if op_type == "ReduceL1":
        return x.op("Sign")
    if op_type == "ReduceL2":
        return (x / y).where(y.above(0), 0)
    return 2 * x if op_type == "ReduceSumSquare" else (x - y).op("Exp")


@rule("Softmax")
def softmax(tape: Tape, arc: Arc) -> ir.Value:
    at = Local(tape=tape, arc=arc)
    y, axis = at.y, arc.node.attributes.get_int("axis", -1)
    weighted = at.grad * y
    return (weighted - y * weighted.total(axis)).value


@rule("LogSoftmax")
def log_softmax(tape: Tape, arc: Arc) -> ir.Value:
    at = Local(tape=tape, arc=arc)
    total = at.grad.total(arc.node.attributes.get_int("axis", -1))
    return (at.grad - at.y.op("Exp") * total).value


@rule("CumSum")
def cumulative_sum(tape: Tape, arc: Arc) -> ir.Value:
    """The sum runs the other way."""
    attributes = arc.node.attributes
    return tape.op(
        "CumSum",
        arc.grad,
        tape.value(arc.input(1)),
        exclusive=attributes.get_int("exclusive", 0),
        reverse=1 - attributes.get_int("reverse", 0),
    )
