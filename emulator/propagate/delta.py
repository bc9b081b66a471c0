"""Sparse exact propagation: only what changed is computed again, and the rest is golden by definition.

A fault is applied to a copy of the golden values and removed exactly afterwards. MAC layers use linearity mod
2^32: acc' = acc + weight * change, evaluated only where the input changed; every other operator recomputes the
output elements that see a changed input, with the very kernels of the golden run.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.faults.strike import LayerErrors
from emulator.gemm import requantise, round_scaled
from emulator.graph.kernels import average_at, global_average_at, max_at, table_at
from emulator.graph.program import Col, Kind, Program
from emulator.jit import Int, borrowing, inlined, stage
from emulator.simd import (
    Changes,
    Laid,
    Row,
    add_changes,
    changes_for,
    clear_changes,
    in_words,
    laid_for,
    lay_changes,
    list_words,
    settle_row,
    sum_width,
)

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
    which an element was recomputed. rows, row_mark, row_change, row_values: the accumulator rows touched in
    the operator at hand, the sum of the changes each has seen, and room for one (row_before, row_acc, row_scale, too).
    changes: those of one pixel; laid: of a tensor.
    """

    current: Values
    touched: npt.NDArray[np.int32]
    counts: Ints
    stamp: Ints
    epoch: Ints
    acc_delta: npt.NDArray[np.int32]
    rows: Ints
    row_mark: npt.NDArray[np.uint8]
    row_change: npt.NDArray[np.int32]
    row_values: Values
    row_before: Values
    row_acc: npt.NDArray[np.int32]
    row_scale: npt.NDArray[np.float32]
    changes: Changes
    laid: Laid
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


@borrowing
def strike_layer(
    p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int, errors: LayerErrors, f: Int
) -> int:
    """The errors of fault `f`; Stage.REQUANT or CLAMP if nothing is left behind the requantiser, else NONE."""
    first, last = errors.ptr[f], errors.ptr[f + 1]
    m, n, delta = errors.m[first:last], errors.n[first:last], errors.delta[first:last]
    if errors.at_output[f]:
        return strike_output(p, s, golden, op, m, n, delta)
    return strike_accumulator(p, s, golden, acc, op, m, n, delta)


@borrowing
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


@borrowing
def strike_output(p: Program, s: Scratch, golden: Values, op: Int, m: Ints, n: Ints, delta: Ints) -> int:
    """Errors of the requantised words of a MAC layer; Stage.REQUANT if there are none, else NONE."""
    row = p.ops[op]
    start = p.tensor_start[row[Col.TARGET]]
    for e in range(len(m)):
        element = m[e] * row[Col.GROUPS] * row[Col.N] + n[e]
        _settle(s, golden, row[Col.TARGET], start, element, golden[start + element] + delta[e])
    return Stage.NONE if s.counts[row[Col.TARGET]] > 0 else Stage.REQUANT


@stage
def _take_pixel(
    touched: npt.NDArray[np.int32], current: Values, before: Values, base: Int, depth: Int, changes: Changes
) -> int:
    """The changes of elements [base, base + depth) that stand first in `touched`; how many."""
    count = 0
    for element in touched:
        if not 0 <= element - base < depth:
            break
        changes.channel[count] = element - base
        changes.change[count] = np.int64(current[element]) - np.int64(before[element])
        count += 1
    return count


