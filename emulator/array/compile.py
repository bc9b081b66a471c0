"""A layer as the machine runs it: the host tables of a schedule and its operands."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.array.buffers import buffer_rows_loaded, residence
from emulator.array.host import (
    ACCUMULATE,
    ACT_ADDRESS,
    ACT_BUFFER,
    ACT_ON,
    BASE,
    BIAS,
    BLOCK_BASE,
    BLOCK_ROWS,
    BLOCK_SCALE,
    BLOCK_TO,
    FINAL,
    KEPT,
    LOAD_CYCLE,
    REQUEST_FIELDS,
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
from emulator.array.operands import Operands, Streamed, check_operands
from emulator.array.tiling import Schedule
from emulator.errors import BadConfig
from emulator.gemm import FixedPoint, Requantisation

Ints = npt.NDArray[np.int64]


def compile_layer(
    plan: Schedule, operands: Operands, requantisation: Requantisation | FixedPoint | None
) -> Host:
    """Raises BadData for operands of another shape, BadConfig where a tile does not fit its buffer, a counter is too
    narrow, or a layer that is not requantised has a requantisation.

    Without a requantisation scales are zero and what the requantiser writes is to be ignored.
    """
    check_operands(plan, operands)
    if requantisation is not None and not plan.requantised:
        raise BadConfig(
            f"{plan.shape}: a requantisation for a schedule with requantised=False; allowed: None. Leave either out."
        )
    streamed = operands.streamed(plan.spec)
    act, wgt = _buffer_sources(plan, streamed)
    loads = np.concatenate([buffer_rows_loaded(plan, which) for which in (ACT_BUFFER, WGT_BUFFER)])
    exchanged = plan.spec.dataflow == "is"
    tiled = exchanged or operands.bias.ndim == 3
    bias, address = _bias_tiles(plan, operands, streamed) if tiled else _bias_rows(plan, operands)
    scale, shift = _scales(plan, requantisation)
    return Host(
        requests=_requests(plan, address, tiled),
        stream=_host_stream(plan, streamed),
        act=act,
        wgt=wgt,
        loads=loads[np.argsort(loads[:, LOAD_CYCLE], kind="stable")],
        bias=bias,
        bias_tiled=int(tiled),
        scale=scale,
        shift=shift,
        scale_step=int(exchanged),
        blocks=blocks(plan),
        clip=(requantisation.zero_point, requantisation.low, requantisation.high)
        if requantisation
        else (0, 0, 0),
        requantised=int(plan.requantised),
    )


def blocks(plan: Schedule) -> Table:
    """The block table; blocks follow each other in the output memory."""
    last = plan.last_folds
    table = np.zeros((len(last), 4), np.int64)
    table[:, BLOCK_BASE] = plan.base[last]
    table[:, BLOCK_ROWS] = plan.m_size[last]
    table[:, BLOCK_TO] = np.cumsum(plan.m_size[last]) - plan.m_size[last]
    table[:, BLOCK_SCALE] = table[:, BLOCK_TO] if plan.spec.dataflow == "is" else np.arange(len(last))
    return table


def _requests(plan: Schedule, bias: Ints, tiled: bool) -> Table:
    """Request 0 preloads; each fold has one request or more; a last one takes output-stationary results out.

    bias (folds,): the bias row of a fold, or the tile of its first request.
    """
    rows = plan.spec.rows
    count = plan.slots // rows
    fold = np.repeat(np.arange(plan.folds), count)
    within = np.arange(len(fold)) - np.repeat(np.cumsum(count) - count, count)
    table = np.zeros((plan.requests, REQUEST_FIELDS), np.int64)
    body = table[1 : 1 + len(fold)]
    act, wgt = residence(plan, ACT_BUFFER), residence(plan, WGT_BUFFER)
    table[0, TOGGLE] = 1
    body[:, TOGGLE] = within == 0
    body[:, ACT_ON] = 1
    body[:, ACT_ADDRESS] = act.address[fold] + within * rows
    last = within == count[fold] - 1
    table[:, STATIONARY_OUT] = plan.output_stationary
    if plan.output_stationary:
        body[:, WGT_ON] = 1
        body[:, WGT_ADDRESS] = wgt.address[fold] + within * rows
        table[-1, TOGGLE] = 1
        # The result of a fold leaves with the first request of the next one.
        leaving = np.append(1 + np.flatnonzero(within == 0)[1:], plan.requests - 1)
        table[leaving] = _with_result(plan, table[leaving], np.arange(plan.folds))
        if plan.shift:
            body[:, SHIFT_FIELD] = np.where(last, plan.shift, 0)
    else:
        preloads = np.concatenate(([0], 1 + np.flatnonzero(last)[:-1]))
        table[preloads, WGT_ON] = 1
        table[preloads, WGT_ADDRESS] = wgt.address
        body[:] = _with_result(plan, body, fold)
        body[:, BASE] += within * rows
        body[:, KEPT] = np.clip(body[:, KEPT] - within * rows, 0, rows)
        body[:, FINAL] &= last
    if plan.output_stationary:
        table[leaving, BIAS] = bias
    else:
        body[:, BIAS] = bias[fold] + (within if tiled else 0)
    return table


def _with_result(plan: Schedule, requests: Table, fold: Ints) -> Table:
    """The requests, marked as those with which the results of these folds leave the array."""
    requests[:, RESULT] = 1
    requests[:, BASE] = plan.base[fold]
    requests[:, KEPT] = plan.m_size[fold]
    requests[:, ACCUMULATE] = plan.k_start[fold] > 0
    requests[:, FINAL] = np.isin(fold, plan.last_folds)
    return requests


def _buffer_sources(plan: Schedule, streamed: Streamed) -> tuple[Operand, Operand]:
    """Host memory for both buffers: every tile once, padded with zeros."""
    spec = plan.spec
    act, wgt = residence(plan, ACT_BUFFER), residence(plan, WGT_BUFFER)
    act_words = np.zeros((int((act.source + act.rows).max()), spec.rows), np.int16)
    wgt_words = np.zeros((int((wgt.source + wgt.rows).max()), spec.cols), np.int16)
    for fold in range(plan.folds):
        group, m, k, n = extents(plan, fold)
        # Tiles that stay are loaded by their first fold; the others are the same words again.
        if act.loaded_by[fold] == fold:
            tile = streamed.act[group, m, k]
            _to_corner(act_words[act.source[fold] :], tile.T if plan.output_stationary else tile)
        if wgt.loaded_by[fold] == fold:
            tile = streamed.wgt[group, k, n]
            if plan.output_stationary:
                _to_corner(wgt_words[wgt.source[fold] :], tile)
            else:
                # Weights are shifted in the bottom row first.
                _to_corner(wgt_words[wgt.source[fold] : wgt.source[fold] + spec.rows][::-1], tile)
    return act_words, wgt_words


def extents(plan: Schedule, fold: int) -> tuple[int, slice, slice, slice]:
    """The group, and the rows m, the depth k and the columns n of the operands that a fold covers."""
    m, k, n = plan.m_start[fold], plan.k_start[fold], plan.n_start[fold]
    return (
        int(plan.group[fold]),
        slice(m, m + plan.m_size[fold]),
        slice(k, k + plan.k_size[fold]),
        slice(n, n + plan.n_size[fold]),
    )


def _to_corner(target: npt.NDArray[np.int16], tile: npt.NDArray[np.int8] | npt.NDArray[np.int16]) -> None:
    """What lies beyond the tile stays zero."""
    target[: tile.shape[0], : tile.shape[1]] = tile


def _host_stream(plan: Schedule, streamed: Streamed) -> Words:
    """The preload words, slot by slot: partial sums with the first k-fold (WS), in the request before the first
    k-block and bottom row first (OS)."""
    if streamed.preload is None:
        return np.zeros((0, plan.spec.cols), np.int32)
    rows = plan.spec.rows
    stream = np.zeros((plan.total_slots, plan.spec.cols), np.int32)
    for fold in np.flatnonzero(plan.k_start == 0).tolist():
        group, m, _, n = extents(plan, fold)
        tile, slot = streamed.preload[group, m, n], int(plan.first_slot[fold])
        target = stream[slot - rows : slot][::-1] if plan.output_stationary else stream[slot:]
        target[: tile.shape[0], : tile.shape[1]] = tile
    return stream


def _bias_rows(plan: Schedule, operands: Operands) -> tuple[Words, Ints]:
    """(bias memory, the row of each fold): a row a column fold."""
    spec, shape = plan.spec, plan.streamed
    folds = -(-shape.n // spec.cols)
    padded = np.zeros((shape.groups, folds * spec.cols), np.int32)
    padded[:, : shape.n] = operands.bias
    return padded.reshape(-1, spec.cols), plan.group * folds + plan.n_start // spec.cols


def _bias_tiles(plan: Schedule, operands: Operands, streamed: Streamed) -> tuple[Words, Ints]:
    """(bias memory, the first tile of each fold): a tile of array rows for each request of a block; blocks whose rows
    are equal share theirs."""
    rows, cols = plan.spec.rows, plan.spec.cols
    # With exchanged operands, a bias that is the same for all rows of the layer is the same in all columns here.
    parts = (
        (plan.group, plan.m_start) if operands.bias.ndim == 2 else (plan.group, plan.m_start, plan.n_start)
    )
    _, owner, of = np.unique(np.stack(parts), axis=1, return_index=True, return_inverse=True)
    tiles = -(-plan.m_size[owner] // rows)
    # A tag names its tile in 16 bits.
    if tiles.sum() > 1 << 16:
        raise BadConfig(
            f"{plan.shape} on {plan.spec.name!r} takes {tiles.sum()} tiles of {rows} bias rows; allowed: {1 << 16}. "
            "Use an array with more rows and cols, or split the layer."
        )
    first = np.cumsum(tiles) - tiles
    words = np.zeros((int(tiles.sum()) * rows, cols), np.int32)
    for fold, start in zip(owner.tolist(), (first * rows).tolist(), strict=True):
        group, m, _, n = extents(plan, fold)
        tile = streamed.bias[group, m, n]
        words[start : start + tile.shape[0], : tile.shape[1]] = tile
    return words, first[of.reshape(-1)]


def _scales(plan: Schedule, requantisation: Requantisation | FixedPoint | None) -> tuple[Words, Words]:
    """Scale bits (or multipliers) and shifts: a row a block, or with exchanged operands, whose rows are channels,
    a row for each drained row."""
    shape, last = plan.shape, plan.last_folds
    exchanged = plan.spec.dataflow == "is"
    rows = plan.m_size[last] if exchanged else np.ones(len(last), np.int64)
    words = np.zeros((2, int(rows.sum()), plan.spec.cols), np.int32)
    if requantisation is None:
        return words[0], words[1]
    of_channel = requantisation.words().reshape(2, shape.groups, shape.n)
    for fold, first in zip(last.tolist(), (np.cumsum(rows) - rows).tolist(), strict=True):
        group, m, _, n = extents(plan, fold)
        if exchanged:
            words[:, first : first + m.stop - m.start] = of_channel[:, group, m, np.newaxis]
        else:
            words[:, first, : n.stop - n.start] = of_channel[:, group, n]
    return words[0], words[1]
