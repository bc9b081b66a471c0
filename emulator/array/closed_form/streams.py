"""What enters an array, slot by slot, out of a layer's operands: a slot is a step of a fold.

Fold -1 is the first request, which only preloads; an output-stationary array has one more fold after the last, whose
slots take the last results out. A tile ends where the operands do; beyond it the array is fed zeros.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from emulator.array.closed_form.records import Ints, Words
from emulator.array.operands import Streamed
from emulator.array.tiling import Schedule
from emulator.jit import Int, kernel

# Rows of the table of folds.
GROUP, N_START, N_SIZE, M_START, M_SIZE, K_START, K_SIZE, FIRST_SLOT, SLOTS = range(9)


class Streams(NamedTuple):
    """Operands (groups, m, k), (groups, k, n), (groups, m, n), the last one (1, 0, 0) where there is none; table
    (9, folds) int64, the arrays of a Schedule that say which part of them a fold covers, in the order above."""

    act: Words
    wgt: Words
    preload: Words
    table: Ints
    rows: int
    shift: int
    output_stationary: bool


def streams(plan: Schedule, x: Streamed) -> Streams:
    """The operands `x` as `plan` streams them."""
    preload = np.zeros((1, 0, 0), np.int8) if x.preload is None else x.preload
    columns = (
        *(plan.group, plan.n_start, plan.n_size, plan.m_start, plan.m_size, plan.k_start, plan.k_size),
        *(plan.first_slot, plan.slots),
    )
    return Streams(
        act=x.act,
        wgt=x.wgt,
        preload=cast(Words, preload.astype(x.wgt.dtype)),
        table=np.stack(columns),
        rows=plan.spec.rows,
        shift=plan.shift,
        output_stationary=plan.output_stationary,
    )


@kernel
def computes(x: Streams, fold: Int) -> bool:
    """Is it one of the folds of the schedule?"""
    return bool(0 <= fold < x.table.shape[1])


@kernel
def steps_of(x: Streams, fold: Int) -> Int:
    """Slots of a fold, those before the first and after the last included."""
    return x.table[SLOTS, fold] if computes(x, fold) else np.int64(x.rows)


@kernel
def place_of(x: Streams, slot: Int) -> tuple[Int, Int]:
    """(fold, step) of a slot of the layer."""
    last = x.table.shape[1] - 1
    end = x.table[FIRST_SLOT, last] + x.table[SLOTS, last]
    if slot < x.table[FIRST_SLOT, 0]:
        return np.int64(-1), np.int64(slot)
    if slot >= end:
        return np.int64(last + 1), np.int64(slot - end)
    fold = np.int64(np.searchsorted(x.table[FIRST_SLOT], slot, side="right") - 1)
    return fold, np.int64(slot - x.table[FIRST_SLOT, fold])


@kernel
def part_of(x: Streams, fold: Int, start: int) -> tuple[Int, Int]:
    """The range of an operand's axis that a fold covers: `start` is N_START, M_START or K_START, the size is the next
    row."""
    return x.table[start, fold], x.table[start, fold] + x.table[start + 1, fold]


@kernel
def word(tile: Words, row: Int, col: Int) -> Int:
    """An entry of a tile, zero beyond it."""
    inside = row < tile.shape[0] and col < tile.shape[1]
    return np.int64(tile[row, col]) if inside else np.int64(0)


@kernel
def act_tile(x: Streams, fold: Int) -> Words:
    """(steps, array rows): what enters at the left."""
    tile = x.act[0, :0, :0]
    if computes(x, fold):
        (m, m_end), (k, k_end) = part_of(x, fold, M_START), part_of(x, fold, K_START)
        tile = x.act[x.table[GROUP, fold], m:m_end, k:k_end]
    return tile.T if x.output_stationary else tile


@kernel
def weight_tile(x: Streams, fold: Int) -> Words:
    """(k, array columns)."""
    if not computes(x, fold):
        return x.wgt[0, :0, :0]
    (k, k_end), (n, n_end) = part_of(x, fold, K_START), part_of(x, fold, N_START)
    return x.wgt[x.table[GROUP, fold], k:k_end, n:n_end]


@kernel
def preload_tile(x: Streams, fold: Int) -> Words:
    """(m, array columns): what sums start from; empty for all but the first k-fold."""
    if not computes(x, fold) or x.preload.shape[1] == 0 or x.table[K_START, fold] > 0:
        return x.preload[0, :0, :0]
    (m, m_end), (n, n_end) = part_of(x, fold, M_START), part_of(x, fold, N_START)
    return x.preload[x.table[GROUP, fold], m:m_end, n:n_end]


@kernel
def stationary_tile(x: Streams, fold: Int) -> Words:
    """(array rows, array columns): what rests in the PEs when a fold begins."""
    return preload_tile(x, fold) if x.output_stationary else weight_tile(x, fold)


@kernel
def streamed_tile(x: Streams, fold: Int) -> Words:
    """(steps, array columns): what enters at b, partial sums or an output-stationary array's weights."""
    return weight_tile(x, fold) if x.output_stationary else preload_tile(x, fold)


@kernel
def take_column(tile: Words, col: Int, target: Ints) -> None:
    """Column `col` of a tile to the start of `target`, zeros behind it."""
    target[:] = 0
    if col < tile.shape[1]:
        for i in range(tile.shape[0]):
            target[i] = tile[i, col]


@kernel
def shift_at(x: Streams, fold: Int, step: Int) -> int:
    """The shift that comes with a slot: that of the slot before, which has one in a fold's last request."""
    late = step == 0 or step > steps_of(x, fold) - x.rows
    return x.shift if late and computes(x, fold if step > 0 else fold - 1) else 0


@kernel
def result_at(x: Streams, fold: Int, step: Int) -> tuple[Int, Int]:
    """(fold, m): the element, of the column's part of that fold's tile, that leaves with a slot; fold -1 where none
    does."""
    of, m = (fold - 1, x.rows - 1 - step) if x.output_stationary else (fold, step)
    if computes(x, of) and 0 <= m < x.table[M_SIZE, of]:
        return of, m
    return np.int64(-1), m
