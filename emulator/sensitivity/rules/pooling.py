"""Pools and means."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape
from emulator.sensitivity.rules.windows import Windows, windows


@rule("MaxPool", on_integers=True)
def max_pool(tape: Tape, arc: Arc) -> ir.Value:
    """Every window's gradient goes to its first maximum, as ONNX Runtime's Indices name it.

    The pool is run again with Indices: asking the forward node for them could make it run another kernel.
    """
    attributes = {key: value.value for key, value in arc.node.attributes.items() if key != "storage_order"}
    indices = tape.op_many(2, "MaxPool", tape.value(arc.x), **attributes)[1]
    size = tape.op("ReduceProd", tape.shape(arc.x), keepdims=1)
    zeros = tape.op("Expand", tape.floats([0], arc.x), size)
    flat = tape.ints(-1)
    places, grad = tape.op("Reshape", indices, flat), tape.op("Reshape", arc.grad, flat)
    return tape.reshape(tape.op("ScatterElements", zeros, places, grad, axis=0, reduction="add"), arc.x)


@rule("AveragePool")
def average_pool(tape: Tape, arc: Arc) -> ir.Value:
    """A window is a product of intervals, so the adjoint is one matrix product per spatial axis."""
    attributes = arc.node.attributes
    if attributes.get_int("ceil_mode", 0):
        raise arc.refuse("ceil_mode=1", "export with ceil_mode=0 and explicit pads")
    view = windows(tape, arc, list(attributes.get_ints("kernel_shape") or []))
    if view.axes > 2:
        raise arc.refuse(f"{view.axes} spatial axes", "at most two are supported")
    count_pads = bool(attributes.get_int("count_include_pad", 0))
    grad = tape.op("MatMul", arc.grad, tape.floats(_averaging(view, view.axes - 1, count_pads), arc.x))
    if view.axes == 2:
        grad = tape.op("MatMul", tape.floats(_averaging(view, 0, count_pads).T, arc.x), grad)
    return grad


def _averaging(view: Windows, axis: int, count_pads: bool) -> npt.NDArray[np.float64]:
    """(size_out, size_in): the weight of every input element in every window along one axis."""
    window, tap = np.arange(view.size_out[axis])[:, None], np.arange(view.kernel[axis])
    reads = window * view.strides[axis] + tap * view.dilations[axis] - view.begin[axis]
    inside = (reads >= 0) & (reads < view.size_in[axis])
    weights = np.zeros((view.size_out[axis], view.size_in[axis]))
    np.add.at(weights, (np.broadcast_to(window, reads.shape)[inside], reads[inside]), 1.0)
    counted: npt.NDArray[np.int64] = (
        np.full(len(reads), view.kernel[axis]) if count_pads else inside.sum(axis=1)
    )
    return weights / counted[:, None]


@rule("GlobalAveragePool")
def global_average_pool(tape: Tape, arc: Arc) -> ir.Value:
    sizes = tape.fixed(arc.x, start=2)
    share = tape.op("Mul", arc.grad, tape.floats(1 / prod(sizes), arc.x))
    return tape.op("Expand", share, tape.ints(1, 1, *sizes))


@rule("ReduceMean")
def reduce_mean(tape: Tape, arc: Arc) -> ir.Value:
    attributes, dims = arc.node.attributes, tape.dims(arc.x)
    given = [] if arc.optional(1) is None else tape.array(arc.optional(1), "reduction axes").ravel().tolist()
    if not given and attributes.get_int("noop_with_empty_axes", 0) == 1:
        return arc.grad
    axes = [axis % len(dims) for axis in given] or list(range(len(dims)))
    sizes = [dim for axis in axes if isinstance(dim := dims[axis], int)]
    if len(sizes) != len(axes):
        raise arc.refuse(f"a mean over a dynamic axis of {dims}", "only the batch may be dynamic")
    grad = arc.grad if attributes.get_int("keepdims", 1) else tape.op("Unsqueeze", arc.grad, tape.ints(*axes))
    share = tape.op("Mul", grad, tape.floats(1 / prod(sizes), arc.x))
    repeats = [dim if axis in axes and isinstance(dim, int) else 1 for axis, dim in enumerate(dims)]
    return tape.op("Expand", share, tape.ints(*repeats))
