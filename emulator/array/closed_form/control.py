"""Control bits of the mesh: what a flip of valid, propagate, dataflow, shift or last_s adds to the accumulators.

A control register of PE(r, c) is loaded anew for every slot, so a flip in slot s goes down with that slot through rows
r and below, and no other slot sees it. What it leaves behind is wrong words:

- valid: rows >= r do nothing. Their banks keep what they hold, so the chain of the bank that shifts loses a step there;
  the registers below hold those of slot s - 1, so a weight-stationary result is the sum of slot s - 1 at the last row,
  which alone adds its own product of slot s. Column 0's valid also tells the accumulator that a row has come; where it
  would be one, rows are lost, and everything after them moves: that is for the cycle engine.
- propagate: rows >= r swap their banks for a slot, so the one in use is shifted, down from r, and the other one used.
- dataflow: rows >= r do a slot of the other dataflow, and put a sum where a weight is, or none where one was due.
  Column 0's also picks the bus for all columns: the word of slot s - c in column c is that of the other bus.
- shift and last_s: an output-stationary result is shifted by a wrong number of places, or at the wrong time.

How long the wrong words last. From slot u = s + 2 on all control is as ever (last_s is right only after s + 1). Let u
be step j of a fold that has `steps`. The bank in use: in a weight-stationary array the rows from u to the end of the
fold are off by a[r] * (change of word r), and then the bank only shifts out; in an output-stationary one the sum of row
r is off by the change of its word. The bank that shifts: a word moves down one row a slot. If it is in row r >= j it is
an old one: a weight nobody needs any more, or the result of row r - j on its way out, which step 0 has yet to shift.
If r < j it entered at the top, and rests in row r + (steps - j), if there is one, when the next fold begins: the
weight, or the start, of that row is off for all of that fold.

So a struck column is stepped through slots s - 1, whose words are held, s and s + 1, next to the same column as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.array.bits import wrap_signed
from emulator.array.closed_form.geometry import arrival
from emulator.array.closed_form.output_stationary import result_of
from emulator.array.closed_form.pe import Widths, widths
from emulator.array.closed_form.records import DEAD, Errors, Int32s, Ints, add_error, empty_errors
from emulator.array.closed_form.streams import (
    GROUP,
    M_SIZE,
    M_START,
    N_SIZE,
    N_START,
    Streams,
    act_tile,
    computes,
    place_of,
    result_at,
    steps_of,
    streams,
)
from emulator.array.closed_form.window import (
    CHAIN,
    DATAFLOW,
    GOLDEN,
    LAST_PROPAGATE,
    PROPAGATE,
    PSUM,
    SHIFT,
    VALID,
    WRONG,
    Column,
    Flip,
    empty_column,
    enter,
    hold,
    sum_after,
    sweep,
)
from emulator.array.exposure.lifetime import Flags, Sites
from emulator.array.operands import Streamed
from emulator.array.tiling import Schedule
from emulator.jit import Int, kernel

FIELD_OF = {
    **dict.fromkeys(("pe_valid", "skew_valid", "buf_valid"), VALID),
    **dict.fromkeys(("pe_propagate", "skew_control_propagate", "buf_propagate"), PROPAGATE),
    **dict.fromkeys(("pe_dataflow", "skew_control_dataflow", "buf_dataflow", "out_dataflow"), DATAFLOW),
    **dict.fromkeys(("pe_shift", "skew_control_shift", "buf_shift", "late_shift"), SHIFT),
    "pe_last_s": LAST_PROPAGATE,
}

# Slots in which a struck column is stepped, and a slot of the window that never comes.
WINDOW = 3
NEVER = -1
NO_FLIP = (NEVER, NEVER, VALID, 0)

# First slot, number of slots and array column of a window, and the errors found so far.
At = tuple[Int, Int, Int, int]


class Struck(NamedTuple):
    """(faults,) int64 each: the array row and the columns [first, last) that the flip comes down, none where the site
    is dead; its slot, field and bits; whether it also picks the wrong bus for what leaves with column 0's slot."""

    row: Ints
    first: Ints
    last: Ints
    slot: Ints
    field: Ints
    mask: Ints
    swaps: Ints


# ---- sites


def spoils_words_only(plan: Schedule, name: str, at: Sites) -> Flags:
    """(sites,): does a flip of control register `name` make words wrong, and moves no row?"""
    t = struck(plan, name, at, np.zeros_like(at.row))
    field, rows, end = FIELD_OF[name], plan.spec.rows, plan.total_slots
    right: Flags = t.first > 0
    if field == DATAFLOW and name != "out_dataflow":
        # With no slot behind it column 0's last bit is not loaded again, and goes on picking the wrong bus.
        stays: Flags = (t.slot == end - 1) | ((t.slot >= end) & (t.row == rows - 1) & (name == "pe_dataflow"))
        return right | ~stays
    if field != VALID:
        return np.ones_like(right)
    if not plan.output_stationary:
        return right | (t.slot < rows)
    # Output-stationary, rows are results in the first request behind a fold, and would be behind the last slot.
    ends = plan.first_slot + plan.slots
    fold = np.searchsorted(ends, t.slot, side="right") - 1
    no_result: Flags = (fold < 0) | ((t.slot - ends[fold] >= rows) & (t.slot < end))
    return right | no_result


