"""Sparse exact propagation: only what changed is computed again, and the rest is golden by definition.

A fault is applied to a copy of the golden values and removed exactly afterwards. MAC layers use linearity mod
2^32: acc' = acc + weight * change, evaluated only where the input changed; every other operator recomputes the
output elements that see a changed input, with the very kernels of the golden run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.faults.strike import LayerErrors
from emulator.gemm import requantise, round_scaled
from emulator.graph.golden import Golden, Inference
from emulator.graph.kernels import average_at, global_average_at, max_at, pair_at, table_at
from emulator.graph.program import Col, Kind, Program
from emulator.jit import Int, inlined, kernel

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.int8]


class Stage(IntEnum):
    """The first stage at which the faulty run is bit-identical to golden again; NONE: the output differs."""

    DEAD = 0
    ARRAY = 1
    REQUANT = 2
    CLAMP = 3
    NETWORK = 4
    NONE = 5


class Scratch(NamedTuple):
    """Working memory, clean between faults: `current` equals golden, counts and acc_delta are zero.

    touched (value_size,): per tensor the list of its changed elements, counts[t] long. stamp: the last epoch in
    which an element was recomputed. rows, row_mark, row_values: the accumulator rows touched in
    the operator at hand.
    """

    current: Values
    touched: npt.NDArray[np.int32]
    counts: Ints
    stamp: Ints
    epoch: Ints
    acc_delta: npt.NDArray[np.int32]
    rows: Ints
    row_mark: npt.NDArray[np.uint8]
    row_values: Values
    last_use: Ints


@inlined
def _settle(s: Scratch, golden: Values, tensor: Int, start: Int, element: Int, value: Int) -> None:
    """A recomputed element: note it if it differs from golden."""
    if value != golden[start + element]:
        s.current[start + element] = value
        s.touched[start + s.counts[tensor]] = element
        s.counts[tensor] += 1


@inlined
def _fresh(s: Scratch, at: Int) -> bool:
    """True the first time in an epoch, so that no element is recomputed twice for one fault."""
    if s.stamp[at] == s.epoch[0]:
        return False
    s.stamp[at] = s.epoch[0]
    return True


@kernel
def strike_layer(
    p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int, errors: LayerErrors, f: Int
) -> int:
    """The errors of fault `f`; Stage.REQUANT or CLAMP if nothing is left behind the requantiser, else NONE."""
    first, last = errors.ptr[f], errors.ptr[f + 1]
    m, n, delta = errors.m[first:last], errors.n[first:last], errors.delta[first:last]
    if errors.at_output[f]:
        return strike_output(p, s, golden, op, m, n, delta)
    return strike_accumulator(p, s, golden, acc, op, m, n, delta)


@kernel
def strike_accumulator(
    p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int, m: Ints, n: Ints, delta: Ints
) -> int:
    """Accumulator errors through the requantiser; Stage.REQUANT or CLAMP if nothing is left, else NONE."""
    row = p.ops[op]
    channels = row[Col.GROUPS] * row[Col.N]
    start = p.tensor_start[row[Col.TARGET]]
    clamped = False
    for e in range(len(m)):
        element = m[e] * channels + n[e]
        scale = p.scale[row[Col.BIAS_START] + n[e]]
        before = acc[row[Col.ACC_START] + element]
        after = np.int32(before + delta[e])
        value = requantise(after, scale, row[Col.ZERO_POINT], row[Col.LOW], row[Col.HIGH])
        _settle(s, golden, row[Col.TARGET], start, element, value)
        if value == golden[start + element] and round_scaled(after, scale) != round_scaled(before, scale):
            clamped = True
    if s.counts[row[Col.TARGET]] > 0:
        return Stage.NONE
    return Stage.CLAMP if clamped else Stage.REQUANT


@kernel
def strike_output(p: Program, s: Scratch, golden: Values, op: Int, m: Ints, n: Ints, delta: Ints) -> int:
    """Errors of the requantised words of a MAC layer; Stage.REQUANT if there are none, else NONE."""
    row = p.ops[op]
    start = p.tensor_start[row[Col.TARGET]]
    for e in range(len(m)):
        element = m[e] * row[Col.GROUPS] * row[Col.N] + n[e]
        _settle(s, golden, row[Col.TARGET], start, element, golden[start + element] + delta[e])
    return Stage.NONE if s.counts[row[Col.TARGET]] > 0 else Stage.REQUANT


@kernel
def _output_index(reach: Int, stride: Int, size: Int) -> Int:
    """Which output position has its window tap at input position `reach` (padding included); -1: none."""
    if stride != 1:
        if reach % stride != 0:
            return -1
        reach //= stride
    return reach if 0 <= reach < size else -1


@kernel
def _scatter_mac(p: Program, s: Scratch, golden: Values, op: Int) -> int:
    """Add weight * change of every changed input element to the accumulator rows that read it; the number of
    rows touched."""
    row = p.ops[op]
    start = p.tensor_start[row[Col.SOURCE]]
    channels, groups, n_size = row[Col.CHANNELS], row[Col.GROUPS], row[Col.N]
    width, kernel_w, out_width = row[Col.WIDTH], row[Col.KERNEL_W], row[Col.OUT_WIDTH]
    stride_h, stride_w, out_height = row[Col.STRIDE_H], row[Col.STRIDE_W], row[Col.OUT_HEIGHT]
    pad_top, pad_left, dilation_h, dilation_w = (
        row[Col.PAD_TOP],
        row[Col.PAD_LEFT],
        row[Col.DILATION_H],
        row[Col.DILATION_W],
    )
    per_group = channels // groups
    rows = 0
    for i in range(s.counts[row[Col.SOURCE]]):
        element = s.touched[start + i]
        change = np.int32(s.current[start + element]) - np.int32(golden[start + element])
        position, channel = divmod(element, np.int32(channels))
        ih, iw = divmod(position, np.int32(width))
        group = channel // per_group
        for kh in range(row[Col.KERNEL_H]):
            oh = _output_index(ih + pad_top - kh * dilation_h, stride_h, out_height)
            if oh < 0:
                continue
            for kw in range(kernel_w):
                ow = _output_index(iw + pad_left - kw * dilation_w, stride_w, out_width)
                if ow < 0:
                    continue
                k = (kh * kernel_w + kw) * per_group + channel - group * per_group
                at = (oh * out_width + ow) * groups + group
                if s.row_mark[at] == 0:
                    s.row_mark[at] = 1
                    s.rows[rows] = at
                    rows += 1
                weight = row[Col.WEIGHT_START] + (group * row[Col.K] + k) * n_size
                _add_scaled(s.acc_delta, at * n_size, p.weight, weight, n_size, change)
    return rows


@kernel
def _add_scaled(
    total: npt.NDArray[np.int32], first: Int, weight: Values, start: Int, size: Int, change: Int
) -> None:
    """total[first:first + size] += change * weight[start:start + size], modulo 2^32."""
    # Slices tell the compiler that no index is negative, which is what lets it vectorise.
    t, w = total[first : first + size], weight[start : start + size]
    for n in range(size):
        t[n] = np.int32(t[n] + np.int32(change) * np.int32(w[n]))


@kernel
def _sparse_mac(p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int) -> None:
    """A MAC layer whose input changed somewhere."""
    row = p.ops[op]
    n_size, groups = row[Col.N], row[Col.GROUPS]
    zero_point, low, high = row[Col.ZERO_POINT], row[Col.LOW], row[Col.HIGH]
    target, acc_start, bias_start = row[Col.TARGET], row[Col.ACC_START], row[Col.BIAS_START]
    start = p.tensor_start[target]
    for i in range(_scatter_mac(p, s, golden, op)):
        at = s.rows[i]
        s.row_mark[at] = 0
        first = at * n_size
        change = s.acc_delta[first : first + n_size]
        total = acc[acc_start + first : acc_start + first + n_size]
        scale = p.scale[bias_start + at % groups * n_size :]
        for n in range(n_size):
            s.row_values[n] = requantise(np.int32(total[n] + change[n]), scale[n], zero_point, low, high)
            change[n] = 0
        for n in range(n_size):
            if s.row_values[n] != golden[start + first + n]:
                _settle(s, golden, target, start, first + n, s.row_values[n])


@kernel
def _sparse_tables(p: Program, s: Scratch, golden: Values, op: Int, source: Int) -> None:
    """Unary and binary operators: the same element again."""
    row = p.ops[op]
    target = row[Col.TARGET]
    start, first = p.tensor_start[target], p.tensor_start[source]
    if row[Col.KIND] == Kind.TABLE:
        for i in range(s.counts[source]):
            element = s.touched[first + i]
            _settle(s, golden, target, start, element, table_at(p, row, s.current, element))
        return
    for i in range(s.counts[source]):
        element = s.touched[first + i]
        if _fresh(s, start + element):
            _settle(s, golden, target, start, element, pair_at(p, row, s.current, element))


@kernel
def _sparse_move(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """Every place a changed value moves to."""
    row = p.ops[op]
    source, target = row[Col.SOURCE], row[Col.TARGET]
    start, first = p.tensor_start[target], p.tensor_start[source]
    reach = row[Col.REACH_START]
    shown = reach + p.tensor_start[source + 1] - first + 1
    for i in range(s.counts[source]):
        element = s.touched[first + i]
        for j in range(p.moves[reach + element], p.moves[reach + element + 1]):
            _settle(s, golden, target, start, p.moves[shown + j], s.current[first + element])


@kernel
def _sparse_global_average(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """The mean of every channel that changed."""
    row = p.ops[op]
    source, target = row[Col.SOURCE], row[Col.TARGET]
    start, first = p.tensor_start[target], p.tensor_start[source]
    for i in range(s.counts[source]):
        channel = s.touched[first + i] % row[Col.CHANNELS]
        if _fresh(s, start + channel):
            _settle(s, golden, target, start, channel, global_average_at(p, row, s.current, channel))


@kernel
def _sparse_pool(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """Every pooling window that sees a changed element."""
    row = p.ops[op]
    source, target = row[Col.SOURCE], row[Col.TARGET]
    start, first = p.tensor_start[target], p.tensor_start[source]
    channels, width, out_width = row[Col.CHANNELS], row[Col.WIDTH], row[Col.OUT_WIDTH]
    stride_h, stride_w, out_height = row[Col.STRIDE_H], row[Col.STRIDE_W], row[Col.OUT_HEIGHT]
    is_max = row[Col.KIND] == Kind.MAX_POOL
    for i in range(s.counts[source]):
        position, channel = divmod(s.touched[first + i], channels)
        ih, iw = divmod(position, width)
        for kh in range(row[Col.KERNEL_H]):
            oh = _output_index(ih + row[Col.PAD_TOP] - kh * row[Col.DILATION_H], stride_h, out_height)
            if oh < 0:
                continue
            for kw in range(row[Col.KERNEL_W]):
                ow = _output_index(iw + row[Col.PAD_LEFT] - kw * row[Col.DILATION_W], stride_w, out_width)
                element = (oh * out_width + ow) * channels + channel
                if ow >= 0 and _fresh(s, start + element):
                    value = (
                        max_at(p, row, s.current, element)
                        if is_max
                        else average_at(p, row, s.current, element)
                    )
                    _settle(s, golden, target, start, element, value)


@kernel
def _sparse_op(p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int) -> None:
    """One operator, wherever its input changed."""
    kind = p.ops[op, Col.KIND]
    if kind == Kind.MAC:
        _sparse_mac(p, s, golden, acc, op)
    elif kind == Kind.TABLE:
        _sparse_tables(p, s, golden, op, p.ops[op, Col.SOURCE])
    elif kind == Kind.PAIR_TABLE:
        _sparse_tables(p, s, golden, op, p.ops[op, Col.SOURCE])
        _sparse_tables(p, s, golden, op, p.ops[op, Col.RIGHT])
    elif kind == Kind.MOVE:
        _sparse_move(p, s, golden, op)
    elif kind == Kind.GLOBAL_AVERAGE_POOL:
        _sparse_global_average(p, s, golden, op)
    else:
        _sparse_pool(p, s, golden, op)


@kernel
def flow(p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], struck: Int, end: Int) -> None:
    """From the struck layer's output through operator `end`; stops when nothing changed is read any more."""
    alive = s.last_use[p.ops[struck, Col.TARGET]]
    for op in range(struck + 1, end + 1):
        if op > alive:
            break
        row = p.ops[op]
        changed = s.counts[row[Col.SOURCE]]
        if row[Col.KIND] == Kind.PAIR_TABLE:
            changed += s.counts[row[Col.RIGHT]]
        if changed > 0:
            _sparse_op(p, s, golden, acc, op)
            if s.counts[row[Col.TARGET]] > 0:
                alive = max(alive, s.last_use[row[Col.TARGET]])


