"""Pools over windows, and over all of the spatial axes."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from emulator.graph.rewriting import attributes_of
from emulator.sensitivity.rules.local import Local
from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape
from emulator.sensitivity.rules.windows import Windows, windows

Weights = npt.NDArray[np.float64]


@rule("MaxPool")
def max_pool(tape: Tape, arc: Arc) -> ir.Value:
    """Every window's gradient goes to its first maximum, as ONNX Runtime's Indices name it.

    The pool is run again with Indices: asking the forward node for them could make it run another kernel.
    """
    attributes = {key: value for key, value in attributes_of(arc.node).items() if key != "storage_order"}
    indices = tape.op_many(2, "MaxPool", tape.value(arc.x), **attributes)[1]
    size = tape.op("ReduceProd", tape.shape(arc.x), keepdims=1)
    zeros = tape.op("Expand", tape.floats([0], arc.x), size)
    flat = tape.ints(-1)
    places, grad = tape.op("Reshape", indices, flat), tape.op("Reshape", arc.grad, flat)
    return tape.reshape(tape.op("ScatterElements", zeros, places, grad, axis=0, reduction="add"), arc.x)


@rule("AveragePool")
def average_pool(tape: Tape, arc: Arc) -> ir.Value:
    """A window is a product of intervals, so the adjoint is one matrix product per spatial axis."""
    view = _view(tape, arc)
    count_pads = bool(arc.node.attributes.get_int("count_include_pad", 0))
    shares = [_reads(view, axis) / _counted(view, axis, count_pads)[:, None] for axis in range(view.axes)]
    return _given_back(tape, arc, arc.grad, shares)


@rule("LpPool")
def lp_pool(tape: Tape, arc: Arc) -> ir.Value:
    """y = (sum of |x| ** p) ** (1 / p); 0 where y is."""
    at, view, p = Local(tape=tape, arc=arc), _view(tape, arc), arc.node.attributes.get_int("p", 2)
    y = at.y
    above = (at.grad * y.op("Pow", 1 - p)).where(y.above(0), 0)
    spread = _given_back(tape, arc, above.value, [_reads(view, axis) for axis in range(view.axes)])
    x = at.x
    return (at.term(spread) * x.op("Sign") * x.op("Abs").op("Pow", p - 1)).value


def _view(tape: Tape, arc: Arc) -> Windows:
    return windows(tape, arc, list(arc.node.attributes.get_ints("kernel_shape") or []))


def _given_back(tape: Tape, arc: Arc, grad: ir.Value, weights: list[Weights]) -> ir.Value:
    """weights: (size_out, size_in) for each spatial axis; the last axis first, as that needs no turning."""
    for axis in reversed(range(len(weights))):
        grad = tape.along(grad, arc.x, 2 + axis, weights[axis])
    return grad


def _places(view: Windows, axis: int) -> npt.NDArray[np.int64]:
    """(size_out, kernel) where each window reads along one axis."""
    window, tap = np.arange(view.size_out[axis])[:, None], np.arange(view.kernel[axis])
    places: npt.NDArray[np.int64] = (
        window * view.strides[axis] + tap * view.dilations[axis] - view.begin[axis]
    )
    return places


def _reads(view: Windows, axis: int) -> Weights:
    """(size_out, size_in): how often every window reads every element along one axis."""
    places = _places(view, axis)
    inside = (places >= 0) & (places < view.size_in[axis])
    reads = np.zeros((view.size_out[axis], view.size_in[axis]))
    window = np.broadcast_to(np.arange(len(places))[:, None], places.shape)
    np.add.at(reads, (window[inside], places[inside]), 1.0)
    return reads


def _counted(view: Windows, axis: int, count_pads: bool) -> npt.NDArray[np.int64]:
    """(size_out,) by how much every window divides; what it reads past the padding never counts."""
    places = _places(view, axis)
    low, high = (
        (-view.begin[axis], view.size_in[axis] + view.end[axis]) if count_pads else (0, view.size_in[axis])
    )
    counted: npt.NDArray[np.int64] = ((places >= low) & (places < high)).sum(axis=1)
    return counted


@rule("GlobalAveragePool")
def global_average_pool(tape: Tape, arc: Arc) -> ir.Value:
    sizes = tape.fixed(arc.x, start=2)
    share = tape.op("Mul", arc.grad, tape.floats(1 / prod(sizes), arc.x))
    return tape.op("Expand", share, tape.ints(1, 1, *sizes))


@rule("GlobalMaxPool")
def global_max_pool(tape: Tape, arc: Arc) -> ir.Value:
    """Equal maxima share."""
    at = Local(tape=tape, arc=arc)
    chosen = at.term(tape.op("Cast", at.x.equals(at.y), to=int(tape.float_type(arc.x))))
    return (at.grad * chosen / chosen.total(*range(2, tape.rank(arc.x)))).value
