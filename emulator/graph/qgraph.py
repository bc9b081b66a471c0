"""The frozen integer network: int8 tensors, the operators between them, and the segments ONNX Runtime runs itself.

Every int8 or uint8 value an operator of ours reads or writes is a QTensor, stored as signed int8 (uint8 minus 128), so
that operators, tables and the array see one type. Any other value, of any type, is a *host value*, known by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from emulator.gemm import GemmShape, Requantisation

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]

# One input of a network: its arrays by name, or the only one, each without the batch dimension.
Sample = npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class QTensor:
    """One int8 tensor of one inference. shape: the ONNX shape at batch 1; real = (stored - zero_point) * scale.

    channels_last: stored with axis 1 moved to the end. constant: (size,) stored values that no operator writes.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    offset: int
    channels_last: bool = False
    constant: Int8 | None = field(default=None, repr=False, compare=False)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def to_storage(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """(batch, *shape) in ONNX order to (batch, size) in storage order; only moves values."""
        moved = np.moveaxis(values, 2, -1) if self.channels_last else values
        return np.ascontiguousarray(moved).reshape(len(values), -1)

    def in_order(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(batch, size) stored to (batch, *shape) in ONNX order, values as they are."""
        if not self.channels_last:
            return stored.reshape(len(stored), *self.shape)
        n, c, *spatial = self.shape
        return np.moveaxis(stored.reshape(len(stored), n, *spatial, c), -1, 2)

    def to_onnx(self, stored: Int8) -> npt.NDArray[np.int8 | np.uint8]:
        """(batch, size) stored to (batch, *shape) in ONNX order and type."""
        values = self.in_order(stored)
        if self.offset:
            return (values.astype(np.int16) + self.offset).astype(np.uint8)
        return values

    def from_onnx(self, values: npt.NDArray[Any]) -> Int8:
        """An int8 or uint8 value of ONNX Runtime, of this shape, as it is stored: (size,)."""
        stored: npt.NDArray[Any] = self.to_storage(values[np.newaxis])[0]
        # The offset is 128: adding it to a byte or taking it away is the same.
        signed: Int8 = (
            (stored ^ np.uint8(128)).view(np.int8) if self.offset else stored.astype(np.int8, copy=False)
        )
        return signed

    def real(self, stored: Int8) -> npt.NDArray[np.float32]:
        """Dequantised values, the same shape, as DequantizeLinear computes them."""
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """An input of the network. shape: at batch 1; a leading 1 is the batch, which samples leave out."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self.shape[1:] if self.shape[:1] == (1,) else self.shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MacLayer:
    """Conv, Gemm or MatMul as `groups` matrix products (m, k) x (k, n); what runs on the array.

    source, right, target: a tensor index, or the name of a host value (8- or 16-bit integers in, the int32
    accumulators out). taps (m, t) int32: the source pixel, `channels` values long, that an output pixel meets at each
    tap, -1 where there is padding, which streams the zero point; k = tap * channels a group + channel (indirect
    convolution: Dukhan, arXiv 1907.02129). taps None: source and right are stacks of matrices.

    weight (groups, k, n) int8, None where `right` is computed; act_bits: of streamed values, 8 or 16. It computes
    bias + sum of (streamed value - zero_point) * (weight - weight_zero_point), modulo 2^32.
    bias (groups, n). zero_point, weight_zero_point (groups, n): as stored, or the name of the host value that holds
    them, not yet offset. batch: of the stacks, `groups` in all. requantisation: None where the accumulators are the
    result. target_shape: the ONNX shape of the result.
    """

    name: str
    op: str
    source: int | str
    right: int | str | None
    target: int | str
    target_shape: tuple[int, ...]
    channels: int
    taps: Int32 | None = field(repr=False)
    batch: tuple[int, ...]
    shape: GemmShape
    weight: Int8 | None = field(repr=False)
    act_bits: int
    zero_point: int | str
    weight_zero_point: Int32 | str = field(repr=False)
    bias: Int32 = field(repr=False)
    requantisation: Requantisation | None = field(repr=False)

    @property
    def compiled(self) -> bool:
        """Do the kernels run it? They take int8 tensors, constant weights and zero points, requantised results."""
        operands = isinstance(self.source, int) and self.weight is not None and self.taps is not None
        known = isinstance(self.zero_point, int) and not isinstance(self.weight_zero_point, str)
        return operands and known and self.requantisation is not None

    @property
    def columns(self) -> int:
        """Columns of the accumulator matrix: groups * n."""
        return self.shape.groups * self.shape.n


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableOp:
    """Any unary operator between int8 tensors. table (256,) int8, indexed by stored value + 128; or (channels, 256), a
    table a channel, where channels are stored last."""

    name: str
    source: int
    target: int
    table: Int8 = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairTableOp:
    """Any binary operator between int8 tensors of one shape. table (65536,), index (a + 128) * 256 + b + 128."""

    name: str
    source: int
    right: int
    target: int
    table: Int8 = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MoveOp:
    """Anything that only moves values. place (count,) int32: stored target indices; origin (count,) int32: the stored
    source index of each, or -1 for `fill`. Several of these fill the target of a Concat."""

    name: str
    source: int
    target: int
    place: Int32 = field(repr=False)
    origin: Int32 = field(repr=False)
    fill: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaxPoolOp:
    """Maximum over the taps of each pixel (see MacLayer), channel by channel; padding never wins."""

    name: str
    source: int
    target: int
    channels: int
    taps: Int32 = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AveragePoolOp:
    """Windowed mean as ONNX Runtime's QLinearAveragePool computes it: float32 sum of real values in window order,
    divided by the count, divided by the output scale, plus zero point, rounded half to even."""

    name: str
    source: int
    target: int
    channels: int
    taps: Int32 = field(repr=False)
    count_include_pad: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GlobalAveragePoolOp:
    """Integer sum over all positions of a channel, requantised once (QLinearGlobalAveragePool)."""

    name: str
    source: int
    target: int
    positions: int
    channels: int
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostOp:
    """Nodes that ONNX Runtime runs itself, cut out of the reference. inputs, outputs: names of tensors or host
    values; nodes: their operator types, for people."""

    name: str
    model: onnx.ModelProto = field(repr=False)
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]


ElementOp = TableOp | PairTableOp | MoveOp | MaxPoolOp | AveragePoolOp | GlobalAveragePoolOp
Op = MacLayer | ElementOp | HostOp


def readers_of(ops: Iterable[Op], tensors: Sequence[QTensor]) -> dict[int, list[Op]]:
    """By tensor index: the operators that read it, host segments among them."""
    index = {tensor.name: i for i, tensor in enumerate(tensors)}
    found: dict[int, list[Op]] = {}
    for op in ops:
        read = (
            [op.source, getattr(op, "right", None)]
            if not isinstance(op, HostOp)
            else map(index.get, op.inputs)
        )
        for tensor in {each for each in read if isinstance(each, int)}:
            found.setdefault(tensor, []).append(op)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantGraph:
    """The network: inputs, tensors, operators in execution order, and the answer, a tensor index or the name of a
    host value of `classes` elements. float_macs: nodes whose multiplications are not on the array, and why."""

    name: str
    inputs: tuple[InputSpec, ...]
    output_name: str
    output: int | str
    classes: int
    tensors: tuple[QTensor, ...]
    ops: tuple[Op, ...] = field(repr=False)
    float_macs: tuple[str, ...] = ()

    @cached_property
    def layers(self) -> tuple[MacLayer, ...]:
        """The MAC layers, in execution order; a fault's `layer` is an index into them."""
        return tuple(op for op in self.ops if isinstance(op, MacLayer))

    @cached_property
    def index(self) -> dict[str, int]:
        """Tensor name to index."""
        return {tensor.name: i for i, tensor in enumerate(self.tensors)}

    @cached_property
    def readers(self) -> dict[int, list[Op]]:
        """By tensor index, see `readers_of`."""
        return readers_of(self.ops, self.tensors)

    @property
    def macs(self) -> int:
        return sum(layer.shape.macs for layer in self.layers)

    @property
    def answer(self) -> QTensor | None:
        """The tensor of the answer, None where it is a host value."""
        return self.tensors[self.output] if isinstance(self.output, int) else None

    def feeds(self, sample: Sample) -> dict[str, npt.NDArray[Any]]:
        """Every input by name, in the model's shape."""
        arrays = sample if isinstance(sample, Mapping) else {self.inputs[0].name: sample}
        return {spec.name: np.asarray(arrays[spec.name]).reshape(spec.shape) for spec in self.inputs}
