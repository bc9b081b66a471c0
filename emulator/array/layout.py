"""Where every register lives in one flat int32 state, and how an Upset becomes a word of it.

Segments, in this order:
  cells    (blocks, rows + 1, 6 words, LANES)  the PEs; row `rows` holds the output registers
  edge     buf_a (rows), buf_b, buf_d (cols), flags, late_shift
  ring     (depth, lanes)  skew, deskew and result pipeline, as a ring: row t % depth is written in cycle t
  control  one word each, in the order of Control; then the tag table (ids, 6)
  rows     write_mask (2, cols), write_data, write_bias, write_sum, requant_acc, requant_scale, requant_shift,
           and one for the kernels' use
  loaded   (act_buffer_rows + wgt_buffer_rows)  which row of host memory a buffer row holds, -1: zeros
  memory   (acc_rows, cols)  the accumulator
The narrow registers that move together share a word, the flags. Columns lie in blocks of LANES, all registers of
a block and of the block below at distances that are known when the kernel is compiled: that is what lets LLVM
vectorise the PEs.
"""

from __future__ import annotations

from enum import IntEnum, auto
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from emulator.array.spec import ArraySpec

LANES = 16

# The words of a cell, in words from its start.
ACT, PSUM, CHAIN, BANK1, BANK2, FLAGS = (np.uint64(index * LANES) for index in range(6))
CELL = 6 * LANES

# Where the registers of a flags word begin; the id is the last one and has the rest of the word.
PROPAGATE_LSB, LAST_PROPAGATE_LSB, VALID_LSB, DATAFLOW_LSB, SHIFT_LSB, LAST_LSB, ID_LSB = 0, 1, 2, 3, 4, 9, 10
PROPAGATE, LAST_PROPAGATE = 1 << PROPAGATE_LSB, 1 << LAST_PROPAGATE_LSB
VALID, DATAFLOW = 1 << VALID_LSB, 1 << DATAFLOW_LSB
SHIFT, TAG = 31 << SHIFT_LSB, -1 << LAST_LSB

# The words of the edge after buf_a, buf_b and buf_d.
EDGE_FLAGS, LATE_SHIFT = range(2)

# Stages of the result pipeline behind the requantiser's registers.
RESULT_STAGES = 8


class Control(IntEnum):
    """The single registers behind and before the mesh, and three words of the observer: the cycle of the last
    result row, whether the run is complete, and the entries of the log."""

    SEQ_ACTIVE = 0
    SEQ_ROW = auto()
    SEQ_PC = auto()
    IN_PROP = auto()
    SEQ_ID = auto()
    SEQ_DATAFLOW = auto()
    SEQ_SHIFT = auto()
    SEQ_ACT_ON = auto()
    SEQ_ACT_ADDRESS = auto()
    SEQ_WGT_ON = auto()
    SEQ_WGT_ADDRESS = auto()
    RESULT_COUNT = auto()
    WRITE_VALID = auto()
    WRITE_VALID_1 = auto()
    WRITE_ADDRESS = auto()
    WRITE_ADDRESS_1 = auto()
    WRITE_FINAL = auto()
    WRITE_FINAL_1 = auto()
    WRITE_ACCUMULATE = auto()
    BLOCKS_DONE = auto()
    DRAIN_BLOCK = auto()
    DRAIN_ROW = auto()
    REQUANT_VALID = auto()
    REQUANT_ROW = auto()
    LAST_RESULT = auto()
    COMPLETE = auto()
    LOGGED = auto()


# Columns of the tag table.
TAG_RESULT, TAG_BASE, TAG_KEPT, TAG_ACCUMULATE, TAG_FINAL, TAG_BIAS = range(6)
TAG_FIELDS = 6


class Rows(IntEnum):
    """The registers that are a row of the array wide, `cols` words each, and room for a row."""

    WRITE_MASK = 0
    WRITE_MASK_1 = auto()
    WRITE_DATA = auto()
    WRITE_BIAS = auto()
    WRITE_SUM = auto()
    REQUANT_ACC = auto()
    REQUANT_SCALE = auto()
    REQUANT_SHIFT = auto()
    SCRATCH = auto()


class Grid(NamedTuple):
    """What the kernels know of the array: sizes, the bits of an int32 that words leave spare, lowest values, the
    first word of each segment."""

    rows: int
    cols: int
    blocks: int
    output_stationary: int
    saturate: int
    fixed_point: int
    wgt_spare: int
    psum_spare: int
    psum_low: int
    bank_spare: int
    act_spare: int
    acc_spare: int
    acc_low: int
    acc_bytes: int
    acc_address_mask: int
    act_address_mask: int
    wgt_address_mask: int
    id_mask: int
    act_rows: int
    wgt_rows: int
    acc_rows: int
    edge: int
    ring: int
    depth: int
    lanes: int
    output_lane: int
    result_lane: int
    control: int
    tags: int
    wide: int
    loaded: int
    memory: int
    words: int


@lru_cache(maxsize=64)
def grid(spec: ArraySpec) -> Grid:
    """The state of `spec`."""
    rows, cols = spec.rows, spec.cols
    blocks = -(-cols // LANES)
    edge = (rows + 1) * blocks * CELL
    ring = edge + rows + 2 * cols + 2
    # A power of two, whose remainders are cheap.
    depth = 1 << (max(rows, cols, RESULT_STAGES + 1) - 1).bit_length()
    output_lane = rows + 3 * cols
    result_lane = output_lane + cols + 1
    lanes = result_lane + cols + 2
    control = ring + depth * lanes
    tags = control + len(Control)
    wide = tags + TAG_FIELDS * (1 << spec.id_bits)
    loaded = wide + len(Rows) * cols
    memory = loaded + spec.act_buffer_rows + spec.wgt_buffer_rows
    # A bank loads a word of the chain or of the MAC, which has psum_bits.
    bank = min(spec.bank_bits, spec.psum_bits)
    return Grid(
        rows=rows,
        cols=cols,
        blocks=blocks,
        output_stationary=int(spec.dataflow == "os"),
        saturate=int(spec.overflow == "saturate"),
        fixed_point=int(spec.requantiser == "fixed-point"),
        wgt_spare=32 - spec.wgt_bits,
        psum_spare=32 - spec.psum_bits,
        psum_low=-1 << (spec.psum_bits - 1),
        bank_spare=32 - bank,
        act_spare=32 - spec.act_bits,
        acc_spare=32 - spec.acc_bits,
        acc_low=-1 << (spec.acc_bits - 1),
        acc_bytes=-(-spec.acc_bits // 8),
        acc_address_mask=_mask(spec.acc_address_bits),
        act_address_mask=_mask(address_bits(spec.act_buffer_rows)),
        wgt_address_mask=_mask(address_bits(spec.wgt_buffer_rows)),
        id_mask=_mask(spec.id_bits),
        act_rows=spec.act_buffer_rows,
        wgt_rows=spec.wgt_buffer_rows,
        acc_rows=spec.acc_rows,
        edge=edge,
        ring=ring,
        depth=depth,
        lanes=lanes,
        output_lane=output_lane,
        result_lane=result_lane,
        control=control,
        tags=tags,
        wide=wide,
        loaded=loaded,
        memory=memory,
        words=memory + spec.acc_rows * cols,
    )


def address_bits(rows: int) -> int:
    """Width of an address of `rows` rows."""
    return max((rows - 1).bit_length(), 1)


def _mask(bits: int) -> int:
    return -1 if bits == 32 else (1 << bits) - 1
