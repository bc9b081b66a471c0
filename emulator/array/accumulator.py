"""Where result rows go: the write pipeline, the accumulator memory, and the drain that reads it
(docs/machine.md sections 6 and 7)."""

from __future__ import annotations

import numpy as np

from emulator.array.host import BLOCK_BASE, BLOCK_ROWS, BLOCK_SCALE, BLOCK_TO, Table, Words
from emulator.array.layout import (
    ID_LSB,
    LAST_LSB,
    TAG_ACCUMULATE,
    TAG_BASE,
    TAG_BIAS,
    TAG_FIELDS,
    TAG_FINAL,
    TAG_KEPT,
    TAG_RESULT,
    VALID,
    Control,
    Grid,
    Rows,
)
from emulator.array.mesh import clip, copy_row, copy_words, fill_words, narrow
from emulator.jit import Int, stage


@stage
def wide(g: Grid, register: int) -> int:
    """First word of a register that is a row wide."""
    return g.wide + register * g.cols


@stage
def write_row(state: Words, g: Grid) -> None:
    """Stage 1 of the write pipeline to the memory, stage 0 to stage 1: the memory is read before it is
    written."""
    at = g.control
    valid, valid_1 = state[at + Control.WRITE_VALID], state[at + Control.WRITE_VALID_1]
    if state[at + Control.WRITE_FINAL_1] != 0:
        state[at + Control.BLOCKS_DONE] = (state[at + Control.BLOCKS_DONE] + 1) & 0xFFFF
    to, source = state[at + Control.WRITE_ADDRESS_1], state[at + Control.WRITE_ADDRESS]
    if valid != 0:
        add_row(state, g, source)
    if valid_1 != 0 and to < g.acc_rows:
        store_row(state, g, to)
    if valid != 0:
        copy_words(state, wide(g, Rows.WRITE_SUM), state, wide(g, Rows.SCRATCH), g.cols)
        copy_words(state, wide(g, Rows.WRITE_MASK_1), state, wide(g, Rows.WRITE_MASK), g.cols)
        state[at + Control.WRITE_ADDRESS_1] = source
    state[at + Control.WRITE_VALID_1] = valid
    state[at + Control.WRITE_FINAL_1] = state[at + Control.WRITE_FINAL]


@stage
def add_row(state: Words, g: Grid, source: Int) -> None:
    """The scratch row takes the row of stage 0, on top of the memory's row `source` or of the bias."""
    scratch, data = np.uint64(wide(g, Rows.SCRATCH)), np.uint64(wide(g, Rows.WRITE_DATA))
    accumulates = state[g.control + Control.WRITE_ACCUMULATE] != 0
    before = g.memory + source * g.cols if accumulates else wide(g, Rows.WRITE_BIAS)
    there = source < g.acc_rows or not accumulates
    copy_row(state, wide(g, Rows.SCRATCH), state, before, g.cols, there)
    spare = np.int32(g.acc_spare)
    # A sum that wraps is clipped to what an int64 holds anyway.
    floor = np.int64(g.acc_low) if g.saturate != 0 else np.int64(-1 << 62)
    for col in range(np.uint64(g.cols)):
        total = np.int64(state[scratch + col]) + np.int64(state[data + col])
        state[scratch + col] = narrow(np.int32(clip(total, floor)), spare)


@stage
def store_row(state: Words, g: Grid, row: Int) -> None:
    """The bytes of write_sum that the mask lets through; the mask's bytes cover the word from bit 0."""
    target, total = np.uint64(g.memory + row * g.cols), np.uint64(wide(g, Rows.WRITE_SUM))
    masks = np.uint64(wide(g, Rows.WRITE_MASK_1))
    full = np.int32((1 << g.acc_bytes) - 1)
    spare = np.int32(g.acc_spare)
    for col in range(np.uint64(g.cols)):
        bits = byte_mask(state[masks + col]) if state[masks + col] != full else np.int32(-1)
        word = (state[target + col] & ~bits) | (state[total + col] & bits)
        state[target + col] = narrow(np.int32(word), spare)


@stage
def byte_mask(mask: Int) -> Int:
    """The bits of the bytes that a mask lets through."""
    bits = np.int64(0)
    for byte in range(4):
        bits |= ((mask >> byte) & 1) * (np.int64(255) << (8 * byte))
    return np.int32(bits)


@stage
def oldest_result(g: Grid, head: int) -> int:
    """First word of the row of the ring with the flags of the row that leaves the deskew lines."""
    return g.ring + ((head - (g.cols - 1)) & (g.depth - 1)) * g.lanes + g.output_lane


@stage
def result_tag(state: Words, g: Grid, head: int) -> Int:
    """The tag entry (address) of the deskewed row, -1 if that is no result."""
    flags = state[oldest_result(g, head) + g.cols]
    tag = np.int64(g.tags + TAG_FIELDS * ((flags >> ID_LSB) & g.id_mask))
    result = state[tag + TAG_RESULT] != 0
    return tag if result and flags & VALID != 0 else np.int64(-1)