@borrowing
def _scatter_mac(p: Program, s: Scratch, golden: Values, op: Int) -> Int:
    """Add weight * change of every changed input element to the accumulator rows that read it; the number of
    rows touched."""
    row = p.ops[op]
    groups, taps, n, depth = row[Col.GROUPS], row[Col.TAPS], row[Col.N], row[Col.CHANNELS] // row[Col.GROUPS]
    first, last = p.tensor_start[row[Col.SOURCE]], p.tensor_start[row[Col.SOURCE] + 1]
    touched = s.touched[first : first + s.counts[row[Col.SOURCE]]]
    current, before, changes = s.current[first:last], golden[first:last], s.changes
    reach = p.indices[row[Col.REACH_START] :]
    pixels, readers, shown = reach[0], reach[reach[0] + 2 :], p.indices[row[Col.READERS_START] :]
    weight, packed = p.weight[row[Col.WEIGHT_START] :], p.packed[row[Col.PACKED_START] :]
    i = 0
    rows: Int = 0
    while i < len(touched):
        # Elements of a pixel mostly stand together, in the order of their channels.
        pixel, channel = divmod(np.int64(touched[i]), groups * depth)
        group = channel // depth
        base = (pixel * groups + group) * depth
        count = _take_pixel(touched[i:], current, before, base, depth, changes)
        i += count
        if pixel >= pixels:
            continue
        words, total = in_words(changes, count, n), np.int32(changes.change[:count].sum())
        for j in range(reach[1 + pixel], reach[2 + pixel]):
            m = np.int64(shown[j])
            tap, at = readers[j] - m * taps, m * groups + group
            rows = _mark(s, at, rows, total)
            add_changes(
                changes, count, words, weight, packed, group, tap, taps, depth, n, s.acc_delta, at * sum_width(n)
            )  # fmt: skip
    return rows


@stage
def _mark(s: Scratch, at: Int, rows: Int, change: Int) -> Int:
    """A change of the sum of what accumulator row `at` reads; the number of rows touched so far."""
    if s.row_mark[at] == 0:
        s.row_mark[at] = 1
        s.rows[rows] = at
        s.row_change[at] = 0
        rows += 1
    s.row_change[at] += change
    return rows


@stage
def _requantise_row(
    total: npt.NDArray[np.int32],
    change: npt.NDArray[np.int32],
    scale: npt.NDArray[np.float32],
    zero_point: Int,
    low: Int,
    high: Int,
    values: Values,
) -> None:
    """One row of accumulators with what was added, to int8; `change` is zero again. See `requantise_rows`."""
    floor, ceiling = np.float32(low - zero_point), np.float32(high - zero_point)
    for n in range(len(total)):
        scaled = np.rint(np.float32(np.int32(total[n] + change[n])) * scale[n])
        values[n] = np.int32(min(max(scaled, floor), ceiling)) + np.int32(zero_point)
        change[n] = 0


@stage
def _note(
    current: Values,
    touched: npt.NDArray[np.int32],
    golden: Values,
    start: Int,
    first: Int,
    values: Values,
    count: Int,
) -> Int:
    """Recomputed elements first, first + 1, ... of a tensor: those that differ from golden join the `count` that are
    noted already; the number noted now."""
    before, after = golden[start + first :], current[start + first :]
    noted = touched[start:]
    for n in range(len(values)):
        if values[n] != before[n]:
            after[n] = values[n]
            noted[count] = first + n
            count += 1
    return count


@stage
def _parted(unit: Int, groups: Int) -> tuple[Int, Int]:
    """Pixel and group; mostly there is one group, and a division takes longer than all the rest."""
    return (unit, 0) if groups == 1 else divmod(unit, groups)


@stage
def _readers_of(p: Program, s: Scratch, op: Int, units: Int) -> Int:
    """The accumulator rows that read one of the units laid out; how many."""
    row = p.ops[op]
    groups, reach, shown = (
        row[Col.GROUPS],
        p.indices[row[Col.REACH_START] :],
        p.indices[row[Col.READERS_START] :],
    )
    rows: Int = 0
    for i in range(units):
        pixel, group = _parted(np.int64(s.laid.units[i]), groups)
        if pixel >= reach[0]:
            continue
        for j in range(reach[1 + pixel], reach[2 + pixel]):
            rows = _mark(s, np.int64(shown[j]) * groups + group, rows, 0)
    return rows


