"""The compiled operators flattened for kernels: one row of numbers an operator, pools of constants.

A tensor's values lie at tensor_start[t] in a value pool, a MAC layer's accumulators at acc_start[layer] in an
accumulator pool; one inference is one value pool, one accumulator pool and its host values. Between runs of rows come
the steps kernels do not take: host segments, and MAC layers on computed or wide operands.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from emulator.graph.qgraph import (
    AveragePoolOp,
    ElementOp,
    GlobalAveragePoolOp,
    HostOp,
    MacLayer,
    MaxPoolOp,
    MoveOp,
    PairTableOp,
    QTensor,
    QuantGraph,
    TableOp,
)
from emulator.simd import aligned, pack, pack_depthwise, row_bytes, rule_of, weight_rows

Scalar = TypeVar("Scalar", bound=np.generic)

SLACK = 64
"""Elements behind every pool: kernels read and write whole vectors, and leave what lies beyond a row as it is."""
Ints = npt.NDArray[np.int64]


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
    """Columns of an operator row. CHANNELS: values a source pixel, 0 for a table that all share. M, TAPS: output
    pixels, window positions; the taps lie at TAPS_START of the index pool. ROW_BYTES: see `simd.row_bytes`."""

    KIND = 0
    SOURCE = 1
    RIGHT = 2
    TARGET = 3
    CHANNELS = 4
    M = 5
    TAPS = 6
    TAPS_START = 7
    GROUPS = 8
    K = 9
    N = 10
    WEIGHT_START = 11
    PACKED_START = 12
    PACKED_SIZE = 13
    DEPTHWISE = 14
    BIAS_START = 15
    ACC_START = 16
    PADDING = 17
    ZERO_POINT = 18
    LOW = 19
    HIGH = 20
    TABLE_START = 21
    COUNT = 22
    PLACE_START = 23
    ORIGIN_START = 24
    FILL = 25
    COUNT_PAD = 26
    REAL_START = 27
    LOPSIDED = 28
    RULED = 29
    ROW_BYTES = 30


class Program(NamedTuple):
    """ops (n, len(Col)) int64. weight holds (groups, k, n) of each layer as `simd.weight_rows`, (taps, channels) of a
    depthwise one; packed the same for whole layers; bias (zero points folded in), scale and weight_zero (groups * n)
    share BIAS_START; a row is LOPSIDED where weight_zero is not all 0, DEPTHWISE where each group has one channel and
    one output. tables int8. indices int32: taps, places and origins of moves. real float32: scale in, scale out and
    offset out of average pools; the rule of a pair table that is RULED (`emulator.simd.pairs`).

    initial (value_size,): the pool before a run, constants in place. acc_start: of each MAC layer, and the end.
    layer_op[i]: the row of MAC layer i, -1 where kernels do not run it.
    """

    ops: Ints
    tensor_start: Ints
    zero_points: Ints
    weight: npt.NDArray[np.int8]
    packed: npt.NDArray[np.int32]
    weight_zero: npt.NDArray[np.int32]
    bias: npt.NDArray[np.int32]
    scale: npt.NDArray[np.float32]
    tables: npt.NDArray[np.int8]
    indices: npt.NDArray[np.int32]
    real: npt.NDArray[np.float32]
    initial: npt.NDArray[np.int8]
    acc_start: Ints
    layer_op: Ints

    @property
    def value_size(self) -> int:
        return int(self.tensor_start[-1]) + SLACK

    @property
    def acc_size(self) -> int:
        return int(self.acc_start[-1]) + SLACK


class Rows(NamedTuple):
    """Operator rows [first, last), run one after the other by a kernel."""

    first: int
    last: int


class Wide(NamedTuple):
    """MAC layer `layer`, computed outside the kernels."""

    layer: int


Step = Rows | Wide | HostOp


class _Pool(Generic[Scalar]):
    """Arrays laid end to end, each from a multiple of SLACK on; `add` returns where an array starts. Equal arrays lie
    there once."""

    def __init__(self, dtype: type[Scalar]) -> None:
        self.dtype = dtype
        self.parts: list[npt.NDArray[np.generic]] = []
        self.known: dict[bytes, int] = {}
        self.size = 0

    def add(self, array: npt.NDArray[np.generic], *, shared: bool = False) -> int:
        flat = np.ascontiguousarray(array, self.dtype).reshape(-1)
        key = hashlib.sha256(flat.data).digest() if shared else b""
        if key and key in self.known:
            return self.known[key]
        start = self.size
        self.known[key] = start
        self.parts += [flat, np.zeros(-flat.size % SLACK, self.dtype)]
        self.size += sum(map(len, self.parts[-2:]))
        return start

    def join(self) -> npt.NDArray[Scalar]:
        joined = aligned(self.size + SLACK, self.dtype)
        np.concatenate([*self.parts, np.zeros(SLACK, self.dtype)], out=joined)
        return joined


class _Pools:
    """What a Program's constants are gathered in, by the names they have there."""

    def __init__(self) -> None:
        self.weight, self.tables = _Pool(np.int8), _Pool(np.int8)
        self.packed = _Pool(np.int32)
        self.weight_zero, self.bias, self.indices = (_Pool(np.int32) for _ in range(3))
        self.scale, self.real = _Pool(np.float32), _Pool(np.float32)


