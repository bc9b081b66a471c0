"""Operators other than MAC layers whose input changed: the elements that see a change, by the very functions of the
golden run."""

from __future__ import annotations

import numpy as np

from emulator.graph.kernels import average_at, global_averages, max_at, pair_at, table_at
from emulator.graph.program import Col, Kind, Program
from emulator.jit import Int, borrowing, borrowing_stage
from emulator.propagate.scratch import Scratch, Values, changed_channels, lay_out, settle, touch
from emulator.propagate.views import span
from emulator.simd import add_pairs


@borrowing
def sparse_table(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """A unary operator: the same element again."""
    row, v, view = p.ops[op], s.views, s.views.source[op]
    for unit in s.units[v.start[view] : v.start[view] + s.counts[view]]:
        first = span(v, view, unit)[0]
        for channel in changed_channels(s, view, unit):
            element = first + channel
            settle(p, s, golden, row[Col.TARGET], element, table_at(p, row, s.current, element))
    lay_out(p, s, golden, row[Col.TARGET])


@borrowing
def sparse_pair(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """A binary operator: where something changed on the left, and where only something on the right did."""
    v = s.views
    left, right, target = v.source[op], v.right[op], p.ops[op, Col.TARGET]
    for unit in s.units[v.start[left] : v.start[left] + s.counts[left]]:
        if _pair_unit(p, s, golden, op, left, np.int64(unit)):
            touch(s, target, np.int64(unit))
    if right != left:
        for unit in s.units[v.start[right] : v.start[right] + s.counts[right]]:
            both = p.ops[op, Col.RULED] and s.spread.mark[v.start[left] + unit] != 0
            if not both and _pair_unit(p, s, golden, op, right, np.int64(unit)):
                touch(s, target, np.int64(unit))
    lay_out(p, s, golden, target)


@borrowing_stage
def _pair_unit(p: Program, s: Scratch, golden: Values, op: Int, view: Int, unit: Int) -> bool:
    """A unit of which the operand seen in `view` has changed; has the result?"""
    row, v = p.ops[op], s.views
    first, length = span(v, view, unit)
    start = p.tensor_start[row[Col.TARGET]] + first
    if row[Col.RULED]:
        left, right = p.tensor_start[row[Col.SOURCE]] + first, p.tensor_start[row[Col.RIGHT]] + first
        return add_pairs(
            s.current, left, s.current, right, p.real, row[Col.REAL_START], length, golden, s.current, start
        )
    differs = False
    for channel in changed_channels(s, view, unit):
        value = pair_at(p, row, s.current, first + channel)
        differs |= value != golden[start + channel]
        s.current[start + channel] = value
    return differs


@borrowing
def sparse_move(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """Every place a changed value moves to."""
    row, v, view = p.ops[op], s.views, s.views.source[op]
    start = p.tensor_start[row[Col.SOURCE]]
    reach, place = s.readers.table[s.readers.start[op] :], p.indices[row[Col.PLACE_START] :]
    readers = reach[reach[0] + 2 :]
    for unit in s.units[v.start[view] : v.start[view] + s.counts[view]]:
        first = span(v, view, unit)[0]
        for channel in changed_channels(s, view, unit):
            element = first + channel
            if element < reach[0]:
                for reader in readers[reach[1 + element] : reach[2 + element]]:
                    settle(p, s, golden, row[Col.TARGET], place[reader], s.current[start + element])
    lay_out(p, s, golden, row[Col.TARGET])


@borrowing
def sparse_global_average(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """The mean of every channel: adding all up takes less than to see which have changed."""
    row = p.ops[op]
    means = s.sums[: row[Col.CHANNELS]]
    global_averages(p, row, s.current, means)
    for channel in range(len(means)):
        settle(p, s, golden, row[Col.TARGET], channel, means[channel])
    lay_out(p, s, golden, row[Col.TARGET])


@borrowing
def sparse_pool(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """Every pooling window that sees a changed element."""
    row, v, view = p.ops[op], s.views, s.views.source[op]
    channels = row[Col.CHANNELS]
    reach, tap_bits = s.readers.table[s.readers.start[op] :], s.readers.tap_bits[op]
    readers = reach[reach[0] + 2 :]
    for unit in s.units[v.start[view] : v.start[view] + s.counts[view]]:
        pixel, first = divmod(span(v, view, unit)[0], channels)
        if pixel >= reach[0]:
            continue
        for reader in readers[reach[1 + pixel] : reach[2 + pixel]]:
            target = (np.int64(reader) >> tap_bits) * channels + first
            for channel in changed_channels(s, view, unit):
                element = target + channel
                if row[Col.KIND] == Kind.MAX_POOL:
                    value = max_at(p, row, s.current, element)
                else:
                    value = average_at(p, row, s.current, element)
                settle(p, s, golden, row[Col.TARGET], element, value)
    lay_out(p, s, golden, row[Col.TARGET])
