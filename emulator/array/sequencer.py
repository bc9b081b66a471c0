"""What enters the array: the sequencer fires one row a cycle out of the buffers and loads request after
request (docs/machine.md sections 3, 5 and 8)."""

from __future__ import annotations

import numpy as np

from emulator.array.home import IN_ACT_BUFFER, IN_WGT_BUFFER
from emulator.array.host import (
    ACCUMULATE,
    ACT_ADDRESS,
    ACT_BUFFER,
    ACT_ON,
    BASE,
    BIAS,
    FINAL,
    KEPT,
    LOAD_BUFFER,
    LOAD_CYCLE,
    LOAD_ROW,
    LOAD_SOURCE,
    RESULT,
    SHIFT_FIELD,
    STATIONARY_OUT,
    TOGGLE,
    WGT_ADDRESS,
    WGT_BUFFER,
    WGT_ON,
    Host,
    Operand,
    Table,
    Words,
)
from emulator.array.injection import ADDRESS, COL, PLACE
from emulator.array.layout import (
    DATAFLOW_LSB,
    EDGE_FLAGS,
    ID_LSB,
    LAST_LSB,
    LATE_SHIFT,
    PROPAGATE_LSB,
    SHIFT,
    SHIFT_LSB,
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
)
from emulator.array.mesh import copy_row
from emulator.jit import Int, stage


@stage
def load_request(state: Words, g: Grid, requests: Table, index: Int) -> None:
    """The registers of the sequencer and the tag entry of its id take a request; in_prop has been toggled and
    the id counted already."""
    at = g.control
    state[at + Control.SEQ_DATAFLOW] = requests[index, STATIONARY_OUT]
    state[at + Control.SEQ_SHIFT] = requests[index, SHIFT_FIELD]
    state[at + Control.SEQ_ACT_ON] = requests[index, ACT_ON]
    state[at + Control.SEQ_ACT_ADDRESS] = requests[index, ACT_ADDRESS]
    state[at + Control.SEQ_WGT_ON] = requests[index, WGT_ON]
    state[at + Control.SEQ_WGT_ADDRESS] = requests[index, WGT_ADDRESS]
    tag = g.tags + TAG_FIELDS * state[at + Control.SEQ_ID]
    state[tag + TAG_RESULT] = requests[index, RESULT]
    state[tag + TAG_BASE] = requests[index, BASE]
    state[tag + TAG_KEPT] = requests[index, KEPT]
    state[tag + TAG_ACCUMULATE] = requests[index, ACCUMULATE]
    state[tag + TAG_FINAL] = requests[index, FINAL]
    state[tag + TAG_BIAS] = requests[index, BIAS]


@stage
def start_sequencer(state: Words, g: Grid, host: Host) -> None:
    """The state in which cycle 0 fires the first row of request 0."""
    state[g.control + Control.SEQ_ACTIVE] = 1
    state[g.control + Control.SEQ_PC] = 1
    state[g.control + Control.IN_PROP] = host.requests[0, TOGGLE]
    load_request(state, g, host.requests, 0)
    for i in range(g.act_rows + g.wgt_rows):
        state[g.loaded + i] = -1
    for i in range(host.loads.shape[0]):
        if host.loads[i, LOAD_CYCLE] < 0:
            load_row(state, g, host.loads, i)


@stage
def load_row(state: Words, g: Grid, loads: Table, index: Int) -> None:
    """A buffer row takes a row of host memory."""
    second = g.act_rows if loads[index, LOAD_BUFFER] == WGT_BUFFER else 0
    state[g.loaded + second + loads[index, LOAD_ROW]] = loads[index, LOAD_SOURCE]


@stage
def load_buffer(state: Words, g: Grid, loads: Table, upsets: Table, patches: Words, load: Int) -> None:
    """A load, which also mends what upsets had done to its row."""
    load_row(state, g, loads, load)
    place = IN_ACT_BUFFER if loads[load, LOAD_BUFFER] == ACT_BUFFER else IN_WGT_BUFFER
    for u in range(upsets.shape[0]):
        if upsets[u, PLACE] == place and upsets[u, ADDRESS] == loads[load, LOAD_ROW]:
            patches[u] = 0


@stage
def act_row(state: Words, g: Grid) -> Int:
    """The row of the activation buffer that the sequencer points at; -1 if none."""
    row = state[g.control + Control.SEQ_ACT_ADDRESS] + state[g.control + Control.SEQ_ROW]
    row = np.int64(row & g.act_address_mask)
    return row if state[g.control + Control.SEQ_ACT_ON] != 0 and row < g.act_rows else np.int64(-1)