def steps_of(graph: QuantGraph) -> tuple[Step, ...]:
    """The operators as runs of rows and what comes between them."""
    steps: list[Step] = []
    rows = layer = 0
    for op in graph.ops:
        if isinstance(op, HostOp):
            steps.append(op)
        elif isinstance(op, MacLayer) and not op.compiled:
            steps.append(Wide(layer))
        else:
            before = steps.pop() if steps and isinstance(steps[-1], Rows) else Rows(rows, rows)
            assert isinstance(before, Rows)
            rows += 1
            steps.append(Rows(before.first, rows))
        layer += isinstance(op, MacLayer)
    return tuple(steps)


def flatten(graph: QuantGraph) -> Program:
    """`graph` as a Program."""
    pools = _Pools()
    sizes = [layer.shape.m * layer.columns for layer in graph.layers]
    acc_start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows: list[Ints] = []
    layer_op = np.full(len(graph.layers), -1, np.int64)
    layer = 0
    for op in graph.ops:
        if isinstance(op, MacLayer):
            if op.compiled:
                layer_op[layer] = len(rows)
                rows.append(_mac_row(op, int(acc_start[layer]), pools))
            layer += 1
        elif not isinstance(op, HostOp):
            rows.append(_element_row(op, graph.tensors, pools))
    tensors = [tensor.size for tensor in graph.tensors]
    start = np.concatenate([[0], np.cumsum(tensors)]).astype(np.int64)
    return Program(
        ops=np.stack(rows) if rows else np.zeros((0, len(Col)), np.int64),
        tensor_start=start,
        zero_points=np.array([tensor.zero_point for tensor in graph.tensors], np.int64),
        **{name: pool.join() for name, pool in vars(pools).items()},
        initial=_initial(graph.tensors, start),
        acc_start=acc_start,
        layer_op=layer_op,
    )


def _initial(tensors: tuple[QTensor, ...], start: Ints) -> npt.NDArray[np.int8]:
    values = np.zeros(int(start[-1]) + SLACK, np.int8)
    for tensor, first in zip(tensors, start, strict=False):
        if tensor.constant is not None:
            values[first : first + tensor.size] = tensor.constant
    return values


def _row(kind: Kind, source: int, target: int) -> Ints:
    row = np.zeros(len(Col), np.int64)
    row[[Col.KIND, Col.SOURCE, Col.TARGET]] = kind, source, target
    return row


def _mac_row(op: MacLayer, acc_start: int, pools: _Pools) -> Ints:
    assert isinstance(op.source, int) and isinstance(op.target, int) and op.taps is not None
    assert op.weight is not None and op.requantisation is not None
    row = _row(Kind.MAC, op.source, op.target)
    _put_taps(row, op.taps, op.channels, pools)
    row[[Col.GROUPS, Col.K, Col.N]] = op.shape.groups, op.shape.k, op.shape.n
    row[Col.DEPTHWISE] = op.shape.groups == op.channels > 1 and op.shape.n == 1
    weight = op.weight[:, :, 0].T if row[Col.DEPTHWISE] else weight_rows(op.weight)
    row[[Col.WEIGHT_START, Col.ROW_BYTES]] = pools.weight.add(weight), row_bytes(op.shape.n)
    packed = _packed(op, bool(row[Col.DEPTHWISE]))
    row[[Col.PACKED_START, Col.PACKED_SIZE]] = pools.packed.add(packed), len(packed)
    row[Col.BIAS_START] = pools.bias.add(folded_bias(op))
    assert not isinstance(op.weight_zero_point, str)
    pools.weight_zero.add(op.weight_zero_point)
    pools.scale.add(op.requantisation.scale)
    row[Col.ACC_START], row[Col.LOPSIDED] = acc_start, bool(op.weight_zero_point.any())
    rq = op.requantisation
    row[[Col.PADDING, Col.ZERO_POINT, Col.LOW, Col.HIGH]] = op.zero_point, rq.zero_point, rq.low, rq.high
    return row