@kernel
def restore(p: Program, s: Scratch, golden: Values) -> None:
    """Remove the fault: every changed element is golden again."""
    for tensor in range(len(s.counts)):
        start = p.tensor_start[tensor]
        for i in range(s.counts[tensor]):
            at = start + s.touched[start + i]
            s.current[at] = golden[at]
        s.counts[tensor] = 0
    s.epoch[0] += 1


@kernel
def _propagate_many(
    p: Program,
    s: Scratch,
    golden: Values,
    acc: npt.NDArray[np.int32],
    op: Ints,
    errors: LayerErrors,
    logits: Values,
    stage: Values,
    corrupted: Ints,
) -> None:
    out = p.tensor_start[p.output]
    for f in range(len(op)):
        if errors.ptr[f] < errors.ptr[f + 1]:
            stage[f] = strike_layer(p, s, golden, acc, op[f], errors, f)
            corrupted[f] = s.counts[p.ops[op[f], Col.TARGET]]
            if stage[f] == Stage.NONE:
                flow(p, s, golden, acc, op[f], p.ops.shape[0] - 1)
                if s.counts[p.output] == 0:
                    stage[f] = Stage.NETWORK
        for c in range(logits.shape[1]):
            logits[f, c] = s.current[out + c]
        restore(p, s, golden)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Effects:
    """What each fault did. logits (faults, classes) int8; stage (faults,) Stage codes; corrupted (faults,):
    int8 elements of the struck layer's output that changed."""

    logits: Values = field(repr=False)
    stage: Values = field(repr=False)
    corrupted: Ints = field(repr=False)


