"""The mesh, one clock at a time: every register of every PE and edge, any fault in any of them.

The dataflow is a register too, so each PE knows both behaviours. Only kernels live here; the state they work
on is laid out in `layout`. With NUMBA_DISABLE_JIT=1 this file is the readable definition of the machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.bits import wrap_signed
from emulator.array.layout import (
    ACT,
    ADDRESS,
    BANK1,
    BANK2,
    BITS,
    CELL,
    CHAIN,
    COUNT,
    DATAFLOW,
    DRAINED_BLOCK,
    EDGE_DATAFLOW,
    EDGE_PROPAGATE,
    EDGE_SHIFT,
    EDGE_TAG,
    EDGE_VALID,
    FIRST,
    KIND,
    LANES,
    LAST,
    LAST_PROPAGATE,
    LAST_RESULT,
    LATE_SHIFT,
    MASK,
    NOT_IN_RING,
    PROPAGATE,
    PSUM,
    SHIFT,
    SIGNED,
    STAGE,
    TAG,
    VALID,
    Grid,
)
from emulator.jit import Int, kernel

Words = npt.NDArray[np.int32]
Table = npt.NDArray[np.int64]

# Columns of the request table: memory row of the first result row (-1: results go nowhere), step to the next
# one, rows kept, first bias word (-1: add to what the memory holds, else overwrite with bias + result).
BASE, STEP, KEPT, BIAS = range(4)
# Columns of the drain table: first cycle, rows; where in the result: first row, first column, columns.
START, ROWS, TO_ROW, TO_COL, COLS = range(5)

_i32 = np.int32


class Streams(NamedTuple):
    """What enters at the edge, one row a slot: the words of buf_a, buf_b and buf_d, flat; the request fields
    propagate, dataflow and shift, the last of which reaches the PEs a slot late."""

    operands: Words
    fields: Words


class Sink(NamedTuple):
    """Where results go: tables with the columns above, bias words, the drained result (rows, columns)."""

    requests: Table
    bias: Words
    drains: Table
    result: Words


@kernel
def advance(
    state: Words, g: Grid, upsets: Table, streams: Streams, sink: Sink, start: int, cycles: int
) -> None:
    """Run cycles [start, start + cycles): slot start + i of the streams is accepted in cycle start + i, and
    once they are used up the array idles."""
    operands, fields = streams
    requests, bias, drains, result = sink
    for cycle in range(start, start + cycles):
        head = cycle % g.depth
        apply_upsets(state, g, upsets, cycle)
        drain_rows(state, g, drains, result, cycle)
        fill_delay_lines(state, g, head)
        take_result_row(state, g, requests, bias, head, cycle)
        clock_cells(state, g)
        feed_edges(state, g, head)
        close_edge(state, g)
        if cycle - start < fields.shape[0]:
            accept_slot(state, g, operands, fields, cycle - start, cycle)


@kernel
def apply_upsets(state: Words, g: Grid, upsets: Table, cycle: int) -> None:
    """Overwrite what the registers hold at the start of `cycle`."""
    for i in range(upsets.shape[0]):
        if cycle < upsets[i, FIRST] or cycle > upsets[i, LAST]:
            continue
        address = upsets[i, ADDRESS]
        if upsets[i, STAGE] != NOT_IN_RING:
            address += ((cycle - 1 - upsets[i, STAGE]) % g.depth) * g.lanes
        value = np.int64(state[address])
        if upsets[i, KIND] == 0:
            value ^= upsets[i, MASK]
        elif upsets[i, KIND] == 1:
            value &= ~upsets[i, MASK]
        else:
            value |= upsets[i, MASK]
        if upsets[i, SIGNED] != 0:
            state[address] = wrap_signed(value, upsets[i, BITS])
        else:
            state[address] = value & ((1 << upsets[i, BITS]) - 1)


@kernel
def cell(g: Grid, row: int, col: int) -> np.uint64:
    """First word of the cell of PE(row, col). Unsigned: numba would mend a negative index, which LLVM can't
    vectorise, and it has no integer sum of a signed and an unsigned one."""
    return np.uint64(((col // LANES) * (g.rows + 1) + row) * CELL + col % LANES)


@kernel
def clock_cells(state: Words, g: Grid) -> None:
    """All PEs by one cycle, bottom row first, so that each one still reads its neighbours' old state."""
    widths = _i32(g.psum_mask), _i32(g.psum_low), _i32(g.bank_mask), _i32(g.bank_low)
    for block in range(g.blocks - 1, -1, -1):
        for row in range(g.rows - 1, -1, -1):
            here = cell(g, row, block * LANES)
            # The output registers below the last row load every cycle, valid or not.
            clock_block(state, here, widths, _i32(1 if row == g.rows - 1 else 0))
            for lane in range(LANES - 1, 0, -1):
                state[here + ACT + np.uint64(lane)] = state[here + ACT + np.uint64(lane - 1)]
            if block > 0:
                state[here + ACT] = state[cell(g, row, block * LANES - 1) + ACT]


