"""The mesh, one clock at a time: the PEs, and the lines that skew rows on their way in and deskew them on their
way out (docs/machine.md sections 2 to 4).

The dataflow is a register too, so each PE knows both behaviours. Only kernels live here; the state they work
on is laid out in `layout`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.array.layout import (
    ACT,
    BANK1,
    BANK2,
    CELL,
    CHAIN,
    DATAFLOW,
    EDGE_FLAGS,
    FLAGS,
    LANES,
    LAST_PROPAGATE,
    PROPAGATE,
    PSUM,
    SHIFT,
    SHIFT_LSB,
    TAG,
    VALID,
    Grid,
)
from emulator.jit import Int, stage

Words = npt.NDArray[np.int32]
Operand = npt.NDArray[np.int16]

# The spare bits of weights, partial sums and banks; the lowest partial sum, and where a MAC is clipped.
Widths = tuple[Int, Int, Int, Int, Int]

_i32 = np.int32

# What a PE hands down with every row, and what only with a valid one.
ALWAYS, GATED = np.int32(VALID | TAG), np.int32(PROPAGATE | DATAFLOW | SHIFT)


@stage
def cell(g: Grid, row: int, col: int) -> np.uint64:
    """First word of the cell of PE(row, col). Unsigned: numba would mend a negative index, which LLVM can't
    vectorise, and it has no integer sum of a signed and an unsigned one."""
    return np.uint64(((col // LANES) * (g.rows + 1) + row) * CELL + col % LANES)


@stage
def clock_cells(state: Words, g: Grid) -> None:
    """All PEs by one cycle, bottom row first, so that each one still reads its neighbours' old state."""
    # A MAC that wraps is clipped to what an int32 holds anyway.
    floor = _i32(g.psum_low) if g.saturate != 0 else _i32(-2147483648)
    widths = _i32(g.wgt_spare), _i32(g.psum_spare), _i32(g.bank_spare), _i32(g.psum_low), floor
    for block in range(g.blocks - 1, -1, -1):
        top = cell(g, 0, block * LANES)
        # The output registers below the last row load every cycle, valid or not.
        opened = _i32(VALID)
        for row in range(g.rows - 1, -1, -1):
            here = top + np.uint64(row * CELL)
            clock_block(state, here, widths, opened)
            opened = _i32(0)
            for lane in range(LANES - 1, 0, -1):
                state[here + ACT + np.uint64(lane)] = state[here + ACT + np.uint64(lane - 1)]
            if block > 0:
                state[here + ACT] = state[cell(g, row, block * LANES - 1) + ACT]


@stage
def clock_block(state: Words, here: np.uint64, widths: Widths, opened: Int) -> None:
    """LANES neighbouring PEs of a row by one cycle, and what they hand down to the row below, even where nothing is
    valid if `opened`."""
    weights, sums, banks, low, floor = widths
    for at in range(here, here + np.uint64(LANES)):
        below = at + np.uint64(CELL)
        psum, chain, flags = state[at + PSUM], state[at + CHAIN], state[at + FLAGS]
        bank1, bank2 = state[at + BANK1], state[at + BANK2]
        propagate, valid = (flags & PROPAGATE) != 0, (flags & VALID) != 0
        stationary_out, gate = (flags & DATAFLOW) != 0, valid | (opened != 0)
        moving, resting = bank1 if propagate else bank2, bank2 if propagate else bank1
        weight = narrow(psum if stationary_out else resting, weights)
        carry = narrow(resting, sums) if stationary_out else psum
        mac = narrow(clip(_i32(_i32(state[at + ACT] * weight) + carry), floor), sums)
        changed = ((flags & LAST_PROPAGATE) != 0) != propagate
        places = _i32((flags & SHIFT) >> SHIFT_LSB) if changed else _i32(0)
        shifted = clip(round_shift(moving, places), low)
        chain_out = shifted if stationary_out else narrow(moving, sums)
        kept = narrow(mac, banks) if stationary_out else resting
        fresh = narrow(chain, banks)
        state[at + BANK1] = (fresh if propagate else kept) if valid else bank1
        state[at + BANK2] = (kept if propagate else fresh) if valid else bank2
        state[at + FLAGS] = remember_propagate(flags)
        state[below + PSUM] = (psum if stationary_out else mac) if gate else state[below + PSUM]
        state[below + CHAIN] = chain_out if gate else state[below + CHAIN]
        state[below + FLAGS] = hand_down(flags, state[below + FLAGS], gate)