class Propagator:
    """Sparse propagation for one image at a time; reuse it, its working memory is allocated once."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        p = golden.program
        mac = p.ops[p.layer_op]
        rows = mac[:, Col.OUT_HEIGHT] * mac[:, Col.OUT_WIDTH] * mac[:, Col.GROUPS]
        tensors = len(p.tensor_start) - 1
        last_use = np.full(tensors, -1, np.int64)
        for i, row in enumerate(p.ops):
            last_use[row[Col.SOURCE]] = i
            if row[Col.KIND] == Kind.PAIR_TABLE:
                last_use[row[Col.RIGHT]] = i
        self.scratch = Scratch(
            current=np.zeros(p.value_size, np.int8),
            touched=np.zeros(p.value_size, np.int32),
            counts=np.zeros(tensors, np.int64),
            stamp=np.full(p.value_size, -1, np.int64),
            epoch=np.zeros(1, np.int64),
            acc_delta=np.zeros(int((rows * mac[:, Col.N]).max()), np.int32),
            rows=np.zeros(int(rows.max()), np.int64),
            row_mark=np.zeros(int(rows.max()), np.uint8),
            row_values=np.zeros(int(mac[:, Col.N].max()), np.int8),
            last_use=last_use,
        )

    def run(self, image: Inference, layer: Ints, errors: LayerErrors) -> Effects:
        """Faults of one image, fault f in MAC layer layer[f]. A fault without errors is masked in the array
        (Stage.ARRAY)."""
        p = self.golden.program
        self.scratch.current[:] = image.values
        effects = Effects(
            logits=np.empty((len(layer), self.golden.graph.classes), np.int8),
            stage=np.full(len(layer), Stage.ARRAY, np.int8),
            corrupted=np.zeros(len(layer), np.int64),
        )
        _propagate_many(
            p,
            self.scratch,
            image.values,
            image.accumulators,
            p.layer_op[layer],
            errors,
            effects.logits,
            effects.stage,
            effects.corrupted,
        )
        return effects
