"""Operators that read or write where an index says. The index itself has no derivative."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from emulator.sensitivity.rules.quantisation import constant_array
from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.structure import spread
from emulator.sensitivity.rules.tape import Tape


@rule("Gather")
def gather(tape: Tape, arc: Arc) -> ir.Value | None:
    """Constant indices that are all different put the gradient back by a Pad or a Gather, others add it up."""
    if arc.arg != 0:
        return None
    rank, index = tape.rank(arc.x), arc.input(1)
    axis = arc.node.attributes.get_int("axis", 0) % rank
    size, constant = tape.dims(arc.x)[axis], constant_array(index)
    if isinstance(size, int) and constant is not None:
        places = constant.astype(np.int64).ravel() % size
        if len(np.unique(places)) == len(places):
            flat = _one_index_axis(tape, arc, axis, len(places))
            return spread(tape, arc, flat, axis, places, size)
    return _added_up(tape, arc, axis, tape.rank(index))


def _one_index_axis(tape: Tape, arc: Arc, axis: int, count: int) -> ir.Value:
    """The gradient with the axes of the index made one, so of the rank of x."""
    dims = [dim if isinstance(dim, int) else -1 for dim in tape.dims(arc.x)]
    dims[axis] = count
    if dims.count(-1) > 1:
        raise arc.refuse(f"shape {tape.dims(arc.x)}", "only the batch may be dynamic")
    return tape.op("Reshape", arc.grad, tape.ints(*dims))


def _added_up(tape: Tape, arc: Arc, axis: int, index_rank: int) -> ir.Value:
    """Scatter with the indexed axis in front."""
    rank = tape.rank(arc.x)
    front = [*range(axis, axis + index_rank), *range(axis), *range(axis + index_rank, rank - 1 + index_rank)]
    order = [axis, *range(axis), *range(axis + 1, rank)]
    zeros = tape.op("Transpose", tape.zeros(arc.x), perm=order)
    places = tape.op("Unsqueeze", tape.value(arc.input(1)), tape.ints(-1))
    grad = tape.op("Transpose", arc.grad, perm=front)
    total = tape.op("ScatterND", zeros, places, grad, reduction="add")
    return tape.op("Transpose", total, perm=[order.index(position) for position in range(rank)])


@rule("GatherElements")
def gather_elements(tape: Tape, arc: Arc) -> ir.Value | None:
    return _scattered(tape, arc, tape.value(arc.input(1)), 0) if arc.arg == 0 else None


@rule("TopK")
def top_k(tape: Tape, arc: Arc) -> ir.Value | None:
    if arc.arg != 0 or arc.out != 0:
        return None
    return _scattered(tape, arc, tape.value(arc.node.outputs[1]), -1)


def _scattered(tape: Tape, arc: Arc, index: ir.Value, default_axis: int) -> ir.Value:
    axis = arc.node.attributes.get_int("axis", default_axis)
    return tape.op("ScatterElements", tape.zeros(arc.x), index, arc.grad, axis=axis, reduction="add")


@rule("GatherND")
def gather_nd(tape: Tape, arc: Arc) -> ir.Value | None:
    if arc.arg != 0:
        return None
    if arc.node.attributes.get_int("batch_dims", 0):
        raise arc.refuse("batch_dims is not 0", "use GatherElements or indices that name the batch")
    return tape.op("ScatterND", tape.zeros(arc.x), tape.value(arc.input(1)), arc.grad, reduction="add")


@rule("ScatterElements", "ScatterND")
def scatter(tape: Tape, arc: Arc) -> ir.Value | None:
    """What is overwritten loses its gradient to what is written."""
    attributes = arc.node.attributes
    reduction = attributes.get_string("reduction", "none")
    if reduction not in ("none", "add"):
        raise arc.refuse(f"reduction {reduction!r}", "use 'none' or 'add'")
    if arc.arg == 1:
        return None
    elements = arc.node.op_type == "ScatterElements"
    axis = {"axis": attributes.get_int("axis", 0)} if elements else {}
    places = tape.value(arc.input(1))
    if arc.arg == 2:
        return tape.op("GatherElements" if elements else "GatherND", arc.grad, places, **axis)
    if reduction == "add":
        return arc.grad
    return tape.op(arc.node.op_type, arc.grad, places, tape.zeros(arc.input(2)), **axis)