def struck(plan: Schedule, name: str, at: Sites, fold: Ints) -> Struck:
    """The flips of register `name`; fold is below zero where the site is dead."""
    zero = np.zeros_like(at.row)
    if name.startswith(("buf_", "late_")):
        # The edge register takes late_shift only with the next slot.
        slot, row, first = at.cycle - (0 if name == "late_shift" else 1), zero, zero
        last = np.full_like(zero, plan.spec.cols)
    else:
        slot, row, first = arrival(plan, name, at)
        last = first if name == "out_dataflow" else first + 1
    # PEs hold zeros before the first slot, and nobody reads them after the last.
    live = (fold >= 0) & (slot >= 0)
    entered = live & (slot < plan.total_slots)
    picks = FIELD_OF[name] == DATAFLOW
    return Struck(
        row=row,
        first=first,
        last=np.where(entered, last, first),
        slot=slot,
        field=np.full_like(zero, FIELD_OF[name]),
        mask=np.left_shift(np.int64(1), at.bit),
        swaps=np.where(picks & (first == 0), live if name == "out_dataflow" else entered, zero),
    )


def errors_of(
    plan: Schedule, name: str, at: Sites, fold: Ints, x: Streamed, chosen: slice
) -> tuple[Errors, int]:
    """The errors of each of the chosen flips and how many there are in all."""
    t = struck(plan, name, Sites(*(column[chosen] for column in at)), fold[chosen])
    # What the banks hold after the window matters in the fold that is on then and in the next one.
    on = np.searchsorted(plan.first_slot, t.slot + WINDOW - 1, side="right")
    rows = np.concatenate(([0], plan.m_size, [0, 0]))
    most = np.where(plan.output_stationary, 2 * plan.spec.rows, rows[on] + rows[on + 1]) + WINDOW
    errors = empty_errors(len(t.row), int((most * (t.last - t.first) + plan.spec.cols * t.swaps).sum()))
    sums = np.zeros((plan.streamed.m, plan.streamed.groups * plan.streamed.n), np.int64)
    sizes = plan.spec.cols, plan.total_slots
    return errors, control_errors(streams(plan, x), widths(plan.spec), sizes, t, sums, errors)


# ---- kernels


class Noted(NamedTuple):
    """sums (m, groups * n) int64: the errors of one fault, zero elsewhere; m, n: where they are, fault after fault."""

    sums: Ints
    m: Int32s
    n: Int32s


@kernel
def control_errors(x: Streams, k: Widths, sizes: tuple[int, int], t: Struck, sums: Ints, e: Errors) -> int:
    """Every fault; sizes: array columns, slots of the layer; sums (m, groups * n) int64: zeros, for scratch."""
    column, noted = empty_column(WINDOW, x.rows), Noted(sums, e.m, e.n)
    cols, slots = sizes
    used = 0
    for i in range(t.row.shape[0]):
        found = used
        start = max(t.slot[i] - 1, 0)
        flip = (t.row[i], t.slot[i] - start, t.field[i], t.mask[i])
        for col in range(t.first[i], t.last[i]):
            at = (start, min(t.slot[i] + 2, slots) - start, col, found)
            swapped = flip[1] if t.swaps[i] != 0 and col == 0 else NEVER
            found = strike_column(x, k, column, at, flip, swapped, noted)
            e.before[i] = value_at(column, x, t, i, flip[1])
            e.after[i] = e.before[i] ^ t.mask[i]
            if at[0] + at[1] < slots:
                found = note_banks(x, k, column, (*at[:3], found), noted)
        # Column 0 itself has been done, unless the bit is below it.
        for col in range(min(t.last[i], 1), cols if t.swaps[i] != 0 else 0):
            if 0 <= t.slot[i] - col < slots:
                at = (t.slot[i] - col, np.int64(1), col, found)
                found = strike_column(x, k, column, at, NO_FLIP, 0, noted)
                e.before[i] = 1 if x.output_stationary else 0
                e.after[i] = 1 - e.before[i]
        used = settle(noted, k, e, used, found)
        e.ptr[i + 1] = used
    return used


@kernel
def strike_column(
    x: Streams, k: Widths, column: Column, at: At, flip: Flip, swapped: Int, noted: Noted
) -> int:
    """A column through a window, golden and wrong, and the errors of what leaves it; in slot `swapped` of the window
    the bus is the wrong one."""
    start, count, col, used = at
    hold(column, x, k, start, col)
    enter(column, x, start, count, col)
    for which in (GOLDEN, WRONG):
        sweep(column, which, count, flip, k)
    bus, other = (CHAIN, PSUM) if x.output_stationary else (PSUM, CHAIN)
    for i in range(count):
        fold, step = place_of(x, start + i)
        of, row = result_at(x, fold, step)
        n = column_of(x, of, col)
        if n != DEAD:
            wrong = column.lines[WRONG, other if i == swapped else bus, i]
            delta = wrong - column.lines[GOLDEN, bus, i]
            used = note(noted, used, x.table[M_START, of] + row, n, delta)
    return used


