"""The cycle engine: a whole layer on the mesh, every register in every cycle, any Upset in any of them.

Here a layer becomes what the mesh understands: slots at the edges, a table of where result rows go in the
accumulator SRAM, and a table of when they are drained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.array.layout import LAST_RESULT, encode_upsets, grid
from emulator.array.mesh import (
    BASE,
    BIAS,
    COLS,
    KEPT,
    ROWS,
    START,
    STEP,
    TO_COL,
    TO_ROW,
    Sink,
    Streams,
    Table,
    Words,
    advance,
)
from emulator.array.operands import Operands, check_operands
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import Upset
from emulator.errors import BadData

# Slots streamed at a time: bounds the memory of a layer, 48 words a slot on a 16 x 16 array.
PIECE_SLOTS = 8192


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """accumulator (m, groups * n) int32 as drained, wrapped at acc_bits; cycles from the first accepted row
    to the last result row, both included."""

    accumulator: npt.NDArray[np.int32]
    cycles: int


def replay_layer(plan: Schedule, operands: Operands, upsets: Sequence[Upset] = ()) -> Replay:
    """The layer cycle by cycle; cycle 0 accepts the first row of the first preload.

    Raises BadData for operands of another shape, BadConfig for upsets outside the array.
    """
    check_operands(plan, operands)
    g = grid(plan.spec, plan.spec.acc_rows)
    encoded = encode_upsets(plan.spec, g, upsets)
    result = np.zeros((plan.shape.m, plan.shape.groups * plan.shape.n), np.int32)
    requests, drains = _requests(plan), _drains(plan)
    sink = Sink(requests, _bias_words(plan, operands), drains, result)
    state = np.zeros(g.words, np.int32)
    cycle = 0
    for first, last in _pieces(plan):
        streams = _streams(plan, operands, first, last)
        advance(state, g, encoded, streams, sink, cycle, len(streams.fields))
        cycle += len(streams.fields)
    idle = Streams(np.zeros(0, np.int32), np.zeros((0, 3), np.int32))
    advance(state, g, encoded, idle, sink, cycle, plan.window_cycles - cycle)
    return Replay(accumulator=result, cycles=int(state[g.tally + LAST_RESULT]) + 1)


def run_gemm(
    spec: ArraySpec,
    act: npt.NDArray[np.int8],
    wgt: npt.NDArray[np.int8],
    bias: npt.NDArray[np.int32] | None = None,
    upsets: Sequence[Upset] = (),
) -> Replay:
    """act @ wgt + bias on the array `spec`, cycle by cycle.

    act (m, k) or (groups, m, k) int8, wgt (k, n) or (groups, k, n) int8, bias (n,) or (groups, n) int32,
    zero by default. Raises BadData for anything else, BadConfig for upsets outside the array.
    """
    if act.ndim != wgt.ndim or act.ndim not in (2, 3):
        raise BadData(
            f"run_gemm: act {act.shape}, wgt {wgt.shape}; allowed: (m, k) and (k, n), or (groups, m, k) and "
            "(groups, k, n). Reshape the operands."
        )
    if act.ndim == 2:
        act, wgt = act[np.newaxis], wgt[np.newaxis]
        bias = None if bias is None else bias[np.newaxis]
    if bias is None:
        bias = np.zeros((wgt.shape[0], wgt.shape[2]), np.int32)
    operands = Operands(act=act, wgt=wgt, bias=bias)
    return replay_layer(schedule(spec, operands.shape), operands, upsets)


def _pieces(plan: Schedule) -> Iterator[tuple[int, int]]:
    """Fold ranges [first, last) of about PIECE_SLOTS slots."""
    first = 0
    while first < plan.folds:
        room = plan.first_slot[first] + PIECE_SLOTS
        last = max(first + 1, int(np.searchsorted(plan.first_slot, room)))
        yield first, last
        first = last


def _streams(plan: Schedule, operands: Operands, first: int, last: int) -> Streams:
    """The slots of folds [first, last), and before the first one those of its preload."""
    spec = plan.spec
    start = int(plan.first_slot[first]) if first else 0
    stop = int(plan.first_slot[last - 1] + plan.slots[last - 1])
    words = np.zeros((stop - start, spec.rows + 2 * spec.cols), np.int32)
    fields = np.zeros((stop - start, 3), np.int32)
    act, psum, weight = np.split(words, (spec.rows, spec.rows + spec.cols), axis=1)
    fields[: spec.rows, 0] = 1 - plan.bank[0]
    for fold in range(first, last):
        at = int(plan.first_slot[fold]) - start
        fields[at : at + plan.slots[fold], 0] = plan.bank[fold]
        m, k, n = _extents(plan, fold)
        _to_corner(act[at:], operands.act[plan.group[fold], m, k])
        if operands.psum is not None and plan.k_start[fold] == 0:
            _to_corner(psum[at:], operands.psum[plan.group[fold], m, n])
    # Weights are shifted in during the last request before their fold, the bottom row first.
    for fold in range(first + (first > 0), min(last + 1, plan.folds)):
        at = int(plan.first_slot[fold]) - start
        _, k, n = _extents(plan, fold)
        _to_corner(weight[at - spec.rows : at][::-1], operands.wgt[plan.group[fold], k, n])
    return Streams(words.ravel(), fields)


def _extents(plan: Schedule, fold: int) -> tuple[slice, slice, slice]:
    """The rows m, the depth k and the columns n of the operands that a fold covers."""
    m, k, n = plan.m_start[fold], plan.k_start[fold], plan.n_start[fold]
    return (
        slice(m, m + plan.m_size[fold]),
        slice(k, k + plan.k_size[fold]),
        slice(n, n + plan.n_size[fold]),
    )


def _to_corner(target: Words, tile: npt.NDArray[np.int8]) -> None:
    """What lies beyond the tile stays zero."""
    target[: tile.shape[0], : tile.shape[1]] = tile


def _requests(plan: Schedule) -> Table:
    """Where the rows of each request go in the SRAM: request 0 preloads, a block's first fold overwrites."""
    rows = plan.spec.rows
    count = plan.slots // rows
    fold = np.repeat(np.arange(plan.folds), count)
    start = np.arange(len(fold)) * rows - (plan.first_slot - rows)[fold]
    first_word = plan.group * _padded_columns(plan) + plan.n_start
    table = np.full((len(fold) + 1, 4), -1, np.int64)
    table[1:, BASE] = start
    table[:, STEP] = 1
    table[1:, KEPT] = np.minimum(plan.m_size[fold] - start, rows)
    table[1:, BIAS] = np.where(plan.k_start == 0, first_word, -1)[fold]
    return table


def _padded_columns(plan: Schedule) -> int:
    return -(-plan.shape.n // plan.spec.cols) * plan.spec.cols


def _bias_words(plan: Schedule, operands: Operands) -> npt.NDArray[np.int32]:
    words = np.zeros((plan.shape.groups, _padded_columns(plan)), np.int32)
    words[:, : plan.shape.n] = operands.bias
    return words.ravel()


def _drains(plan: Schedule) -> Table:
    """When each block leaves the SRAM, row after row, and for where."""
    first = np.flatnonzero(plan.k_start == 0)
    table = np.empty((len(first), 5), np.int64)
    table[:, START] = (plan.block_slot + plan.block_slots)[first] + plan.spec.drain_cycles
    table[:, ROWS] = plan.m_size[first]
    table[:, TO_ROW] = plan.m_start[first]
    table[:, TO_COL] = (plan.group * plan.shape.n + plan.n_start)[first]
    table[:, COLS] = plan.n_size[first]
    return table