@stage
def remember_propagate(flags: Int) -> Int:
    """last_s takes propagate, where valid."""
    last = LAST_PROPAGATE if (flags & PROPAGATE) != 0 else 0
    return _i32((flags & ~LAST_PROPAGATE) | last) if (flags & VALID) != 0 else flags


@stage
def hand_down(flags: Int, before: Int, gate: bool) -> Int:
    """The flags of the row below, which held `before`."""
    taken = _i32(ALWAYS | GATED) if gate else ALWAYS
    return _i32((before & ~taken) | (flags & taken))


@stage
def narrow(value: Int, spare: Int) -> Int:
    """`wrap_signed` in int32, so that it vectorises, of words that leave `spare` of its bits. NumPy's shifts stay in
    int32, numba's own don't."""
    return _i32(np.right_shift(np.left_shift(_i32(value), spare), spare))


@stage
def clip(value: Int, low: Int) -> Int:
    return min(max(value, low), ~low)


@stage
def round_shift(value: Int, places: Int) -> Int:
    """value / 2^places, half to even, for 0 to 31 places."""
    mask = ~np.left_shift(_i32(-1), places)
    quotient = np.right_shift(value, places)
    # Up from just above the half, from the half itself if the quotient is odd; never with 0 places.
    even = (quotient & 1) == 0
    return _i32(quotient + _i32(_i32(value & mask) > _i32((mask >> 1) + even)))


@stage
def copy_words(target: Words, to: Int, source: Words | Operand, start: Int, count: int) -> None:
    """target[to : to + count] = source[start : start + count]; unsigned for the reason given in `cell`."""
    first, origin = np.uint64(to), np.uint64(start)
    for i in range(np.uint64(count)):
        target[first + i] = source[origin + i]


@stage
def fill_words(target: Words, to: Int, word: Int, count: int) -> None:
    """target[to : to + count] = word."""
    first = np.uint64(to)
    for i in range(np.uint64(count)):
        target[first + i] = word


@stage
def copy_row(
    target: Words, to: Int, source: Words | Operand, start: Int, count: int, there: bool | np.bool
) -> None:
    """`copy_words`, or zeros where the row is not `there`. Nothing is left out in either case: where an array is
    not used in one of two branches numba counts its references, which costs more than the copy."""
    copied = count if there else 0
    copy_words(target, to, source, start if there else 0, copied)
    fill_words(target, to + copied, 0, count - copied)


@stage
def fill_delay_lines(state: Words, g: Grid, head: int) -> None:
    """Row `head` of the ring takes what the edge and the output registers hold now."""
    operands = g.rows + 2 * g.cols
    row = g.ring + head * g.lanes
    copy_words(state, row, state, g.edge, operands)
    fill_words(state, row + operands, state[g.edge + operands + EDGE_FLAGS], g.cols)
    # One dataflow bit, that of column 0, picks the bus of all columns.
    output = cell(g, g.rows, 0)
    flags = state[output + FLAGS]
    bus = int(CHAIN if flags & DATAFLOW != 0 else PSUM)
    row += g.output_lane
    for col in range(0, g.cols, LANES):
        copy_words(state, row + col, state, int(cell(g, g.rows, col)) + bus, min(LANES, g.cols - col))
    state[row + g.cols] = flags


@stage
def feed_edges(state: Words, g: Grid, head: int) -> None:
    """Column 0 and row 0 take what was at the edge `row` or `col` cycles ago."""
    ring, end = np.uint64(g.ring), np.uint64(g.depth * g.lanes)
    lanes, cols = np.uint64(g.lanes), np.uint64(g.cols)
    back = np.uint64(head * g.lanes)
    here = cell(g, 0, 0)
    for row in range(np.uint64(g.rows)):
        state[here + row * np.uint64(CELL) + ACT] = state[ring + back + row]
        back = (back if back > 0 else end) - lanes
    back = np.uint64(head * g.lanes)
    for col in range(cols):
        feed_column(state, cell(g, 0, int(col)), ring + back + np.uint64(g.rows) + col, cols)
        back = (back if back > 0 else end) - lanes


@stage
def feed_column(state: Words, here: np.uint64, line: np.uint64, cols: np.uint64) -> None:
    """PE(0, col) takes the words of its skew lines, the first of which is at `line`."""
    flags = state[line + np.uint64(2) * cols]
    valid = (flags & VALID) != 0
    state[here + FLAGS] = hand_down(flags, state[here + FLAGS], valid)
    if valid:
        state[here + PSUM] = state[line]
        state[here + CHAIN] = state[line + cols]
