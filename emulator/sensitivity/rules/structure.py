"""Operators that move values about: they hold on quantised tensors as well."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape


@rule("Identity", on_integers=True)
def identity(tape: Tape, arc: Arc) -> ir.Value:
    return arc.grad


@rule("Flatten", "Reshape", "Squeeze", "Unsqueeze", on_integers=True)
def reshape(tape: Tape, arc: Arc) -> ir.Value | None:
    return tape.reshape(arc.grad, arc.x) if arc.arg == 0 else None


@rule("Transpose", on_integers=True)
def transpose(tape: Tape, arc: Arc) -> ir.Value:
    backwards = list(range(tape.rank(arc.x)))[::-1]
    order = list(arc.node.attributes.get_ints("perm") or backwards)
    return tape.op("Transpose", arc.grad, perm=[order.index(axis) for axis in range(len(order))])


@rule("Concat", on_integers=True)
def concat(tape: Tape, arc: Arc) -> ir.Value:
    axis = arc.node.attributes.get_int("axis") % tape.rank(arc.x)
    sizes = [tape.dims(value)[axis] for value in arc.node.inputs if value is not None]
    if not all(isinstance(size, int) for size in sizes):
        raise arc.refuse(f"axis {axis} is dynamic, sizes {sizes}", "only the batch may be dynamic")
    edges = np.cumsum([0, *sizes])
    start, stop = int(edges[arc.arg]), int(edges[arc.arg + 1])
    return tape.op("Slice", arc.grad, tape.ints(start), tape.ints(stop), tape.ints(axis))


@rule("Pad", on_integers=True)
def pad(tape: Tape, arc: Arc) -> ir.Value:
    """Negative pads crop what was added and give back zeros for what was cropped."""
    mode = arc.node.attributes.get_string("mode", "constant")
    if mode != "constant" or arc.arg != 0:
        raise arc.refuse(f"mode {mode!r}, input {arc.arg}", "use constant padding with a constant value")
    rank = tape.rank(arc.x)
    amounts = tape.array(arc.input(1), "pads").reshape(2, -1)
    axes = range(rank) if arc.optional(3) is None else tape.array(arc.optional(3), "pad axes").ravel()
    inverse = np.zeros((2, rank), np.int64)
    inverse[:, [int(axis) % rank for axis in axes]] = -amounts.astype(np.int64)
    return tape.op("Pad", arc.grad, tape.ints(*inverse.ravel().tolist()))


@rule("Slice", on_integers=True)
def slice_(tape: Tape, arc: Arc) -> ir.Value:
    if arc.arg != 0:
        raise arc.refuse("a bound needs a gradient", "use constant bounds")
    dims, names = tape.dims(arc.x), ("starts", "ends", "axes", "steps")
    given = [arc.optional(index) for index in range(1, 5)]
    count = len(tape.array(given[0], "Slice starts"))
    default = {"axes": list(range(count)), "steps": [1] * count}
    starts, ends, axes, steps = (
        default[name] if value is None and name in default else tape.array(value, f"Slice {name}").tolist()
        for name, value in zip(names, given, strict=True)
    )
    grad = arc.grad
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = dims[axis]
        if (start, step) == (0, 1) and end >= (size if isinstance(size, int) else 2**31 - 1):
            continue
        if not isinstance(size, int):
            raise arc.refuse(f"it cuts the dynamic axis {axis} of {dims}", "only the batch may be dynamic")
        grad = _spread(tape, arc, grad, axis % len(dims), np.arange(size)[start:end:step], size)
    return grad


def _spread(
    tape: Tape,
    arc: Arc,
    grad: ir.Value,
    axis: int,
    kept: np.ndarray[tuple[int], np.dtype[np.int64]],
    size: int,
) -> ir.Value:
    """Put the entries of `grad` back to the places `kept` of an axis of `size` elements, zeros elsewhere."""
    rank = tape.rank(arc.x)
    pads = np.zeros((2, rank), np.int64)
    if len(kept) and (np.diff(kept) == 1).all():
        pads[:, axis] = kept[0], size - 1 - kept[-1]
        return tape.op("Pad", grad, tape.ints(*pads.ravel().tolist()))
    pads[1, axis] = 1  # the places that were skipped read one appended row of zeros
    source = np.full(size, len(kept))
    source[kept] = np.arange(len(kept))
    return tape.op(
        "Gather", tape.op("Pad", grad, tape.ints(*pads.ravel().tolist())), tape.constant(source), axis=axis
    )