@kernel
def value_at(column: Column, x: Streams, t: Struck, i: int, step: Int) -> Int:
    """What the struck register of fault i holds in its slot, step `step` of the window: for all but last_s that is the
    same in every row."""
    if t.field[i] != LAST_PROPAGATE:
        return np.int64(column.lines[GOLDEN, t.field[i], step])
    fold, since = place_of(x, t.slot[i])
    return np.int64((fold if since > 0 else fold - 1) & 1)


# ---- what is wrong


@kernel
def note(noted: Noted, used: int, m: Int, n: Int, delta: Int) -> int:
    """Add to the error of accumulator (m, n), which is new if it was zero."""
    noted.m[used] = m
    noted.n[used] = n
    new = noted.sums[m, n] == 0 and delta != 0
    noted.sums[m, n] += delta
    return used + (1 if new else 0)


@kernel
def settle(noted: Noted, k: Widths, e: Errors, used: int, found: int) -> int:
    """The errors noted in [used, found) for good, without those that came to nothing."""
    for i in range(used, found):
        m, n = noted.m[i], noted.n[i]
        delta = wrap_signed(noted.sums[m, n], k.acc)
        noted.sums[m, n] = 0
        used = add_error(e, used, m, n, delta)
    return used


@kernel
def column_of(x: Streams, fold: Int, col: Int) -> Int:
    """The accumulator column that array column `col` works on in a fold, DEAD where it idles."""
    if not computes(x, fold) or col >= x.table[N_SIZE, fold]:
        return np.int64(DEAD)
    return np.int64(x.table[GROUP, fold] * x.wgt.shape[2] + x.table[N_START, fold] + col)


@kernel
def note_banks(x: Streams, k: Widths, column: Column, at: At, noted: Noted) -> int:
    """What wrong words in the banks make wrong after a window."""
    start, count, col, used = at
    fold, step = place_of(x, start + count)
    moving, resting, left = 1 - (fold & 1), fold & 1, steps_of(x, fold) - step
    bits = k.psum if x.output_stationary else k.wgt
    here, coming = np.zeros((2, x.rows), np.int64)
    was, now = column.banks[GOLDEN], column.banks[WRONG]
    for row in range(x.rows):
        here[row] = wrap_signed(now[resting, row], bits) - wrap_signed(was[resting, row], bits)
        if row + left < x.rows:
            coming[row + left] = wrap_signed(now[moving, row], bits) - wrap_signed(was[moving, row], bits)
    if not x.output_stationary:
        used = note_products(x, (fold, step, col, used), here, noted)
        return note_products(x, (fold + 1, np.int64(0), col, used), coming, noted)
    used = note_leaving(x, k, (fold - 1, step, col, used), was[moving], now[moving], noted)
    used = note_sums(x, k, (fold, step, col, used), here, noted)
    return note_sums(x, k, (fold + 1, np.int64(0), col, used), coming, noted)


@kernel
def note_products(x: Streams, at: At, change: Ints, noted: Noted) -> int:
    """The weights of a fold are off by `change` (rows,) from a step on; at = (fold, step, col, errors so far)."""
    fold, step, col, used = at
    n = column_of(x, fold, col)
    if n == DEAD or not change.any():
        return used
    acts = act_tile(x, fold)
    for i in range(step, acts.shape[0]):
        delta: Int = 0
        for row in range(acts.shape[1]):
            delta += np.int64(acts[i, row]) * change[row]
        used = note(noted, used, x.table[M_START, fold] + i, n, delta)
    return used


@kernel
def note_sums(x: Streams, k: Widths, at: At, change: Ints, noted: Noted) -> int:
    """The sums of an output-stationary fold are off by `change` (rows,); at as above."""
    fold, _, col, used = at
    n = column_of(x, fold, col)
    if n == DEAD or not change.any():
        return used
    total = np.empty(x.rows, np.int64)
    sum_after(x, k, fold, steps_of(x, fold), col, total)
    for row in range(x.table[M_SIZE, fold]):
        now = result_of(wrap_signed(total[row] + change[row], k.psum), k.psum, x.shift)
        delta = now - result_of(total[row], k.psum, x.shift)
        used = note(noted, used, x.table[M_START, fold] + row, n, delta)
    return used


@kernel
def note_leaving(x: Streams, k: Widths, at: At, was: Ints, now: Ints, noted: Noted) -> int:
    """The results of a fold, in a bank that has shifted for some steps of the next one; at as above."""
    fold, step, col, used = at
    n = column_of(x, fold, col)
    if n == DEAD:
        return used
    shift = x.shift if step == 0 else 0
    for row in range(step, min(x.rows, step + x.table[M_SIZE, fold])):
        delta = result_of(now[row], k.psum, shift) - result_of(was[row], k.psum, shift)
        used = note(noted, used, x.table[M_START, fold] + row - step, n, delta)
    return used
