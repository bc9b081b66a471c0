"""The frozen integer network: int8 tensors, and the operators between them.

Every tensor is stored as signed int8; a uint8 tensor is stored minus 128 (`offset`), so that operators, tables
and the array see one type. Rank-4 tensors are stored channels last; `to_onnx` gives the ONNX view back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emulator.gemm import GemmShape, Requantisation

Int8 = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class QTensor:
    """One int8 tensor of one inference. shape: the ONNX shape with batch 1; real = (stored - zero_point) * scale."""

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    offset: int

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def channels_last(self) -> bool:
        return len(self.shape) == 4

    def to_storage(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """(batch, ...) in ONNX order to (batch, size) in storage order; only moves values."""
        moved = np.moveaxis(values, 1, -1) if self.channels_last else values
        return np.ascontiguousarray(moved).reshape(len(values), -1)

    def to_onnx(self, stored: Int8) -> npt.NDArray[np.int8 | np.uint8]:
        """(batch, size) stored to (batch, ...) in ONNX order and type."""
        shape = self.shape
        if self.channels_last:
            last = (len(stored), shape[2], shape[3], shape[1])
            values = np.moveaxis(stored.reshape(last), -1, 1)
        else:
            values = stored.reshape(len(stored), *shape[1:])
        if self.offset:
            return (values.astype(np.int16) + self.offset).astype(np.uint8)
        return values

    def real(self, stored: Int8) -> npt.NDArray[np.float32]:
        """Dequantised values, the same shape, as DequantizeLinear computes them."""
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A sliding window over a channels-last image; a fully connected layer is a 1x1 window over its rows."""

    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad_top: int = 0
    pad_left: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MacLayer:
    """Conv, Gemm or MatMul as `groups` matrix products; what runs on the array.

    weight (groups, k, n) int8, k index (kh * KW + kw) * channels_per_group + c; bias (groups, n) int32 with the
    input's zero point folded in, so that accumulator = bias + sum of (streamed value * weight); padding streams
    the zero point.
    """

    name: str
    op: str
    source: int
    target: int
    window: Window
    shape: GemmShape
    weight: Int8 = field(repr=False)
    bias: npt.NDArray[np.int32] = field(repr=False)
    requantisation: Requantisation = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableOp:
    """Any unary operator between int8 tensors. table (256,) int8, indexed by stored value + 128."""

    name: str
    source: int
    target: int
    table: Int8 = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairTableOp:
    """Any binary operator between int8 tensors of one shape. table (65536,), index (a + 128) * 256 + b + 128."""

    name: str
    left: int
    right: int
    target: int
    table: Int8 = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MoveOp:
    """Anything that only moves values. origin (target size,) int32: stored source index, or -1 for `fill`."""

    name: str
    source: int
    target: int
    origin: npt.NDArray[np.int32] = field(repr=False)
    fill: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaxPoolOp:
    """Maximum over a window; padding never wins."""

    name: str
    source: int
    target: int
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AveragePoolOp:
    """Windowed mean as ONNX Runtime's QLinearAveragePool computes it: float32 sum of real values in window order,
    divided by the count, divided by the output scale, plus zero point, rounded half to even."""

    name: str
    source: int
    target: int
    window: Window
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


Op = MacLayer | TableOp | PairTableOp | MoveOp | MaxPoolOp | AveragePoolOp | GlobalAveragePoolOp


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantGraph:
    """The network: tensors, operators in execution order, the float input's tensor and the answer's tensor."""

    name: str
    input_name: str
    input: int
    output_name: str
    output: int
    tensors: tuple[QTensor, ...]
    ops: tuple[Op, ...] = field(repr=False)

    @property
    def layers(self) -> tuple[MacLayer, ...]:
        """The MAC layers, in execution order; a fault's `layer` is an index into them."""
        return tuple(op for op in self.ops if isinstance(op, MacLayer))

    @property
    def macs(self) -> int:
        return sum(layer.shape.macs for layer in self.layers)

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.tensors[self.output].size

    def quantise_input(self, values: npt.NDArray[np.float32]) -> Int8:
        """(batch, ...) float32 to (batch, size) stored int8: QuantizeLinear, round half to even, saturating."""
        tensor = self.tensors[self.input]
        scaled = np.rint(values / np.float32(tensor.scale)) + tensor.zero_point
        stored = tensor.to_storage(np.clip(scaled, -128, 127).astype(np.int8))
        return stored.astype(np.int8, copy=False)
