"""The whole machine, clock by clock: docs/machine.md in code, any fault in any register.

With NUMBA_DISABLE_JIT=1 this file and the kernels it calls are the readable definition of the machine.
"""

from __future__ import annotations

import numpy as np

from emulator.array.accumulator import (
    drain_row,
    drains,
    log_row,
    result_tag,
    scale_row,
    take_result_row,
    wide,
    write_row,
)
from emulator.array.host import LOAD_CYCLE, Host, Observed, Table, Words
from emulator.array.injection import apply_upsets
from emulator.array.layout import Control, Grid, Rows
from emulator.array.mesh import clock_cells, feed_edges, fill_delay_lines
from emulator.array.requantiser import (
    follow_result,
    pipeline_is_empty,
    requantise_fixed,
    requantise_float,
    result_entering,
    result_leaving,
    write_result,
)
from emulator.array.sequencer import (
    clock_sequencer,
    fire_row,
    load_buffer,
    mend_row,
    next_request,
    start_sequencer,
)
from emulator.jit import Int, kernel, stage


@kernel
def reset(state: Words, g: Grid, host: Host) -> None:
    """The state at the start of cycle 0."""
    state[:] = 0
    start_sequencer(state, g, host)


@kernel
def advance(
    state: Words, g: Grid, upsets: Table, patches: Words, host: Host, seen: Observed, start: int, stop: int
) -> int:
    """Run cycles [start, stop); less if the run completes, which is then noted in the state. The cycle at
    whose start the state now is."""
    # Arrays by themselves, those of rows flat: numba counts the references of all members of a record whenever
    # one of them is taken out, and of an array that only one of two branches uses.
    requests, loads, blocks = host.requests, host.loads, host.blocks
    tiled, step, requantised = host.bias_tiled, host.scale_step, host.requantised
    clip, log, log_cycle = host.clip, seen.log, seen.log_cycle
    stream, act, wgt = host.stream.reshape(-1), host.act.reshape(-1), host.wgt.reshape(-1)
    bias, scale, shift = host.bias.reshape(-1), host.scale.reshape(-1), host.shift.reshape(-1)
    rows, results, floats = seen.rows.reshape(-1), seen.result.reshape(-1), state.view(np.float32)
    drained_into = wide(g, Rows.REQUANT_ACC if requantised != 0 else Rows.SCRATCH)
    next_load: Int = np.searchsorted(loads[:, LOAD_CYCLE], start)
    for cycle in range(start, stop):
        head = cycle & (g.depth - 1)
        if upsets.shape[0] > 0:
            apply_upsets(state, g, act, wgt, upsets, patches, cycle)
        if is_complete(state, g, blocks.shape[0], requantised, cycle):
            state[g.control + Control.COMPLETE] = 1
            return cycle
        written = write_result(state, g, results, result_leaving(state, g, cycle))
        if written >= 0:
            log_row(state, g, log, log_cycle, ~written, cycle)
        fill_delay_lines(state, g, head)
        entering = result_entering(g, head)
        if g.fixed_point != 0:
            requantise_fixed(state, g, clip, entering)
        else:
            requantise_float(state, floats, g, clip, entering)
        follow_result(state, g, entering)
        state[g.control + Control.REQUANT_VALID] = 0
        if drains(state, g, blocks.shape[0]):
            if requantised != 0:
                scale_row(state, g, blocks, scale, shift, step)
            drained = drain_row(state, g, blocks, drained_into, rows)
            if drained >= 0:
                log_row(state, g, log, log_cycle, drained, cycle)
        write_row(state, g)
        tag = result_tag(state, g, head)
        if tag >= 0:
            take_result_row(state, g, bias, tiled, head, tag)
            state[g.control + Control.LAST_RESULT] = cycle
        else:
            state[g.control + Control.WRITE_VALID] = 0
            state[g.control + Control.WRITE_FINAL] = 0
        clock_cells(state, g)
        feed_edges(state, g, head)
        if state[g.control + Control.SEQ_ACTIVE] != 0:
            fire_row(state, g, stream, act, wgt)
            if upsets.shape[0] > 0:
                mend_row(state, g, upsets, patches)
        if clock_sequencer(state, g):
            next_request(state, g, requests)
        while next_load < loads.shape[0] and loads[next_load, LOAD_CYCLE] == cycle:
            load_buffer(state, g, loads, upsets, patches, next_load)
            next_load += 1
    return stop


@stage
def is_complete(state: Words, g: Grid, blocks: int, requantised: int, cycle: int) -> bool:
    """Every block is drained and written."""
    drained = 0 < blocks <= state[g.control + Control.DRAIN_BLOCK]
    return bool(drained and (requantised == 0 or pipeline_is_empty(state, g, cycle)))
