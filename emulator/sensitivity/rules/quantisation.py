"""Scales, zero points and ranges, read from QuantizeLinear and DequantizeLinear nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from emulator.errors import UnsupportedModel
from emulator.sensitivity.rules.registry import describe, has_body

Floats = npt.NDArray[np.float32]

_BITS = {
    ir.DataType.INT4: 4,
    ir.DataType.UINT4: 4,
    ir.DataType.INT8: 8,
    ir.DataType.UINT8: 8,
    ir.DataType.INT16: 16,
    ir.DataType.UINT16: 16,
    ir.DataType.INT32: 32,
}

# Operators whose results are values they were given, by the inputs these come from (None: from all of them).
SELECTING: dict[str, tuple[int, ...] | None] = {
    "Clip": (0, 1, 2), "Concat": None, "DepthToSpace": (0,), "Expand": (0,), "Flatten": (0,), "Gather": (0,),
    "GatherElements": (0,), "GatherND": (0,), "GlobalMaxPool": (0,), "Identity": (0,), "Max": None, "MaxPool": (0,),
    "Min": None, "Pad": (0, 2), "ReduceMax": (0,), "ReduceMin": (0,), "Relu": (0,), "Reshape": (0,), "Resize": (0,),
    "ScatterElements": (0, 2), "ScatterND": (0, 2), "Slice": (0,), "SpaceToDepth": (0,), "Split": (0,),
    "Squeeze": (0,), "Tile": (0,), "TopK": (0,), "Transpose": (0,), "Unsqueeze": (0,), "Where": (1, 2),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantisation:
    """real = (integer - zero_point) * scale, with `low` <= integer <= `high`.

    scale and zero_point are float32, scalars or shaped to broadcast along the channel axis of the tensor. With a
    zero point that is computed at run time, `integer` counts from it, so that zero_point is 0, and nothing clips.
    """

    scale: Floats
    zero_point: Floats
    low: int
    high: int
    computed_zero_point: ir.Value | None = None

    @property
    def real_bounds(self) -> tuple[Floats, Floats]:
        """The smallest and the largest real value there is."""
        return (self.low - self.zero_point) * self.scale, (self.high - self.zero_point) * self.scale

    def same_grid(self, other: Quantisation) -> bool:
        """Whether an integer means the same real value in both."""
        return (
            np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and self.computed_zero_point is other.computed_zero_point
        )

    def holds(self, reals: npt.NDArray[np.generic]) -> bool:
        """Whether constants are values an integer can have."""
        if self.scale.size > 1:
            return False
        codes = reals.astype(np.float64) / self.scale + self.zero_point
        whole = np.abs(codes - np.rint(codes)) < 1e-3
        return bool((whole & (codes > self.low - 0.5) & (codes < self.high + 0.5)).all())


def constant_array(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The content of an initializer, None for anything computed or given at run time."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def quantisation(node: ir.Node) -> Quantisation:
    """What a QuantizeLinear or DequantizeLinear says; raises UnsupportedModel for a form not covered."""
    integers = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    tensor = node.inputs[0]
    if tensor is not None and tensor.shape is None:
        raise UnsupportedModel(
            f"{describe(node)}: shape inference finds no rank for {tensor.name!r}{_behind(tensor)}; "
            "export the model with static shapes and without control flow"
        )
    if integers is None or integers.dtype not in _BITS or tensor is None:
        maker = integers.producer() if integers is not None else None
        source = "" if maker is None or maker is node else f", made by {describe(maker)}"
        raise UnsupportedModel(
            f"{describe(node)}: its integer tensor has type {getattr(integers, 'dtype', None)}{source}; "
            "use int4, int8 or int16 in QDQ form (QuantizeLinear and DequantizeLinear around float operators)"
        )
    scale, given = constant_array(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None:
        raise UnsupportedModel(f"{describe(node)} computes its scale at run time; quantise statically")
    zero_point = None if given is None else constant_array(given)
    computed = given is not None and zero_point is None
    zero_point = np.zeros_like(scale) if zero_point is None else zero_point
    low, high = _range(integers.dtype, around_zero=computed)
    return Quantisation(
        scale=_shaped(np.asarray(scale, np.float32), node, tensor),
        zero_point=_shaped(np.asarray(zero_point, np.float32), node, tensor),
        low=low,
        high=high,
        computed_zero_point=given if computed else None,
    )


def _behind(value: ir.Value) -> str:
    """The If, Loop or Scan a value comes from, in words."""
    seen = [value]
    for each in seen:
        node = each.producer()
        if node is not None and has_body(node):
            return f", which comes from {describe(node)}"
        if node is not None:
            seen += [source for source in node.inputs if source is not None and source not in seen]
    return ""


def _shaped(array: Floats, node: ir.Node, tensor: ir.Value) -> Floats:
    """One value for all, one along an axis, or one a block, to broadcast against the tensor."""
    assert tensor.shape is not None
    if array.size == 1:
        return array.reshape(())
    axis, block = node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0)
    if not block:
        along = [1] * len(tensor.shape)
        along[axis] = -1
        return array.reshape(along)
    size = tensor.shape[axis]
    if not isinstance(size, int):
        raise UnsupportedModel(f"{describe(node)} works in blocks along a dynamic axis; fix its size")
    return np.take(np.repeat(array, block, axis), np.arange(size), axis)


def lies_on(grid: Quantisation, value: ir.Value | None) -> bool:
    """Whether a real value was taken from integers of this very grid, so that quantising it changes nothing."""
    constant = constant_array(value)
    if constant is not None:
        return grid.holds(constant)
    node = value.producer() if value is not None else None
    if node is None:
        return False
    if node.op_type == "DequantizeLinear":
        source = quantisation(node)
        return grid.same_grid(source) and (grid.low, grid.high) == (source.low, source.high)
    if grid.scale.size > 1 or not selects(node):
        return False
    return all(lies_on(grid, taken) for taken in taken_from(node))


def selects(node: ir.Node) -> bool:
    """Whether every result of the node is a value it was given (or 0)."""
    nearest = node.op_type != "Resize" or node.attributes.get_string("mode", "nearest") == "nearest"
    return node.op_type in SELECTING and node.domain in ("", "ai.onnx") and nearest


def taken_from(node: ir.Node) -> list[ir.Value]:
    """The inputs whose values a selecting node returns."""
    wanted = SELECTING[node.op_type]
    chosen = node.inputs if wanted is None else [node.inputs[i] for i in wanted if i < len(node.inputs)]
    return [value for value in chosen if value is not None]


def _range(dtype: ir.DataType, *, around_zero: bool) -> tuple[int, int]:
    bits = _BITS[dtype]
    if around_zero:
        return -(2**bits), 2**bits
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.is_signed() else (0, 2**bits - 1)
