"""From accumulators to output words: the requantiser's arithmetic and its result pipeline
(docs/machine.md section 7)."""

from __future__ import annotations

import numpy as np

from emulator.array.accumulator import wide
from emulator.array.host import Clip, Floats, Words
from emulator.array.layout import RESULT_STAGES, Control, Grid, Rows
from emulator.array.mesh import copy_words, narrow
from emulator.gemm import fixed_point
from emulator.jit import Int, Real, stage


@stage
def scaled(acc: Int, scale: Real, low: Real, high: Real) -> Real:
    """The float32 conversion, clipped to [low, high]; a NaN gives low."""
    product = np.rint(np.float32(acc) * scale)
    # A comparison with NaN is false, which leaves low.
    bounded = product if product > low else low
    return bounded if bounded < high else high


@stage
def result_entering(g: Grid, head: int) -> int:
    """First word of the first stage of the result pipeline."""
    return g.ring + head * g.lanes + g.result_lane


@stage
def requantise_float(state: Words, floats: Floats, g: Grid, clip: Clip, to: int) -> None:
    """The words at `to` become what is made of requant_acc in a build with float32 scales; floats is the state, its
    words read as float32."""
    first = np.uint64(to)
    acc, scale = np.uint64(wide(g, Rows.REQUANT_ACC)), np.uint64(wide(g, Rows.REQUANT_SCALE))
    zero_point, lowest, highest = clip
    spare = np.int32(g.act_spare)
    low, high = np.float32(lowest - zero_point), np.float32(highest - zero_point)
    for col in range(np.uint64(g.cols)):
        word = np.int32(scaled(state[acc + col], floats[scale + col], low, high))
        state[first + col] = narrow(np.int32(word + zero_point), spare)


@stage
def requantise_fixed(state: Words, g: Grid, clip: Clip, to: int) -> None:
    """The words at `to` become what is made of requant_acc in a build with fixed-point multipliers."""
    first = np.uint64(to)
    acc, scale = np.uint64(wide(g, Rows.REQUANT_ACC)), np.uint64(wide(g, Rows.REQUANT_SCALE))
    shift = np.uint64(wide(g, Rows.REQUANT_SHIFT))
    zero_point, lowest, highest = clip
    spare = np.int32(g.act_spare)
    for col in range(np.uint64(g.cols)):
        rounded = fixed_point(state[acc + col], state[scale + col], state[shift + col])
        word = min(max(rounded, lowest - zero_point), highest - zero_point)
        state[first + col] = narrow(np.int32(word + zero_point), spare)


@stage
def follow_result(state: Words, g: Grid, to: int) -> None:
    """The row number and valid, next to the words at `to`."""
    state[to + g.cols] = state[g.control + Control.REQUANT_ROW]
    state[to + g.cols + 1] = state[g.control + Control.REQUANT_VALID]


@stage
def result_leaving(state: Words, g: Grid, cycle: int) -> int:
    """First word of the last stage of the result pipeline."""
    return g.ring + ((cycle - RESULT_STAGES) & (g.depth - 1)) * g.lanes + g.result_lane


@stage
def write_result(state: Words, g: Grid, results: Words, row: int) -> Int:
    """The last stage of the result pipeline, at `row`, to the output memory (flat); the row of it written, or -1."""
    to = np.int64(state[row + g.cols])
    writes = state[row + g.cols + 1] != 0 and to * g.cols < results.shape[0]
    copy_words(results, to * g.cols, state, row, g.cols if writes else 0)
    return to if writes else np.int64(-1)


@stage
def pipeline_is_empty(state: Words, g: Grid, cycle: int) -> bool:
    """No requantised row is on its way."""
    busy = state[g.control + Control.REQUANT_VALID]
    for age in range(1, RESULT_STAGES + 1):
        row = (cycle - age) & (g.depth - 1)
        busy |= state[g.ring + row * g.lanes + g.result_lane + g.cols + 1]
    return bool(busy == 0)
