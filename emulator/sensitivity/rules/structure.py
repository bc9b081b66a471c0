"""Operators that move values about by a fixed pattern."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from emulator.sensitivity.rules.quantisation import constant_array
from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape


@rule("Identity")
def identity(tape: Tape, arc: Arc) -> ir.Value:
    return arc.grad


@rule("Dropout")
def dropout(tape: Tape, arc: Arc) -> ir.Value | None:
    """Nothing happens in inference, which is what a missing or false training_mode says."""
    training = arc.optional(2)
    if training is not None and (
        constant_array(training) is None or np.any(tape.array(training, "training_mode"))
    ):
        raise arc.refuse("it is in training mode", "export the model in inference mode")
    return arc.grad if arc.arg == 0 else None


@rule("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def reshape(tape: Tape, arc: Arc) -> ir.Value | None:
    return tape.reshape(arc.grad, arc.x) if arc.arg == 0 else None


@rule("Transpose")
def transpose(tape: Tape, arc: Arc) -> ir.Value:
    backwards = list(range(tape.rank(arc.x)))[::-1]
    order = list(arc.node.attributes.get_ints("perm") or backwards)
    return tape.op("Transpose", arc.grad, perm=[order.index(axis) for axis in range(len(order))])


@rule("Expand")
def expand(tape: Tape, arc: Arc) -> ir.Value | None:
    return tape.unbroadcast(arc.grad, arc.x, tape.dims(arc.y)) if arc.arg == 0 else None


@rule("Tile")
def tile(tape: Tape, arc: Arc) -> ir.Value | None:
    """Split every axis into (repeat, own) and add up the repeats."""
    if arc.arg != 0:
        return None
    repeats = [int(count) for count in tape.array(arc.input(1), "Tile repeats")]
    own = [dim if isinstance(dim, int) else -1 for dim in tape.dims(arc.x)]
    if own.count(-1) > 1:
        raise arc.refuse(f"shape {tape.dims(arc.x)}", "only the batch may be dynamic")
    split = [size for pair in zip(repeats, own, strict=True) for size in pair]
    apart = tape.op("Reshape", arc.grad, tape.ints(*split))
    axes = [2 * axis for axis, count in enumerate(repeats) if count != 1]
    total = tape.op("ReduceSum", apart, tape.ints(*axes), keepdims=1) if axes else apart
    return tape.reshape(total, arc.x)


@rule("Trilu")
def trilu(tape: Tape, arc: Arc) -> ir.Value:
    k = arc.optional(1)
    upper = arc.node.attributes.get_int("upper", 1)
    return tape.op("Trilu", arc.grad, *([] if k is None else [tape.value(k)]), upper=upper)


@rule("Concat")
def concat(tape: Tape, arc: Arc) -> ir.Value:
    axis = arc.node.attributes.get_int("axis") % tape.rank(arc.x)
    values = [value for value in arc.node.inputs if value is not None]
    start, stop = _part(tape, arc, values, axis, arc.arg)
    return tape.op("Slice", arc.grad, tape.ints(start), tape.ints(stop), tape.ints(axis))


@rule("Split")
def split(tape: Tape, arc: Arc) -> ir.Value | None:
    """The gradient of one part, zeros where the others are."""
    if arc.arg != 0:
        return None
    rank = tape.rank(arc.x)
    axis = arc.node.attributes.get_int("axis", 0) % rank
    start, stop = _part(tape, arc, arc.node.outputs, axis, arc.out)
    pads = np.zeros((2, rank), np.int64)
    pads[:, axis] = start, tape.fixed(arc.x, start=axis)[0] - stop
    return tape.op("Pad", arc.grad, tape.ints(*pads.ravel().tolist()))


def _part(tape: Tape, arc: Arc, values: Sequence[ir.Value], axis: int, index: int) -> tuple[int, int]:
    """Where value `index` begins and ends along an axis on which all lie one after the other."""
    sizes = [tape.dims(value)[axis] for value in values]
    if not all(isinstance(size, int) for size in sizes):
        raise arc.refuse(f"axis {axis} is dynamic, sizes {sizes}", "only the batch may be dynamic")
    edges = np.cumsum([0, *sizes])
    return int(edges[index]), int(edges[index + 1])


@rule("Pad")
def pad(tape: Tape, arc: Arc) -> ir.Value:
    """Negative pads crop what was added and give back zeros for what was cropped; copied edges add up."""
    if arc.arg != 0:
        raise arc.refuse(f"input {arc.arg} needs a gradient", "pad with a constant")
    rank, mode = tape.rank(arc.x), arc.node.attributes.get_string("mode", "constant")
    amounts = tape.array(arc.input(1), "pads").reshape(2, -1)
    axes = range(rank) if arc.optional(3) is None else tape.array(arc.optional(3), "pad axes").ravel()
    pads = np.zeros((2, rank), np.int64)
    pads[:, [int(axis) % rank for axis in axes]] = amounts
    if mode == "constant":
        return tape.op("Pad", arc.grad, tape.ints(*(-pads).ravel().tolist()))
    grad = arc.grad
    for axis in np.flatnonzero(pads.any(axis=0)).tolist():
        size = tape.dims(arc.x)[axis]
        if not isinstance(size, int):
            raise arc.refuse(f"it pads the dynamic axis {axis}", "only the batch may be dynamic")
        source = _padded(np.arange(size), int(pads[0, axis]), int(pads[1, axis]), mode)
        grad = tape.along(grad, arc.x, axis, (source[:, None] == np.arange(size)).astype(np.float64))
    return grad


def _padded(places: npt.NDArray[np.int64], begin: int, end: int, mode: str) -> npt.NDArray[np.int64]:
    """Which element every place of a padded axis holds."""
    kept = places[max(0, -begin) : len(places) - max(0, -end)]
    grown = (max(0, begin), max(0, end))
    if mode == "edge":
        return np.pad(kept, grown, mode="edge")
    return np.pad(kept, grown, mode="reflect" if mode == "reflect" else "wrap")


@rule("Slice")
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
        kept = np.arange(size)[start:end:step]
        grad = spread(tape, arc, grad, axis % len(dims), kept, size)
    return grad


def spread(
    tape: Tape, arc: Arc, grad: ir.Value, axis: int, kept: npt.NDArray[np.int64], size: int
) -> ir.Value:
    """Put the entries of `grad` back to the places `kept`, all different, of an axis of `size` elements, zeros
    elsewhere."""
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
