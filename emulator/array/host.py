"""Host memory: the tables a run reads and the observer it writes. None of it is a register of the array."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.int32]
Table = npt.NDArray[np.int64]
Operand = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]

# zero point, lowest and highest requantised word.
Clip = tuple[int, int, int]

# Columns of the request table (docs/machine.md section 5).
(
    TOGGLE,
    STATIONARY_OUT,
    SHIFT_FIELD,
    ACT_ON,
    ACT_ADDRESS,
    WGT_ON,
    WGT_ADDRESS,
    RESULT,
    BASE,
    KEPT,
    ACCUMULATE,
    FINAL,
    BIAS,
) = range(13)
REQUEST_FIELDS = 13

# Columns of the load table: after which cycle, which buffer, its row, the row of host memory.
LOAD_CYCLE, LOAD_BUFFER, LOAD_ROW, LOAD_SOURCE = range(4)
ACT_BUFFER, WGT_BUFFER = range(2)

# Columns of the block table: where a block lies in the accumulator and where it goes.
BLOCK_BASE, BLOCK_ROWS, BLOCK_TO, BLOCK_SCALE = range(4)


class Host(NamedTuple):
    """requests (requests, 13); stream (rows, cols) the rows that come straight from the host, none: zeros;
    act (rows, array rows), wgt (rows, cols) what the buffers are loaded from, int16; loads (loads, 4) in the order of
    their cycles; bias (rows, cols), bias_tiled: a request has a row of it for each of its result rows, else one for
    all; scale (rows, cols) the bits of float32 scales or int32 multipliers, shift (rows, cols) the shifts of the
    latter, whose row advances by scale_step a drained row; blocks (blocks, 4); clip of the requantised words;
    requantised: drained rows go to the requantiser. The flags and the step are 0 or 1."""

    requests: Table
    stream: Words
    act: Operand
    wgt: Operand
    loads: Table
    bias: Words
    bias_tiled: int
    scale: Words
    shift: Words
    scale_step: int
    blocks: Table
    clip: Clip
    requantised: int


class Observed(NamedTuple):
    """rows (out rows, cols): accumulators as drained; result (out rows, cols): requantised words as written;
    log (entries,): the out rows in the order of their events, r for a drained row, ~r for a written one; the
    last one is overwritten when it is full. log_cycle: their cycles."""

    rows: Words
    result: Words
    log: Words
    log_cycle: Words
