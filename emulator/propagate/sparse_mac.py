"""MAC layers whose input changed: linearity mod 2^32, acc' = acc + weight * change, where the input changed only.

Two ways to the same integers. Where the vectors of `emulator.simd` can, the changes are laid out and each accumulator
row that reads some of them is recomputed in registers; else each changed pixel adds to the rows that read it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.graph.program import Col, Program
from emulator.jit import Int, borrowing, stage
from emulator.propagate.scratch import Ints, Scratch, Values, noted
from emulator.simd import (
    Changes,
    Row,
    add_changes,
    clear_changes,
    in_words,
    lay_changes,
    list_words,
    settle_row,
    sum_width,
)
from emulator.simd.requantise import requantise_row


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
    reach, tap_bits = s.readers.table[s.readers.start[op] :], s.readers.tap_bits[op]
    pixels, readers = reach[0], reach[reach[0] + 2 :]
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
            m = np.int64(readers[j]) >> tap_bits
            tap, at = readers[j] - (m << tap_bits), m * groups + group
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
def _parted(unit: Int, groups: Int) -> tuple[Int, Int]:
    """Pixel and group; mostly there is one group, and a division takes longer than all the rest."""
    return (unit, 0) if groups == 1 else divmod(unit, groups)


@stage
def _rows_reading(s: Scratch, op: Int, units: Int, groups: Int) -> Int:
    """The accumulator rows that read one of the units laid out; how many."""
    reach, tap_bits = s.readers.table[s.readers.start[op] :], s.readers.tap_bits[op]
    pixels, readers = reach[0], reach[reach[0] + 2 :]
    rows: Int = 0
    for i in range(units):
        pixel, group = _parted(np.int64(s.laid.units[i]), groups)
        if pixel >= pixels:
            continue
        for j in range(reach[1 + pixel], reach[2 + pixel]):
            rows = _mark(s, (np.int64(readers[j]) >> tap_bits) * groups + group, rows, 0)
    return rows


@borrowing
def sparse_mac(p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int) -> None:
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
    for i in range(_rows_reading(s, op, units, row[Col.GROUPS])):
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
    zero_point, low, high = row[Col.ZERO_POINT], row[Col.LOW], row[Col.HIGH]
    packed = p.packed[row[Col.PACKED_START] :]
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
    for i in range(n):
        added[i] = np.int32(total[i] + added[i])
    zero_point, low, high, values = row[Col.ZERO_POINT], row[Col.LOW], row[Col.HIGH], s.row_values[:n]
    requantise_row(added, p.scale[column : column + n], zero_point, low, high, values)
    added[:] = 0
    start, count = p.tensor_start[target], s.counts[target]
    before, after, changed = golden[start:], s.current[start:], s.touched[start:]
    for i in range(n):
        count = noted(before, after, changed, first + i, values[i], count)
    s.counts[target] = count
