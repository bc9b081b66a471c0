"""One column of the array for a few slots, exactly: every register of its PEs, as they are and with one bit flipped.

The column starts from what its PEs hold before the first of these slots, which is known: the bank in use holds the
fold's weights, or sums over the steps so far; the bank that shifts holds in row r, before step j, what entered at d in
step j - 1 - r, or else what was in row r - j when the fold began.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.array.bits import wrap_signed
from emulator.array.closed_form.output_stationary import result_of
from emulator.array.closed_form.pe import Widths, clocked
from emulator.array.closed_form.records import Ints
from emulator.array.closed_form.streams import (
    Streams,
    act_tile,
    place_of,
    shift_at,
    stationary_tile,
    steps_of,
    streamed_tile,
    take_column,
    word,
)
from emulator.jit import Int, kernel

# Which of the two columns.
GOLDEN, WRONG = range(2)

# What comes down a column with a slot, the first five gated by valid; each PE has a LAST_PROPAGATE of its own.
PSUM, CHAIN, PROPAGATE, DATAFLOW, SHIFT, VALID, LAST_PROPAGATE = range(7)
GATED, LINES = 5, 6

# Row, slot counted from the first, field and bits.
Flip = tuple[Int, Int, Int, Int]


class Column(NamedTuple):
    """acts (slots, rows): what passes in each slot; lines (2, LINES, slots): what comes down to the row that is on;
    banks (2, 2, rows) and last (2, rows), the propagate of the slot before: what the PEs hold before the next slot. All
    int64; the first axis of the last three is GOLDEN or WRONG."""

    acts: Ints
    lines: Ints
    banks: Ints
    last: Ints


@kernel
def empty_column(slots: int, rows: int) -> Column:
    return Column(
        np.zeros((slots, rows), np.int64),
        np.zeros((2, LINES, slots), np.int64),
        np.zeros((2, 2, rows), np.int64),
        np.zeros((2, rows), np.int64),
    )


@kernel
def sum_after(x: Streams, k: Widths, fold: Int, steps: Int, col: Int, sums: Ints) -> None:
    """Output-stationary: sums (rows,), what the PEs of a column hold after `steps` of a fold."""
    acts, weights, start = act_tile(x, fold), streamed_tile(x, fold), stationary_tile(x, fold)
    for row in range(x.rows):
        total = word(start, row, col)
        if row < acts.shape[1] and col < weights.shape[1]:
            for i in range(min(steps, acts.shape[0])):
                total += np.int64(acts[i, row]) * np.int64(weights[i, col])
        sums[row] = wrap_signed(total, k.psum)


@kernel
def hold(column: Column, x: Streams, k: Widths, slot: Int, col: Int) -> None:
    """What the PEs of both columns hold before `slot`."""
    fold, step = place_of(x, slot)
    resting, before = np.empty((2, x.rows), np.int64)
    if x.output_stationary:
        sum_after(x, k, fold, step, col, resting)
        sum_after(x, k, fold - 1, steps_of(x, fold - 1), col, before)
    else:
        take_column(stationary_tile(x, fold), col, resting)
        take_column(stationary_tile(x, fold - 1), col, before)
    coming, left = stationary_tile(x, fold + 1), steps_of(x, fold) - step
    for row in range(x.rows):
        if row < step:
            moving = word(coming, left + row, col)
        elif x.output_stationary and step > 0:
            moving = result_of(before[row - step], k.psum, x.shift)
        else:
            moving = before[row - step]
        for which in range(2):
            column.banks[which, fold & 1, row] = resting[row]
            column.banks[which, 1 - (fold & 1), row] = moving
            column.last[which, row] = (fold if step > 0 else fold - 1) & 1


@kernel
def enter(column: Column, x: Streams, start: Int, count: Int, col: Int) -> None:
    """What enters both columns in `count` slots from `start` on."""
    for i in range(count):
        fold, step = place_of(x, start + i)
        acts = act_tile(x, fold)
        for row in range(x.rows):
            column.acts[i, row] = word(acts, step, row)
        psum = word(streamed_tile(x, fold), step, col)
        chain = word(stationary_tile(x, fold + 1), steps_of(x, fold) - 1 - step, col)
        for which in range(2):
            lines = column.lines[which]
            lines[PSUM, i] = psum
            lines[CHAIN, i] = chain
            lines[PROPAGATE, i] = fold & 1
            lines[DATAFLOW, i] = 1 if x.output_stationary else 0
            lines[SHIFT, i] = shift_at(x, fold, step)
            lines[VALID, i] = 1


@kernel
def sweep(column: Column, which: int, count: Int, flip: Flip, k: Widths) -> None:
    """The slots through one of the columns; WRONG has the flip."""
    acts, lines, banks, last = column.acts, column.lines[which], column.banks[which], column.last[which]
    rows = len(last)
    for row in range(rows):
        for i in range(count):
            if which == WRONG and row == flip[0] and i == flip[1]:
                strike(lines, last, flip)
            propagate, valid = lines[PROPAGATE, i], lines[VALID, i] != 0
            moving, resting = banks[1 - propagate, row], banks[propagate, row]
            words = (acts[i, row], lines[PSUM, i], lines[CHAIN, i], moving, resting)
            shift = int(lines[SHIFT, i]) if last[row] != propagate else 0
            psum, chain, moving, resting = clocked(words, lines[DATAFLOW, i] != 0, shift, k)
            if valid:
                banks[1 - propagate, row], banks[propagate, row] = moving, resting
                last[row] = propagate
            # The registers below hold what they have, but those below the last row load always.
            if valid or row == rows - 1:
                lines[PSUM, i], lines[CHAIN, i] = psum, chain
            else:
                for line in range(GATED):
                    lines[line, i] = lines[line, i - 1] if i > 0 else 0


@kernel
def strike(lines: Ints, last: Ints, flip: Flip) -> None:
    row, i, field, mask = flip
    if field == LAST_PROPAGATE:
        last[row] ^= mask
    else:
        lines[field, i] ^= mask