def _packed(op: MacLayer, depthwise: bool) -> npt.NDArray[np.int32]:
    assert op.weight is not None
    if depthwise:
        return pack_depthwise(np.ascontiguousarray(op.weight[:, :, 0].T))
    return pack(op.weight, op.channels // op.shape.groups)


def folded_bias(op: MacLayer) -> npt.NDArray[np.int32]:
    """(groups, n) int32: the bias and what the constant zero points add to it,
    b - zx * sum(w) + k * zx * zw, modulo 2^32; sum of x * zw is left for each row."""
    assert (
        op.weight is not None and isinstance(op.zero_point, int) and not isinstance(op.weight_zero_point, str)
    )
    zero = op.weight_zero_point.astype(np.int64)
    total = op.weight.astype(np.int64).sum(axis=1) - op.shape.k * zero
    folded: npt.NDArray[np.int32] = (op.bias.astype(np.int64) - op.zero_point * total).astype(np.int32)
    return folded


def _put_taps(row: Ints, taps: npt.NDArray[np.int32], channels: int, pools: _Pools) -> None:
    row[[Col.M, Col.TAPS]] = taps.shape
    row[Col.CHANNELS] = channels
    row[Col.TAPS_START] = pools.indices.add(taps, shared=True)


def _element_row(op: ElementOp, tensors: tuple[QTensor, ...], pools: _Pools) -> Ints:
    row = _row(_KINDS[type(op)], op.source, op.target)
    match op:
        case TableOp():
            row[Col.TABLE_START] = pools.tables.add(op.table, shared=True)
            row[Col.CHANNELS] = len(op.table) if op.table.ndim > 1 else 0
        case PairTableOp():
            row[Col.RIGHT] = op.right
            row[Col.TABLE_START] = pools.tables.add(op.table, shared=True)
            left, right, target = (
                (t.scale, t.zero_point, t.offset)
                for t in (tensors[i] for i in (op.source, op.right, op.target))
            )
            rule = rule_of(op.table.reshape(-1), left, right, target)
            if rule is not None:
                row[[Col.RULED, Col.REAL_START]] = True, pools.real.add(rule)
        case MoveOp():
            row[[Col.COUNT, Col.FILL]] = len(op.origin), op.fill
            row[Col.PLACE_START] = pools.indices.add(op.place, shared=True)
            row[Col.ORIGIN_START] = pools.indices.add(op.origin, shared=True)
        case MaxPoolOp():
            _put_taps(row, op.taps, op.channels, pools)
        case AveragePoolOp():
            _put_taps(row, op.taps, op.channels, pools)
            row[Col.COUNT_PAD] = op.count_include_pad
            begin, end = tensors[op.source], tensors[op.target]
            row[Col.REAL_START] = pools.real.add(np.array([begin.scale, end.scale, end.offset], np.float32))
        case GlobalAveragePoolOp():
            row[[Col.COUNT, Col.CHANNELS]] = op.positions, op.channels
            row[Col.REAL_START] = pools.real.add(np.array([op.scale], np.float32))
    return row


def _quantised(tensor: QTensor) -> tuple[float, int, int]:
    return tensor.scale, tensor.zero_point, tensor.offset


_KINDS: dict[type[ElementOp], Kind] = {
    TableOp: Kind.TABLE,
    PairTableOp: Kind.PAIR_TABLE,
    MoveOp: Kind.MOVE,
    MaxPoolOp: Kind.MAX_POOL,
    AveragePoolOp: Kind.AVERAGE_POOL,
    GlobalAveragePoolOp: Kind.GLOBAL_AVERAGE_POOL,
}