@stage
def take_result_row(state: Words, g: Grid, bias: Words, tiled: int, head: int, tag: Int) -> None:
    """The deskewed row to stage 0; its address comes from its tag and the free-running count. The bias memory
    is flat, zeros follow its end; tiled: the tag is that of a tile of rows."""
    control = g.control
    last = state[oldest_result(g, head) + g.cols] >> LAST_LSB
    count = state[control + Control.RESULT_COUNT]
    row = count if g.output_stationary == 0 else g.rows - 1 - count
    kept = 0 <= row < state[tag + TAG_KEPT]
    state[control + Control.RESULT_COUNT] = 0 if count >= g.rows - 1 else count + 1
    state[control + Control.WRITE_VALID] = 1 if kept else 0
    state[control + Control.WRITE_FINAL] = last & state[tag + TAG_FINAL] & 1
    state[control + Control.WRITE_ADDRESS] = (state[tag + TAG_BASE] + row) & g.acc_address_mask
    state[control + Control.WRITE_ACCUMULATE] = state[tag + TAG_ACCUMULATE]
    fill_words(state, wide(g, Rows.WRITE_MASK), (1 << g.acc_bytes) - 1, g.cols)
    first = np.int64(state[tag + TAG_BIAS])
    start = (first * g.rows + row if tiled != 0 else first) * g.cols
    width = g.cols if kept and state[tag + TAG_ACCUMULATE] == 0 else 0
    copy_row(state, wide(g, Rows.WRITE_BIAS), bias, start, width, start < bias.shape[0])
    deskew(state, g, head)


@stage
def deskew(state: Words, g: Grid, head: int) -> None:
    """write_data takes column after column, each from one row later in the ring."""
    line, data = np.uint64(g.ring + g.output_lane), np.uint64(wide(g, Rows.WRITE_DATA))
    row, end = np.uint64(((head - (g.cols - 1)) & (g.depth - 1)) * g.lanes), np.uint64(g.depth * g.lanes)
    for col in range(np.uint64(g.cols)):
        state[data + col] = state[line + row + col]
        row += np.uint64(g.lanes)
        row = row if row < end else np.uint64(0)


@stage
def drains(state: Words, g: Grid, blocks: int) -> bool:
    """Is there a row to drain?"""
    block = state[g.control + Control.DRAIN_BLOCK]
    return bool(block < state[g.control + Control.BLOCKS_DONE] and block < blocks)


@stage
def drain_row(state: Words, g: Grid, blocks: Table, into: int, rows: Words) -> Int:
    """One accumulator row of a finished block to the words at `into`, as the memory was when the cycle began, and to
    the observed rows, which are flat; the row of these, or -1."""
    at = g.control
    block, row = state[at + Control.DRAIN_BLOCK], state[at + Control.DRAIN_ROW]
    source = (blocks[block, BLOCK_BASE] + row) & g.acc_address_mask
    to = (blocks[block, BLOCK_TO] + row) & 0xFFFFFF
    held = g.memory + source * g.cols
    copy_row(state, into, state, held, g.cols, source < g.acc_rows)
    if row >= blocks[block, BLOCK_ROWS] - 1:
        state[at + Control.DRAIN_ROW] = 0
        state[at + Control.DRAIN_BLOCK] = (block + 1) & 0xFFFF
    else:
        state[at + Control.DRAIN_ROW] = row + 1
    room = to * g.cols < rows.shape[0]
    copy_words(rows, to * g.cols, state, into, g.cols if room else 0)
    return to if room else np.int64(-1)


@stage
def scale_row(state: Words, g: Grid, blocks: Table, scale: Words, shift: Words, step: int) -> None:
    """The requantiser's other registers for the row that `drain_row` will take; scale and shift are flat."""
    at = g.control
    block, row = state[at + Control.DRAIN_BLOCK], state[at + Control.DRAIN_ROW]
    of = blocks[block, BLOCK_SCALE] + step * row
    scaled = of * g.cols < scale.shape[0]
    copy_row(state, wide(g, Rows.REQUANT_SCALE), scale, of * g.cols, g.cols, scaled)
    copy_row(state, wide(g, Rows.REQUANT_SHIFT), shift, of * g.cols, g.cols, scaled)
    state[at + Control.REQUANT_VALID] = 1
    state[at + Control.REQUANT_ROW] = (blocks[block, BLOCK_TO] + row) & 0xFFFFFF


@stage
def log_row(state: Words, g: Grid, log: Words, log_cycle: Words, entry: Int, cycle: int) -> None:
    """Note an event of the observer."""
    used = state[g.control + Control.LOGGED]
    log[min(used, log.shape[0] - 1)] = entry
    log_cycle[min(used, log.shape[0] - 1)] = cycle
    state[g.control + Control.LOGGED] = used + 1