@kernel
def clock_block(state: Words, here: np.uint64, widths: tuple[Int, Int, Int, Int], open_gate: Int) -> None:
    """LANES neighbouring PEs of a row by one cycle, and what they hand down to the row below."""
    mask, low, bank_mask, bank_low = widths
    for at in range(here, here + np.uint64(LANES)):
        below = at + np.uint64(CELL)
        psum, chain, shift = state[at + PSUM], state[at + CHAIN], state[at + SHIFT]
        valid, propagate, dataflow = state[at + VALID], state[at + PROPAGATE], state[at + DATAFLOW]
        bank1, bank2 = state[at + BANK1], state[at + BANK2]
        moving = bank1 if propagate != 0 else bank2
        resting = bank2 if propagate != 0 else bank1
        stationary_out = dataflow != 0
        weight = narrow(psum if stationary_out else resting, _i32(255), _i32(-128))
        carry = resting if stationary_out else psum
        mac = narrow(_i32(_i32(state[at + ACT] * weight) + carry), mask, low)
        last = state[at + LAST_PROPAGATE]
        offset = shift if last != propagate else _i32(0)
        shifted = clip(round_shift(moving, offset), low)
        chain_out = shifted if stationary_out else narrow(moving, mask, low)
        kept = narrow(mac, bank_mask, bank_low) if stationary_out else resting
        fresh = narrow(chain, bank_mask, bank_low)
        opened = valid | open_gate
        state[at + BANK1] = (fresh if propagate != 0 else kept) if valid != 0 else bank1
        state[at + BANK2] = (kept if propagate != 0 else fresh) if valid != 0 else bank2
        state[at + LAST_PROPAGATE] = propagate if valid != 0 else last
        state[below + PSUM] = (psum if stationary_out else mac) if opened != 0 else state[below + PSUM]
        state[below + CHAIN] = chain_out if opened != 0 else state[below + CHAIN]
        state[below + PROPAGATE] = propagate if opened != 0 else state[below + PROPAGATE]
        state[below + DATAFLOW] = dataflow if opened != 0 else state[below + DATAFLOW]
        state[below + SHIFT] = shift if opened != 0 else state[below + SHIFT]
        state[below + VALID] = valid
        state[below + TAG] = state[at + TAG]


@kernel
def narrow(value: Int, mask: Int, low: Int) -> Int:
    """`wrap_signed` in int32, so that it vectorises; low is -2^(bits - 1)."""
    return _i32(_i32((value & mask) ^ low) - low)


@kernel
def clip(value: Int, low: Int) -> Int:
    return min(max(value, low), ~low)


@kernel
def round_shift(value: Int, places: Int) -> Int:
    """value / 2^places, half to even."""
    places = places & 31
    quotient = _i32(value >> places)
    rest = _i32(value - _i32(quotient << places))
    half = _i32(_i32(1 << places) >> 1)
    up = (rest > half) | ((rest == half) & ((quotient & 1) != 0) & (places != 0))
    return _i32(quotient + _i32(up))


@kernel
def copy_words(target: Words, to: int, source: Words, start: Int, count: int) -> None:
    """target[to : to + count] = source[start : start + count]; unsigned for the reason given in `cell`."""
    first, origin = np.uint64(to), np.uint64(start)
    for i in range(np.uint64(count)):
        target[first + i] = source[origin + i]


@kernel
def fill_words(target: Words, to: int, word: Int, count: int) -> None:
    """target[to : to + count] = word."""
    first = np.uint64(to)
    for i in range(np.uint64(count)):
        target[first + i] = word


@kernel
def fill_delay_lines(state: Words, g: Grid, head: int) -> None:
    """Row `head` of the ring takes what the edge buffers and the output registers hold now."""
    operands = g.rows + 2 * g.cols
    row = g.ring + head * g.lanes
    copy_words(state, row, state, g.edge, operands)
    row += operands
    for control in range(EDGE_TAG + 1):
        fill_words(state, row, state[g.edge + operands + control], g.cols)
        row += g.cols
    # One dataflow bit, that of column 0, picks the bus of all columns.
    output = cell(g, g.rows, 0)
    bus = int(CHAIN if state[output + DATAFLOW] != 0 else PSUM)
    for col in range(0, g.cols, LANES):
        copy_words(state, row + col, state, int(cell(g, g.rows, col)) + bus, min(LANES, g.cols - col))
    state[row + g.cols] = state[output + VALID]
    state[row + g.cols + 1] = state[output + TAG]