@borrowing
def _sparse_mac(p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int) -> None:
    """A MAC layer whose input changed somewhere."""
    row = p.ops[op]
    n, depth = row[Col.N], row[Col.CHANNELS] // row[Col.GROUPS]
    first, last = p.tensor_start[row[Col.SOURCE]], p.tensor_start[row[Col.SOURCE] + 1]
    touched = s.touched[first : first + s.counts[row[Col.SOURCE]]]
    units = lay_changes(touched, s.current[first:last], golden[first:last], depth, n, s.laid)
    if units < 0:
        width = sum_width(n)
        for i in range(_scatter_mac(p, s, golden, op)):
            at = s.rows[i]
            _settle_added(p, s, golden, acc, row, at, s.row_change[at], s.acc_delta[at * width :][:n])
        return
    for i in range(_readers_of(p, s, op, units)):
        s.row_mark[s.rows[i]] = 0
        _recompute_row(p, s, golden, acc, row, s.rows[i])
    clear_changes(s.laid, units, depth)


@stage
def _recompute_row(
    p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], row: Ints, at: Int
) -> None:
    """Accumulator row `at` from the changes laid out."""
    groups, taps, target, n = row[Col.GROUPS], row[Col.TAPS], row[Col.TARGET], row[Col.N]
    depth = row[Col.CHANNELS] // groups
    m, group = _parted(at, groups)
    seen = p.indices[row[Col.TAPS_START] + m * taps :][:taps]
    words, total = list_words(s.laid, seen, groups, group, depth)
    first, start, column = at * n, p.tensor_start[target], row[Col.BIAS_START] + group * n
    zero_point, low, high, packed = (
        row[Col.ZERO_POINT],
        row[Col.LOW],
        row[Col.HIGH],
        p.packed[row[Col.PACKED_START] :],
    )
    noted, count = s.touched[start:], s.counts[target]
    if n == sum_width(n) and not row[Col.LOPSIDED]:
        it = Row(
            n, first, words, total, packed, acc, row[Col.ACC_START] + first, p.scale, column, zero_point, low, high,
            golden, s.current, start + first,
        )  # fmt: skip
        s.counts[target] = settle_row(s.laid, it, group, taps, depth, noted, count)
        return
    for i in range(n):
        # (w - zw) * change, summed: what is added, less zw times the sum of the changes.
        lopsided = np.int32(p.weight_zero[column + i] * total)
        s.row_acc[i] = np.int32(acc[row[Col.ACC_START] + first + i] - lopsided)
        s.row_scale[i] = p.scale[column + i]
        s.row_before[i] = golden[start + first + i]
    it = Row(
        n, first, words, total, packed, s.row_acc, 0, s.row_scale, 0, zero_point, low, high,
        s.row_before, s.row_values, 0,
    )  # fmt: skip
    s.counts[target] = settle_row(s.laid, it, group, taps, depth, noted, count)
    for i in range(n):
        s.current[start + first + i] = s.row_values[i]


@stage
def _settle_added(
    p: Program,
    s: Scratch,
    golden: Values,
    acc: npt.NDArray[np.int32],
    row: Ints,
    at: Int,
    change: Int,
    added: npt.NDArray[np.int32],
) -> None:
    """Requantise accumulator row `at`, to which `added` is added; change: the sum of the changes it has seen."""
    s.row_mark[at] = 0
    n, target = row[Col.N], row[Col.TARGET]
    first, column = at * n, row[Col.BIAS_START] + _parted(at, row[Col.GROUPS])[1] * n
    if row[Col.LOPSIDED]:
        # (w - zw) * change, summed: what was added, less zw times the sum of the changes.
        for i in range(n):
            added[i] -= np.int32(p.weight_zero[column + i] * change)
    total = acc[row[Col.ACC_START] + first :][:n]
    zero_point, low, high, values = row[Col.ZERO_POINT], row[Col.LOW], row[Col.HIGH], s.row_values[:n]
    _requantise_row(total, added, p.scale[column : column + n], zero_point, low, high, values)
    s.counts[target] = _note(
        s.current, s.touched, golden, p.tensor_start[target], first, values, s.counts[target]
    )


