"""MAC layers whose input changed: linearity mod 2^32, acc' = acc + weight * change, where the input changed only.

A row of sums that reads a change is recomputed whole. Depthwise layers have a row for each unit of channels, and no two
channels in a sum.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.graph.program import Col, Program
from emulator.jit import Int, borrowing, borrowing_stage
from emulator.propagate.scratch import Scratch, Values, lay_out, touch
from emulator.propagate.views import unit_of
from emulator.simd import Reading, Settling, read_by, settle_row
from emulator.simd.requantise import requantise_row

Accumulators = npt.NDArray[np.int32]


@borrowing_stage
def parted(number: Int, parts: Int) -> tuple[Int, Int]:
    """Quotient and remainder; mostly there is one part, and a division takes longer than all the rest."""
    return (number, 0) if parts == 1 else divmod(number, parts)


@borrowing
def rows_reading(p: Program, s: Scratch, op: Int, groups: Int) -> Int:
    """The rows, output pixel * groups + group, that read what has changed, into s.rows, each with the queue of what it
    reads; how many."""
    v, view, tap_bits = s.views, s.views.source[op], s.readers.tap_bits[op]
    reach = s.readers.table[s.readers.start[op] :]
    pixels, readers = reach[0], reach[reach[0] + 2 :]
    rows: Int = 0
    for number in s.units[v.start[view] : v.start[view] + s.counts[view]]:
        run, part = parted(np.int64(number), v.parts[view])
        pixel, group = parted(run, groups)
        if pixel >= pixels:
            continue
        rows = read_by(
            readers[reach[1 + pixel] : reach[2 + pixel]], tap_bits, groups, group, v.depth[view],
            part * v.part[view], s.spread, v.start[view] + number,
            v.place[view] + number * v.room[view], s.queues, s.rows, rows,
        )  # fmt: skip
    return rows


@borrowing_stage
def touch_run(s: Scratch, view: Int, run: Int, length: Int) -> None:
    """The run-th `length` elements of a tensor, some of which have changed."""
    v = s.views
    if v.depth[view] == length:
        # Mostly they are a run of the view, too, and divisions take longer than all the rest.
        for unit in range(run * v.parts[view], (run + 1) * v.parts[view]):
            touch(s, view, unit)
        return
    first = run * length
    for unit in range(unit_of(v, view, first), unit_of(v, view, first + length - 1) + 1):
        touch(s, view, unit)


@borrowing
def sparse_mac(p: Program, s: Scratch, golden: Values, acc: Accumulators, op: Int) -> None:
    """A MAC layer whose input changed somewhere."""
    row, view = p.ops[op], s.views.source[op]
    target, n, groups = row[Col.TARGET], row[Col.N], row[Col.GROUPS]
    if row[Col.DEPTHWISE]:
        for at in s.rows[: rows_reading(p, s, op, 1)]:
            s.queues.mark[at] = 0
            for part in range(s.views.parts[view]):
                _depthwise_row(p, s, golden, acc, op, np.int64(at), part)
    elif groups == 1:
        # What all rows share is looked up once: row by row, as for groups, a fault takes 6 % longer.
        reading, it = _reading(p, s, op, 0), _settling(p, s, golden, acc, op, 0)
        for at in s.rows[: rows_reading(p, s, op, 1)]:
            if settle_row(reading, it, s.queues, np.int64(at), np.int64(at)):
                touch_run(s, target, np.int64(at), n)
    else:
        for at in s.rows[: rows_reading(p, s, op, groups)]:
            pixel, group = divmod(np.int64(at), groups)
            reading, it = _reading(p, s, op, group), _settling(p, s, golden, acc, op, group)
            if settle_row(reading, it, s.queues, np.int64(at), pixel):
                touch_run(s, target, np.int64(at), n)
    lay_out(p, s, golden, target)


@borrowing_stage
def _reading(p: Program, s: Scratch, op: Int, group: Int) -> Reading:
    """What the rows of a group read."""
    row, v, view = p.ops[op], s.views, s.views.source[op]
    parts, depth, n = v.parts[view], v.depth[view], row[Col.N]
    return Reading(
        s.spread,
        p.indices,
        row[Col.TAPS_START],
        row[Col.TAPS],
        row[Col.GROUPS] * parts,
        v.start[view] + group * parts,
        parts,
        v.part[view],
        v.place[view] - v.start[view] * v.room[view],
        v.room[view],
        p.weight,
        row[Col.WEIGHT_START] + group * row[Col.K] * row[Col.ROW_BYTES],
        depth,
        n,
        s.sums,
        s.values,
    )


@borrowing_stage
def _settling(p: Program, s: Scratch, golden: Values, acc: Accumulators, op: Int, group: Int) -> Settling:
    """How sums of a group become values."""
    row = p.ops[op]
    skipped = group * row[Col.N]
    return Settling(
        row[Col.GROUPS] * row[Col.N],
        acc,
        row[Col.ACC_START] + skipped,
        p.scale,
        p.weight_zero,
        row[Col.LOPSIDED],
        row[Col.BIAS_START] + skipped,
        row[Col.ZERO_POINT],
        row[Col.LOW],
        row[Col.HIGH],
        golden,
        s.current,
        p.tensor_start[row[Col.TARGET]] + skipped,
    )


@borrowing_stage
def _depthwise_row(
    p: Program, s: Scratch, golden: Values, acc: Accumulators, op: Int, pixel: Int, part: Int
) -> None:
    """The sums of one unit of channels at an output pixel."""
    row, v, view = p.ops[op], s.views, s.views.source[op]
    channels, first = row[Col.CHANNELS], part * v.part[view]
    width = min(v.part[view], channels - first)
    start, sums = p.tensor_start[row[Col.SOURCE]], s.sums[:width]
    seen = False
    for tap in range(row[Col.TAPS]):
        source = p.indices[row[Col.TAPS_START] + pixel * row[Col.TAPS] + tap]
        if source < 0 or s.spread.mark[v.start[view] + source * v.parts[view] + part] == 0:
            continue
        if not seen:
            sums[:] = 0
            seen = True
        element = start + source * channels + first
        current, before = s.current[element:][:width], golden[element:][:width]
        weights = p.weight[row[Col.WEIGHT_START] + tap * channels + first :][:width]
        for i in range(width):
            change = np.int32(current[i]) - np.int32(before[i])
            sums[i] = np.int32(sums[i] + change * np.int32(weights[i]))
        if row[Col.LOPSIDED]:
            zero = p.weight_zero[row[Col.BIAS_START] + first :][:width]
            for i in range(width):
                change = np.int32(current[i]) - np.int32(before[i])
                sums[i] = np.int32(sums[i] - change * zero[i])
    if seen:
        _settle_channels(p, s, golden, acc, op, pixel, first, width)


@borrowing_stage
def _settle_channels(
    p: Program, s: Scratch, golden: Values, acc: Accumulators, op: Int, pixel: Int, first: Int, width: Int
) -> None:
    """s.sums to the accumulators of `width` channels from `first` on, and requantised."""
    row, v = p.ops[op], s.views
    target = row[Col.TARGET]
    column, at = row[Col.BIAS_START] + first, pixel * row[Col.CHANNELS] + first
    sums, values, before = s.sums[:width], s.values[:width], acc[row[Col.ACC_START] + at :][:width]
    for i in range(width):
        sums[i] = np.int32(sums[i] + before[i])
    requantise_row(sums, p.scale[column:][:width], row[Col.ZERO_POINT], row[Col.LOW], row[Col.HIGH], values)
    start = p.tensor_start[target] + at
    differs = False
    for i in range(width):
        differs |= values[i] != golden[start + i]
        s.current[start + i] = values[i]
    if differs:
        for unit in range(unit_of(v, target, at), unit_of(v, target, at + width - 1) + 1):
            touch(s, target, unit)
