"""Scales, zero points and ranges, read from QuantizeLinear and DequantizeLinear nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from emulator.errors import UnsupportedModel
from emulator.sensitivity.rules.registry import describe

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantisation:
    """real = (integer - zero_point) * scale, with `low` <= integer <= `high`.

    scale and zero_point are float32, scalars or shaped to broadcast along the channel axis of the tensor.
    """

    scale: Floats
    zero_point: Floats
    low: int
    high: int

    @property
    def real_bounds(self) -> tuple[Floats, Floats]:
        """The smallest and the largest real value there is."""
        return (self.low - self.zero_point) * self.scale, (self.high - self.zero_point) * self.scale

    def same_grid(self, other: Quantisation) -> bool:
        """Whether an integer means the same real value in both."""
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.zero_point, other.zero_point)


def constant_array(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The content of an initializer, None for anything computed or given at run time."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def quantisation(node: ir.Node) -> Quantisation:
    """What a QuantizeLinear or DequantizeLinear says; raises UnsupportedModel for a form not covered."""
    integers = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    tensor = node.inputs[0]
    if integers is None or integers.dtype not in _BITS or tensor is None or tensor.shape is None:
        maker = integers.producer() if integers is not None else None
        source = "" if maker is None or maker is node else f", made by {describe(maker)}"
        raise UnsupportedModel(
            f"{describe(node)}: its integer tensor has type {getattr(integers, 'dtype', None)}{source}; "
            "use int4, int8 or int16 in QDQ form (QuantizeLinear and DequantizeLinear around float operators)"
        )
    if node.attributes.get_int("block_size", 0):
        raise UnsupportedModel(f"{describe(node)} works in blocks; quantise per tensor or per channel")
    scale = _constant(node, 1)
    zero_point = _constant(node, 2) if len(node.inputs) > 2 and node.inputs[2] is not None else scale * 0
    along = [1] * len(tensor.shape) if scale.size > 1 else []
    if along:
        along[node.attributes.get_int("axis", 1)] = -1
    low, high = _range(integers.dtype)
    return Quantisation(scale=scale.reshape(along), zero_point=zero_point.reshape(along), low=low, high=high)


def _constant(node: ir.Node, index: int) -> Floats:
    array = constant_array(node.inputs[index])
    if array is None:
        raise UnsupportedModel(
            f"{describe(node)} computes input {index} at run time; quantise statically, with constant scales"
        )
    return np.asarray(array, np.float32)


def _range(dtype: ir.DataType) -> tuple[int, int]:
    bits = _BITS[dtype]
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype.is_signed() else (0, 2**bits - 1)