@borrowing
def _sparse_table(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """A unary operator: the same element again."""
    row = p.ops[op]
    source, target = row[Col.SOURCE], row[Col.TARGET]
    first, start = p.tensor_start[source], p.tensor_start[target]
    for i in range(s.counts[source]):
        element = s.touched[first + i]
        _settle(s, golden, target, start, element, table_at(p, row, s.current, element))


@stage
def _sparse_pair_of(
    p: Program, s: Scratch, golden: Values, row: Ints, source: Int, done: Int, count: Int
) -> Int:
    """A binary operator where operand `source` has changed and operand `done`, if any, has not; the number noted."""
    target = row[Col.TARGET]
    left, right = s.current[p.tensor_start[row[Col.SOURCE]] :], s.current[p.tensor_start[row[Col.RIGHT]] :]
    table, begin = p.tables[row[Col.TABLE_START] :], p.tensor_start[max(done, 0)]
    is_done, was = s.current[begin:], golden[begin:]
    before, after = golden[p.tensor_start[target] :], s.current[p.tensor_start[target] :]
    noted = s.touched[p.tensor_start[target] :]
    for element in s.touched[p.tensor_start[source] :][: s.counts[source]]:
        if done >= 0 and is_done[element] != was[element]:
            continue
        value = table[(np.int64(left[element]) + 128) * 256 + np.int64(right[element]) + 128]
        if value != before[element]:
            after[element] = value
            noted[count] = element
            count += 1
    return count


@borrowing
def _sparse_pair(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """A binary operator: the elements where the left operand changed, then those where only the right one did."""
    row = p.ops[op]
    left, right, target = row[Col.SOURCE], row[Col.RIGHT], row[Col.TARGET]
    count = _sparse_pair_of(p, s, golden, row, left, -1, s.counts[target])
    if left != right:
        count = _sparse_pair_of(p, s, golden, row, right, left, count)
    s.counts[target] = count


@borrowing
def _sparse_move(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """Every place a changed value moves to."""
    row = p.ops[op]
    source, target = row[Col.SOURCE], row[Col.TARGET]
    start, first = p.tensor_start[target], p.tensor_start[source]
    reach, place = row[Col.REACH_START], row[Col.PLACE_START]
    shown = reach + p.indices[reach] + 2
    for i in range(s.counts[source]):
        element = s.touched[first + i]
        if element < p.indices[reach]:
            for j in range(p.indices[reach + 1 + element], p.indices[reach + 2 + element]):
                to = p.indices[place + p.indices[shown + j]]
                _settle(s, golden, target, start, to, s.current[first + element])


@borrowing
def _sparse_global_average(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """The mean of every channel that changed."""
    row = p.ops[op]
    source, target = row[Col.SOURCE], row[Col.TARGET]
    start, first = p.tensor_start[target], p.tensor_start[source]
    for i in range(s.counts[source]):
        channel = s.touched[first + i] % row[Col.CHANNELS]
        if _fresh(s, start + channel):
            _settle(s, golden, target, start, channel, global_average_at(p, row, s.current, channel))


@borrowing
def _sparse_pool(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """Every pooling window that sees a changed element."""
    row = p.ops[op]
    source, target = row[Col.SOURCE], row[Col.TARGET]
    start, first = p.tensor_start[target], p.tensor_start[source]
    channels, taps, reach = row[Col.CHANNELS], row[Col.TAPS], row[Col.REACH_START]
    seen = reach + p.indices[reach] + 2
    for i in range(s.counts[source]):
        pixel, channel = divmod(np.int64(s.touched[first + i]), channels)
        if pixel >= p.indices[reach]:
            continue
        for j in range(p.indices[reach + 1 + pixel], p.indices[reach + 2 + pixel]):
            element = p.indices[seen + j] // taps * channels + channel
            if _fresh(s, start + element):
                if row[Col.KIND] == Kind.MAX_POOL:
                    value = max_at(p, row, s.current, element)
                else:
                    value = average_at(p, row, s.current, element)
                _settle(s, golden, target, start, element, value)


@borrowing
def _sparse_op(p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int) -> None:
    """One operator, wherever its input changed."""
    kind = p.ops[op, Col.KIND]
    if kind == Kind.MAC:
        _sparse_mac(p, s, golden, acc, op)
    elif kind == Kind.TABLE:
        _sparse_table(p, s, golden, op)
    elif kind == Kind.PAIR_TABLE:
        _sparse_pair(p, s, golden, op)
    elif kind == Kind.MOVE:
        _sparse_move(p, s, golden, op)
    elif kind == Kind.GLOBAL_AVERAGE_POOL:
        _sparse_global_average(p, s, golden, op)
    else:
        _sparse_pool(p, s, golden, op)


@borrowing
def flow(p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], first: Int, last: Int) -> None:
    """Operators [first, last); stops when nothing changed is read any more."""
    alive = np.int64(-1)
    for tensor in range(len(s.counts)):
        if s.counts[tensor] > 0:
            alive = max(alive, s.last_use[tensor])
    for op in range(first, last):
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


@borrowing
def restore(p: Program, s: Scratch, golden: Values) -> None:
    """Remove the fault: every changed element is golden again."""
    for tensor in range(len(s.counts)):
        start = p.tensor_start[tensor]
        for i in range(s.counts[tensor]):
            at = start + s.touched[start + i]
            s.current[at] = golden[at]
        s.counts[tensor] = 0
    s.epoch[0] += 1


@borrowing
def propagate_many(
    p: Program,
    s: Scratch,
    golden: Values,
    acc: npt.NDArray[np.int32],
    op: Ints,
    output: Int,
    errors: LayerErrors,
    logits: Values,
    stage: Values,
    corrupted: Ints,
) -> None:
    """Faults in compiled layers (rows `op`), each followed to the tensor `output` by rows alone."""
    out = p.tensor_start[output]
    for f in range(len(op)):
        if errors.ptr[f] < errors.ptr[f + 1]:
            stage[f] = strike_layer(p, s, golden, acc, op[f], errors, f)
            corrupted[f] = s.counts[p.ops[op[f], Col.TARGET]]
            if stage[f] == Stage.NONE:
                flow(p, s, golden, acc, op[f] + 1, p.ops.shape[0])
                if s.counts[output] == 0:
                    stage[f] = Stage.NETWORK
        for c in range(logits.shape[1]):
            logits[f, c] = s.current[out + c]
        restore(p, s, golden)


def scratch_for(p: Program) -> Scratch:
    """Working memory for the faults of one image at a time."""
    tensors = len(p.tensor_start) - 1
    mac = p.ops[p.layer_op[p.layer_op >= 0]]
    rows = mac[:, Col.M] * mac[:, Col.GROUPS]
    last_use = np.full(tensors, -1, np.int64)
    for i, row in enumerate(p.ops):
        last_use[row[Col.SOURCE]] = i
        if row[Col.KIND] == Kind.PAIR_TABLE:
            last_use[row[Col.RIGHT]] = i
    most = int(rows.max(initial=1))
    widths = np.array([sum_width(int(n)) for n in mac[:, Col.N]], np.int64)
    widest = int(widths.max(initial=1))
    return Scratch(
        current=np.zeros(p.value_size, np.int8),
        touched=np.zeros(p.value_size, np.int32),
        counts=np.zeros(tensors, np.int64),
        stamp=np.full(p.value_size, -1, np.int64),
        epoch=np.zeros(1, np.int64),
        acc_delta=np.zeros(int((rows * widths).max(initial=1)), np.int32),
        rows=np.zeros(most, np.int64),
        row_mark=np.zeros(most, np.uint8),
        row_change=np.zeros(most, np.int32),
        row_values=np.zeros(widest, np.int8),
        row_before=np.zeros(widest, np.int8),
        row_acc=np.zeros(widest, np.int32),
        row_scale=np.zeros(widest, np.float32),
        changes=changes_for(int((mac[:, Col.CHANNELS] // mac[:, Col.GROUPS]).max(initial=1))),
        laid=_laid_for(p, mac),
        last_use=last_use,
    )


def _laid_for(p: Program, mac: Ints) -> Laid:
    """Room for the changes of the source of any MAC layer."""
    depth = mac[:, Col.CHANNELS] // mac[:, Col.GROUPS]
    units = np.diff(p.tensor_start)[mac[:, Col.SOURCE]] // depth
    return laid_for(units, depth, mac[:, Col.TAPS])