@kernel
def feed_edges(state: Words, g: Grid, head: int) -> None:
    """Column 0 and row 0 take what was at the edge `row` or `col` cycles ago."""
    at = head
    for row in range(g.rows):
        state[cell(g, row, 0) + ACT] = state[g.ring + at * g.lanes + row]
        at = at - 1 if at > 0 else g.depth - 1
    at = head
    for col in range(g.cols):
        line = g.ring + at * g.lanes + g.rows + col
        here = cell(g, 0, col)
        control = line + 2 * g.cols
        valid = state[control + EDGE_VALID * g.cols]
        state[here + VALID] = valid
        state[here + TAG] = state[control + EDGE_TAG * g.cols]
        if valid != 0:
            state[here + PSUM] = state[line]
            state[here + CHAIN] = state[line + g.cols]
            state[here + PROPAGATE] = state[control + EDGE_PROPAGATE * g.cols]
            state[here + DATAFLOW] = state[control + EDGE_DATAFLOW * g.cols]
            state[here + SHIFT] = state[control + EDGE_SHIFT * g.cols]
        at = at - 1 if at > 0 else g.depth - 1


@kernel
def close_edge(state: Words, g: Grid) -> None:
    """The edge at the end of a cycle in which nothing is accepted: valid falls, the other fields hold."""
    control = g.edge + g.rows + 2 * g.cols
    state[control + EDGE_VALID] = 0
    state[control + EDGE_SHIFT] = state[control + LATE_SHIFT]


@kernel
def accept_slot(state: Words, g: Grid, operands: Words, fields: Words, slot: int, cycle: int) -> None:
    """The edge buffers take row `slot` of the streams."""
    width = g.rows + 2 * g.cols
    copy_words(state, g.edge, operands, slot * width, width)
    control = g.edge + width
    state[control + EDGE_PROPAGATE] = fields[slot, 0]
    state[control + EDGE_DATAFLOW] = fields[slot, 1]
    state[control + LATE_SHIFT] = fields[slot, 2]
    state[control + EDGE_VALID] = 1
    state[control + EDGE_TAG] = (cycle // g.rows) * 2 + (1 if cycle % g.rows == g.rows - 1 else 0)


@kernel
def take_result_row(state: Words, g: Grid, requests: Table, bias: Words, head: int, cycle: int) -> None:
    """The deskewed row, where valid, goes to the address that its request and the free-running count give."""
    at = (head - (g.cols - 1)) % g.depth
    outputs = g.ring + g.rows + 7 * g.cols
    flags = outputs + at * g.lanes + g.cols
    request = state[flags + 1] >> 1
    if state[flags] == 0 or request < 0 or request >= requests.shape[0] or requests[request, BASE] < 0:
        return
    count = state[g.tally + COUNT]
    state[g.tally + COUNT] = (count + 1) % g.rows
    state[g.tally + LAST_RESULT] = cycle
    if count >= requests[request, KEPT]:
        return
    first = requests[request, BIAS]
    target = g.memory + (requests[request, BASE] + requests[request, STEP] * count) * g.cols
    for col in range(g.cols):
        before = state[target + col] if first < 0 else bias[first + col]
        value = np.int64(before) + np.int64(state[outputs + at * g.lanes + col])
        state[target + col] = wrap_signed(value, g.acc_bits)
        at = at + 1 if at < g.depth - 1 else 0


@kernel
def drain_rows(state: Words, g: Grid, drains: Table, result: Words, cycle: int) -> None:
    """Read one accumulator row of each finished block, before this cycle's result row is written. A block
    with fewer rows than the one before it starts to drain while that one still does."""
    block = np.int64(state[g.tally + DRAINED_BLOCK])
    while block < drains.shape[0] and cycle >= drains[block, START]:
        row = cycle - drains[block, START]
        if row < drains[block, ROWS]:
            for col in range(drains[block, COLS]):
                word = state[g.memory + row * g.cols + col]
                result[drains[block, TO_ROW] + row, drains[block, TO_COL] + col] = word
        elif block == state[g.tally + DRAINED_BLOCK]:
            state[g.tally + DRAINED_BLOCK] = block + 1
        block += 1
