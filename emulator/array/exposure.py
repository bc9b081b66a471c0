"""When a register is live: the sites (row, col, bit, cycle) at which a flip can reach a written result.

Each Lifetime counts the live sites of every fold and maps offset <-> site inside a fold, so that a live site
is one integer and dead sites (idle cycles, padding, unused bits) are counted without being simulated. Liveness
is structural: it never looks at operand values. The facts are those of the Gemmini RTL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from emulator.array.tiling import Schedule

Ints = npt.NDArray[np.int64]


class Sites(NamedTuple):
    """Equal-length int64 arrays; cycle is the first cycle of the layer in which the flip is visible."""

    row: Ints
    col: Ints
    bit: Ints
    cycle: Ints


class Lifetime(Protocol):
    """The live sites of one register class."""

    def count(self, s: Schedule) -> Ints:
        """Live sites of each fold, (folds,) int64."""
        ...

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        """The live sites with these offsets, each in [0, count(fold))."""
        ...

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        """(fold, offset) of each site; offset -1 where the site is dead."""
        ...


def pe_slot(at: Sites) -> Ints:
    """The row slot that PE(row, col) works on in `cycle`; slot s reaches PE(0, 0) in cycle s + 2."""
    return at.cycle - 2 - at.row - at.col


def fold_of_slot(s: Schedule, slot: Ints) -> Ints:
    """The fold that computes in `slot`, -1 in the first preload and after the last slot."""
    fold = np.searchsorted(s.first_slot, slot, side="right") - 1
    return np.where(slot < s.total_slots, fold, -1)


def _finish(live: npt.NDArray[np.bool_], fold: Ints, offset: Ints) -> tuple[Ints, Ints]:
    return np.where(live, fold, -1), np.where(live, offset, -1)


def _triangle(index: Ints) -> tuple[Ints, Ints]:
    """index to (q, j), 0 <= j <= q, enumerated row by row of the triangle."""
    q = ((np.sqrt(8.0 * index + 1.0) - 1.0) / 2.0).astype(np.int64)
    q += (q + 1) * (q + 2) // 2 <= index
    q -= q * (q + 1) // 2 > index
    return q, index - q * (q + 1) // 2


@dataclass(frozen=True, slots=True)
class ActivationPipe:
    """pe_a: row m of the tile passes PE(r, c) once; live for weight rows and columns in use."""

    def count(self, s: Schedule) -> Ints:
        return s.m_size * s.k_size * s.n_size * s.spec.act_bits

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        rest, bit = np.divmod(offset, s.spec.act_bits)
        rest, col = np.divmod(rest, s.n_size[fold])
        m, row = np.divmod(rest, s.k_size[fold])
        return Sites(row, col, bit, s.first_slot[fold] + m + 2 + row + col)

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        slot = pe_slot(at)
        fold = fold_of_slot(s, slot)
        m = slot - s.first_slot[fold]
        live = (fold >= 0) & (m < s.m_size[fold]) & (at.row < s.k_size[fold]) & (at.col < s.n_size[fold])
        word = (m * s.k_size[fold] + at.row) * s.n_size[fold] + at.col
        return _finish(live, fold, word * s.spec.act_bits + at.bit)


@dataclass(frozen=True, slots=True)
class PartialSum:
    """pe_b: the partial sum of (m, column c) passes every PE row once, idle weight rows included."""

    def _column_bits(self, s: Schedule) -> int:
        return s.spec.act_bits + (s.spec.rows - 1) * s.spec.psum_bits

    def count(self, s: Schedule) -> Ints:
        return s.m_size * s.n_size * self._column_bits(s)

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        rest, word = np.divmod(offset, self._column_bits(s))
        m, col = np.divmod(rest, s.n_size[fold])
        row, bit = np.divmod(np.maximum(word - s.spec.act_bits, 0), s.spec.psum_bits)
        first = word < s.spec.act_bits
        row, bit = np.where(first, 0, row + 1), np.where(first, word, bit)
        return Sites(row, col, bit, s.first_slot[fold] + m + 2 + row + col)

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        slot = pe_slot(at)
        fold = fold_of_slot(s, slot)
        m = slot - s.first_slot[fold]
        live = (fold >= 0) & (m < s.m_size[fold]) & (at.col < s.n_size[fold])
        word = np.where(at.row == 0, at.bit, s.spec.act_bits + (at.row - 1) * s.spec.psum_bits + at.bit)
        return _finish(live, fold, (m * s.n_size[fold] + at.col) * self._column_bits(s) + word)


@dataclass(frozen=True, slots=True)
class WeightChain:
    """pe_d: on its way to PE row q the weight of the coming tile passes the d register of rows 0 to q.

    At PE row r it is seen in local slot rows-1-q+r of the preloading request; bits above the weight are dead.
    """

    def count(self, s: Schedule) -> Ints:
        return s.k_size * (s.k_size + 1) // 2 * s.n_size * s.spec.wgt_bits

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        rest, bit = np.divmod(offset, s.spec.wgt_bits)
        rest, col = np.divmod(rest, s.n_size[fold])
        q, row = _triangle(rest)
        return Sites(row, col, bit, s.first_slot[fold] - 1 - q + row + 2 + row + col)

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        slot = pe_slot(at)
        fold = fold_of_slot(s, slot + s.spec.rows)
        q = s.first_slot[fold] - 1 - slot + at.row
        live = (fold >= 0) & (slot >= 0) & (q >= at.row) & (q < s.k_size[fold])
        live &= (at.col < s.n_size[fold]) & (at.bit < s.spec.wgt_bits)
        word = (q * (q + 1) // 2 + at.row) * s.n_size[fold] + at.col
        return _finish(live, fold, word * s.spec.wgt_bits + at.bit)


@dataclass(frozen=True, slots=True)
class WeightBank:
    """pe_c1 / pe_c2: the shadow bank of rows 0 to q-1 while the weight shifts in, then row q until the tile's
    last row has passed. Even folds live in c1 (bank 0), odd folds in c2."""

    bank: int

    def count(self, s: Schedule) -> Ints:
        words = s.k_size * s.m_size + s.k_size * (s.k_size - 1) // 2
        return np.where(s.bank == self.bank, words * s.n_size * s.spec.wgt_bits, 0)

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        rest, bit = np.divmod(offset, s.spec.wgt_bits)
        word, col = np.divmod(rest, s.n_size[fold])
        active = s.k_size[fold] * s.m_size[fold]
        row, slot = np.divmod(word, s.m_size[fold])
        q, shadow_row = _triangle(np.maximum(word - active, 0))
        shadow = word >= active
        row = np.where(shadow, shadow_row, row)
        slot = np.where(shadow, shadow_row - (q + 1), slot)
        return Sites(row, col, bit, s.first_slot[fold] + slot + 2 + row + col)

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        slot = pe_slot(at)
        fold = fold_of_slot(s, slot)
        m = slot - s.first_slot[fold]
        active = (fold >= 0) & (s.bank[fold] == self.bank) & (m < s.m_size[fold]) & (at.row < s.k_size[fold])
        coming = fold_of_slot(s, slot + s.spec.rows)
        q = s.first_slot[coming] - slot + at.row
        shadow = (coming >= 0) & (slot >= 0) & (s.bank[coming] == self.bank)
        shadow &= (q > at.row) & (q < s.k_size[coming])
        fold = np.where(shadow, coming, fold)
        live = (active | shadow) & (at.col < s.n_size[fold]) & (at.bit < s.spec.wgt_bits)
        at_rest = at.row * s.m_size[fold] + m
        shifting = s.k_size[fold] * s.m_size[fold] + (q - 1) * q // 2 + at.row
        word = np.where(shadow, shifting, at_rest) * s.n_size[fold] + at.col
        return _finish(live, fold, word * s.spec.wgt_bits + at.bit)


@dataclass(frozen=True, slots=True)
class AccumulatorWord:
    """accumulator: row m of a block from its first write until it is drained, one row a cycle, right after
    the block's last result row. The sites of a block are counted at its last fold."""

    def count(self, s: Schedule) -> Ints:
        words = s.m_size * s.n_size * s.spec.acc_bits * s.block_slots
        return np.where(_last_of_block(s), words, 0)

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        rest, bit = np.divmod(offset, s.spec.acc_bits)
        rest, age = np.divmod(rest, s.block_slots[fold])
        row, col = np.divmod(rest, s.n_size[fold])
        return Sites(row, col, bit, first_sum_cycle(s, fold, row) + age)

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        slot = at.cycle - at.row - s.spec.drain_cycles - 1
        fold = fold_of_slot(s, slot)
        age = slot - s.block_slot[fold]
        last = np.searchsorted(s.first_slot, s.block_slot[fold] + s.block_slots[fold]) - 1
        live = (fold >= 0) & (at.row < s.m_size[fold]) & (at.col < s.n_size[fold])
        word = (at.row * s.n_size[fold] + at.col) * s.block_slots[fold] + age
        return _finish(live, last, word * s.spec.acc_bits + at.bit)


def first_sum_cycle(s: Schedule, fold: Ints, row: Ints) -> Ints:
    """The first cycle in which accumulator `row` of the fold's block holds bias + first partial sum."""
    return s.block_slot[fold] + row + s.spec.drain_cycles + 1


def _last_of_block(s: Schedule) -> npt.NDArray[np.bool_]:
    last: npt.NDArray[np.bool_] = s.first_slot + s.slots == s.block_slot + s.block_slots
    return last