@stage
def wgt_row(state: Words, g: Grid) -> Int:
    """The row of the weight buffer that the sequencer points at; -1 if none."""
    row = state[g.control + Control.SEQ_WGT_ADDRESS] + state[g.control + Control.SEQ_ROW]
    row = np.int64(row & g.wgt_address_mask)
    return row if state[g.control + Control.SEQ_WGT_ON] != 0 and row < g.wgt_rows else np.int64(-1)


@stage
def wgt_edge(g: Grid) -> int:
    """Where words of the weight buffer enter: at d, in output-stationary arrays at b."""
    return g.edge + g.rows + (g.cols if g.output_stationary == 0 else 0)


@stage
def fire_row(state: Words, g: Grid, stream: Words, act: Operand, wgt: Operand) -> None:
    """The operands of the edge take the row that the sequencer points at; stream, act and wgt are flat."""
    at = g.control
    host_edge = 2 * (g.edge + g.rows) + g.cols - wgt_edge(g)
    streamed = ((state[at + Control.SEQ_PC] - 1) * g.rows + state[at + Control.SEQ_ROW]) * g.cols
    copy_row(state, host_edge, stream, streamed, g.cols, 0 <= streamed < stream.shape[0])
    row = act_row(state, g)
    held = np.int64(state[g.loaded + row]) if row >= 0 else np.int64(-1)
    copy_row(state, g.edge, act, held * g.rows, g.rows, held >= 0)
    row = wgt_row(state, g)
    held = np.int64(state[g.loaded + g.act_rows + row]) if row >= 0 else np.int64(-1)
    copy_row(state, wgt_edge(g), wgt, held * g.cols, g.cols, held >= 0)


@stage
def mend_row(state: Words, g: Grid, upsets: Table, patches: Words) -> None:
    """What upsets have done to the buffer rows that the sequencer points at, once these are at the edge."""
    act, wgt = act_row(state, g), wgt_row(state, g)
    for u in range(upsets.shape[0]):
        if upsets[u, PLACE] == IN_ACT_BUFFER and upsets[u, ADDRESS] == act:
            state[g.edge + upsets[u, COL]] ^= patches[u]
        elif upsets[u, PLACE] == IN_WGT_BUFFER and upsets[u, ADDRESS] == wgt:
            state[wgt_edge(g) + upsets[u, COL]] ^= patches[u]


@stage
def clock_sequencer(state: Words, g: Grid) -> bool:
    """The control words of the edge and the sequencer's row at the end of a cycle; where no row is fired valid falls
    and the others hold. Was it the last row of its request?"""
    edge = g.edge + g.rows + 2 * g.cols
    at = g.control
    row = state[at + Control.SEQ_ROW]
    active, last = state[at + Control.SEQ_ACTIVE] != 0, row >= g.rows - 1
    shift = state[edge + LATE_SHIFT] << SHIFT_LSB
    state[edge + EDGE_FLAGS] = (state[edge + EDGE_FLAGS] & ~(VALID | SHIFT)) | shift
    if active:
        propagate = state[at + Control.IN_PROP] << PROPAGATE_LSB
        dataflow = state[at + Control.SEQ_DATAFLOW] << DATAFLOW_LSB
        tag = (state[at + Control.SEQ_ID] << ID_LSB) | ((1 if last else 0) << LAST_LSB)
        state[edge + EDGE_FLAGS] = VALID | propagate | dataflow | shift | tag
        state[edge + LATE_SHIFT] = state[at + Control.SEQ_SHIFT]
        state[at + Control.SEQ_ROW] = 0 if last else row + 1
    return bool(active and last)


@stage
def next_request(state: Words, g: Grid, requests: Table) -> None:
    """After the last row of a request: load the one seq_pc points at, or stop."""
    at = g.control
    index = state[at + Control.SEQ_PC]
    if index < requests.shape[0]:
        state[at + Control.SEQ_PC] = (index + 1) & 0xFFFFFF
        state[at + Control.IN_PROP] ^= requests[index, TOGGLE]
        state[at + Control.SEQ_ID] = (state[at + Control.SEQ_ID] + 1) & g.id_mask
        load_request(state, g, requests, index)
    else:
        state[at + Control.SEQ_ACTIVE] = 0
