"""The integer graph flattened for kernels: one row of numbers an operator, pools of constants.

A tensor's values lie at tensor_start[t] in a value pool, a MAC layer's accumulators at Col.ACC_START in an
accumulator pool; one inference is one value pool and one accumulator pool.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from emulator.graph.qgraph import (
    AveragePoolOp,
    GlobalAveragePoolOp,
    MacLayer,
    MaxPoolOp,
    MoveOp,
    Op,
    PairTableOp,
    QuantGraph,
    TableOp,
    Window,
)

Scalar = TypeVar("Scalar", bound=np.generic)


class Kind(IntEnum):
    """What an operator row means."""

    MAC = 0
    TABLE = 1
    PAIR_TABLE = 2
    MOVE = 3
    MAX_POOL = 4
    AVERAGE_POOL = 5
    GLOBAL_AVERAGE_POOL = 6


class Col(IntEnum):
    """Columns of an operator row; the window ones are filled for MAC layers and pools."""

    KIND = 0
    SOURCE = 1
    RIGHT = 2
    TARGET = 3
    HEIGHT = 4
    WIDTH = 5
    CHANNELS = 6
    OUT_HEIGHT = 7
    OUT_WIDTH = 8
    KERNEL_H = 9
    KERNEL_W = 10
    STRIDE_H = 11
    STRIDE_W = 12
    DILATION_H = 13
    DILATION_W = 14
    PAD_TOP = 15
    PAD_LEFT = 16
    GROUPS = 17
    K = 18
    N = 19
    WEIGHT_START = 20
    BIAS_START = 21
    ACC_START = 22
    ZERO_POINT = 23
    LOW = 24
    HIGH = 25
    TABLE_START = 26
    INDEX_START = 27
    REACH_START = 28
    FILL = 29
    COUNT_PAD = 30
    REAL_START = 31


class Program(NamedTuple):
    """ops (n, len(Col)) int64. weight holds (groups, k, n) of each layer, weight_t (groups, n, k) at the same
    start; bias and scale (groups * n) share BIAS_START; tables int8; moves int32 (origins of moves, then who
    reads each source element: `Col.REACH_START` points at size + 1 offsets followed by target indices).
    real (float32): scale in, scale out, offset out of average pools.
    layer_op[i]: the operator row of MAC layer i.
    """

    ops: npt.NDArray[np.int64]
    tensor_start: npt.NDArray[np.int64]
    zero_points: npt.NDArray[np.int64]
    weight: npt.NDArray[np.int8]
    weight_t: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    scale: npt.NDArray[np.float32]
    tables: npt.NDArray[np.int8]
    moves: npt.NDArray[np.int32]
    real: npt.NDArray[np.float32]
    layer_op: npt.NDArray[np.int64]
    acc_size: int
    input: int
    output: int

    @property
    def value_size(self) -> int:
        return int(self.tensor_start[-1])


class _Pool(Generic[Scalar]):
    """Arrays laid end to end; `add` returns where an array starts."""

    def __init__(self, dtype: type[Scalar]) -> None:
        self.dtype = dtype
        self.parts: list[npt.NDArray[np.generic]] = []
        self.size = 0

    def add(self, array: npt.NDArray[np.generic]) -> int:
        start = self.size
        self.parts.append(array.reshape(-1))
        self.size += array.size
        return start

    def join(self) -> npt.NDArray[Scalar]:
        # One spare element keeps kernels free of empty arrays.
        return np.concatenate([*self.parts, np.zeros(1, self.dtype)]).astype(self.dtype)


def flatten(graph: QuantGraph) -> Program:
    """`graph` as a Program."""
    weight, weight_t, bias = _Pool(np.int8), _Pool(np.int8), _Pool(np.int32)
    scale, tables, moves, real = _Pool(np.float32), _Pool(np.int8), _Pool(np.int32), _Pool(np.float32)
    rows = np.zeros((len(graph.ops), len(Col)), np.int64)
    acc_size = 0
    for row, op in zip(rows, graph.ops, strict=True):
        row[Col.KIND], row[Col.TARGET] = _KINDS[type(op)], op.target
        row[Col.SOURCE] = op.left if isinstance(op, PairTableOp) else op.source
        match op:
            case MacLayer():
                _window(row, op.window)
                row[[Col.GROUPS, Col.K, Col.N]] = op.shape.groups, op.shape.k, op.shape.n
                row[Col.WEIGHT_START] = weight.add(op.weight)
                weight_t.add(op.weight.transpose(0, 2, 1))
                row[Col.BIAS_START] = bias.add(op.bias)
                scale.add(op.requantisation.scale)
                row[Col.ACC_START] = acc_size
                row[[Col.ZERO_POINT, Col.LOW, Col.HIGH]] = (
                    op.requantisation.zero_point,
                    op.requantisation.low,
                    op.requantisation.high,
                )
                acc_size += op.shape.m * op.shape.n * op.shape.groups
            case TableOp():
                row[Col.TABLE_START] = tables.add(op.table)
            case PairTableOp():
                row[Col.RIGHT] = op.right
                row[Col.TABLE_START] = tables.add(op.table)
            case MoveOp():
                row[Col.FILL] = op.fill
                row[Col.INDEX_START] = moves.add(op.origin)
                row[Col.REACH_START] = moves.add(_reach(op.origin, graph.tensors[op.source].size))
            case MaxPoolOp():
                _window(row, op.window)
            case AveragePoolOp():
                _window(row, op.window)
                row[Col.COUNT_PAD] = op.count_include_pad
                begin, end = graph.tensors[op.source], graph.tensors[op.target]
                row[Col.REAL_START] = real.add(np.array([begin.scale, end.scale, end.offset], np.float32))
            case GlobalAveragePoolOp():
                row[[Col.HEIGHT, Col.WIDTH, Col.CHANNELS]] = op.positions, 1, op.channels
                row[Col.REAL_START] = real.add(np.array([op.scale], np.float32))
    sizes = [tensor.size for tensor in graph.tensors]
    return Program(
        ops=rows,
        tensor_start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        zero_points=np.array([tensor.zero_point for tensor in graph.tensors], np.int64),
        weight=weight.join(),
        weight_t=weight_t.join(),
        bias=bias.join(),
        scale=scale.join(),
        tables=tables.join(),
        moves=moves.join(),
        real=real.join(),
        layer_op=np.flatnonzero(rows[:, Col.KIND] == Kind.MAC),
        acc_size=acc_size,
        input=graph.input,
        output=graph.output,
    )


_KINDS: dict[type[Op], Kind] = {
    MacLayer: Kind.MAC,
    TableOp: Kind.TABLE,
    PairTableOp: Kind.PAIR_TABLE,
    MoveOp: Kind.MOVE,
    MaxPoolOp: Kind.MAX_POOL,
    AveragePoolOp: Kind.AVERAGE_POOL,
    GlobalAveragePoolOp: Kind.GLOBAL_AVERAGE_POOL,
}


def _window(row: npt.NDArray[np.int64], w: Window) -> None:
    row[[Col.HEIGHT, Col.WIDTH, Col.CHANNELS, Col.OUT_HEIGHT, Col.OUT_WIDTH]] = (
        w.height,
        w.width,
        w.channels,
        w.out_height,
        w.out_width,
    )
    row[[Col.KERNEL_H, Col.KERNEL_W, Col.STRIDE_H, Col.STRIDE_W]] = *w.kernel, *w.stride
    row[[Col.DILATION_H, Col.DILATION_W, Col.PAD_TOP, Col.PAD_LEFT]] = *w.dilation, w.pad_top, w.pad_left


def _reach(origin: npt.NDArray[np.int32], source_size: int) -> npt.NDArray[np.int32]:
    """size + 1 offsets, then for each source element the target elements that show it."""
    order = np.argsort(origin, kind="stable")
    shown = order[np.searchsorted(origin[order], 0) :]
    offsets = np.searchsorted(origin[shown], np.arange(source_size + 1))
    return np.concatenate([offsets, shown]).astype(np.int32)
