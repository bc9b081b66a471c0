"""Words of the memories: accumulator and operand buffers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emulator.array.buffers import Residence, residence
from emulator.array.exposure.lifetime import Flags, Ints, Sites, StruckWords, live_at
from emulator.array.host import ACT_BUFFER
from emulator.array.tiling import WRITE_CYCLES, Schedule


def first_sum_cycle(s: Schedule, fold: Ints, m: Ints) -> Ints:
    """The first cycle in which the memory holds row `m` with the sum of this fold."""
    leaving = (s.first_slot + s.slots + s.spec.rows - 1)[fold] - m
    slot = leaving if s.output_stationary else s.first_slot[fold] + m
    return slot + s.spec.drain_cycles + WRITE_CYCLES


@dataclass(frozen=True, slots=True)
class AccumulatorWord:
    """accumulator: row m of a block from its first write until it is drained, less one cycle a k-fold: a flip
    between the read and the write of an addition is overwritten. Counted at the block's last fold.

    A word's live cycles are numbered by age, the k-folds' segments one after the other.
    """

    bits: int

    def _first_fold(self, s: Schedule) -> Ints:
        """The first fold of the block that each fold belongs to."""
        return np.searchsorted(s.first_slot, s.block_slot)

    def _ages(self, s: Schedule) -> tuple[Ints, Ints, Ints, Ints]:
        """Of the block of each fold: ages before the last k-fold's segment, ages of row 0, more ages a row, ages of
        one k-fold's segment."""
        first, last = self._first_fold(s), s.last_folds[np.searchsorted(s.last_folds, np.arange(s.folds))]
        zero = np.zeros_like(first)
        early = first_sum_cycle(s, last, zero) - first_sum_cycle(s, first, zero) - (last - first)
        drain = s.drain_start[np.searchsorted(s.last_folds, last)]
        final = drain - first_sum_cycle(s, last, zero) + 1
        slope = np.full_like(early, 2 if s.output_stationary else 0)
        return early, early + final, slope, s.slots[first] - 1

    def count(self, s: Schedule) -> Ints:
        _, base, slope, _ = self._ages(s)
        words = s.m_size * base + slope * (s.m_size * (s.m_size - 1) // 2)
        counted = np.zeros(s.folds, np.int64)
        counted[s.last_folds] = (words * s.n_size * self.bits)[s.last_folds]
        return counted

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        rest, bit = np.divmod(offset, self.bits)
        word, col = np.divmod(rest, s.n_size[fold])
        row, age = self._row_and_age(s, fold, word)
        early, _, _, segment = (x[fold] for x in self._ages(s))
        in_last = age >= early
        added = np.where(in_last, 0, age // segment)
        of = np.where(in_last, fold, self._first_fold(s)[fold] + added)
        within = np.where(in_last, age - early, age - added * segment)
        return Sites(s.base[fold] + row, col, bit, first_sum_cycle(s, of, row) + within)

    def _row_and_age(self, s: Schedule, fold: Ints, word: Ints) -> tuple[Ints, Ints]:
        """Rows before row i take i * base + slope * i (i - 1) / 2 words."""
        _, base, slope, _ = (x[fold] for x in self._ages(s))
        if not s.output_stationary:
            return np.divmod(word, base)
        row = ((1 - base + np.sqrt((base - 1.0) ** 2 + 4.0 * word)) / 2).astype(np.int64)
        row -= row * base + row * (row - 1) > word
        row += (row + 1) * base + row * (row + 1) <= word
        return row, word - row * base - slope * (row * (row - 1) // 2)

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        half = s.spec.acc_rows // 2
        m = at.row % half
        # Blocks take the halves in turn: of those in this half, the last one that has begun.
        first = self._first_fold(s)[s.last_folds]
        begun = np.searchsorted(first_sum_cycle(s, first, np.zeros_like(first)), at.cycle, side="right") - 1
        best = np.full(len(m), -1, np.int64), np.full(len(m), -1, np.int64)
        # Output-stationary rows are written last to first, so a block may have begun later for row 0.
        for back in range(4):
            block = begun + 1 - back
            inside = (block >= 0) & (block < len(first))
            found = self._in_block(s, at, m, np.where(inside, block, 0))
            best = (
                np.where(inside & (found[0] >= 0), found[0], best[0]),
                np.where(inside & (found[0] >= 0), found[1], best[1]),
            )
        return best

    def _in_block(self, s: Schedule, at: Sites, m: Ints, block: Ints) -> tuple[Ints, Ints]:
        fold = s.last_folds[block]
        early, base, slope, segment = (x[fold] for x in self._ages(s))
        start = self._first_fold(s)[fold]
        since = at.cycle - first_sum_cycle(s, start, m)
        until = s.drain_start[block] + m
        in_last = at.cycle >= first_sum_cycle(s, fold, m)
        added, within = np.divmod(since, segment + 1)
        age = np.where(in_last, early + at.cycle - first_sum_cycle(s, fold, m), added * segment + within)
        # The cycle before a sum becomes visible is the one in which it is overwritten.
        overwritten = ~in_last & ((within == segment) | (at.cycle + 1 == first_sum_cycle(s, fold, m)))
        live: Flags = (since >= 0) & (at.cycle <= until) & ~overwritten
        live &= (m < s.m_size[fold]) & (at.col < s.n_size[fold]) & (at.row == s.base[fold] + m)
        word = m * base + slope * (m * (m - 1) // 2) + age
        return live_at(live, fold, (word * s.n_size[fold] + at.col) * self.bits + at.bit)

    def _sums(self, s: Schedule) -> Ints:
        """Of each block's last fold: the k-folds whose sums a word holds in turn."""
        sums = np.zeros(s.folds, np.int64)
        sums[s.last_folds] = (np.arange(s.folds) - self._first_fold(s) + 1)[s.last_folds]
        return sums

    def words(self, s: Schedule) -> Ints:
        return self._sums(s) * s.m_size * s.n_size

    def word(self, s: Schedule, fold: Ints, index: Ints) -> tuple[StruckWords, Ints]:
        rest, col = np.divmod(index, s.n_size[fold])
        row, added = np.divmod(rest, self._sums(s)[fold])
        of = self._first_fold(s)[fold] + added
        start = first_sum_cycle(s, of, row)
        # The cycle before a sum becomes visible is the one in which it is overwritten.
        replaced = first_sum_cycle(s, np.minimum(of + 1, fold), row) - 1
        drained = s.drain_start[np.searchsorted(s.last_folds, fold)] + row + 1
        cycles = np.where(of == fold, drained, replaced) - start
        bits = np.full_like(row, self.bits)
        return StruckWords(s.base[fold] + row, col, np.zeros_like(row), start, bits), cycles


@dataclass(frozen=True, slots=True)
class BufferWord:
    """act_buffer, wgt_buffer: a tile's word from its load until the last fold that reads it. Counted at the fold
    that loads the tile."""

    buffer: int
    bits: int

    def _extent(self, s: Schedule) -> tuple[Ints, Ints, Ints]:
        """Of each fold's tile: words in use in a row, first and number of rows in use."""
        if self.buffer == ACT_BUFFER:
            return s.rows_used, np.zeros_like(s.steps), s.steps
        if s.output_stationary:
            return s.n_size, np.zeros_like(s.steps), s.steps
        return s.n_size, s.spec.rows - s.rows_used, s.rows_used

    def _span(self, s: Schedule, home: Residence, fold: Ints, j: Ints) -> tuple[Ints, Ints]:
        """(first, last) cycle in which row j of the tile that `fold` loaded may be struck and still be read."""
        first = np.where(fold == 0, 0, home.load_cycle[fold] + j + 1)
        return first, home.read_slot[home.last_reader[fold]] + j

    def _loads(self, s: Schedule, home: Residence) -> Flags:
        loads: Flags = home.loaded_by == np.arange(s.folds)
        return loads

    def _cycles(self, s: Schedule, home: Residence) -> tuple[Ints, Ints]:
        """Of each loading fold: cycles of the first row in use, more cycles a row."""
        fold = np.arange(s.folds)
        first, last = self._span(s, home, fold, self._extent(s)[1])
        slope = np.where(fold == 0, 1, 0)
        return np.where(self._loads(s, home), last - first + 1, 0), slope

    def count(self, s: Schedule) -> Ints:
        home = residence(s, self.buffer)
        wide, _, rows = self._extent(s)
        cycles, slope = self._cycles(s, home)
        per_column = rows * cycles + slope * (rows * (rows - 1) // 2)
        return np.where(self._loads(s, home), per_column * wide * self.bits, 0)

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        home = residence(s, self.buffer)
        wide, start, _ = (x[fold] for x in self._extent(s))
        cycles, slope = (x[fold] for x in self._cycles(s, home))
        rest, bit = np.divmod(offset, self.bits)
        word, col = np.divmod(rest, wide)
        row = np.where(slope == 0, word // cycles, self._row_of_triangle(cycles, word))
        age = word - row * cycles - slope * (row * (row - 1) // 2)
        j = start + row
        return Sites(home.address[fold] + j, col, bit, self._span(s, home, fold, j)[0] + age)

    @staticmethod
    def _row_of_triangle(base: Ints, word: Ints) -> Ints:
        """The row in which `word` lies when row i has base + i words."""
        half = base - 0.5
        row = (np.sqrt(half * half + 2.0 * word) - half).astype(np.int64)
        row -= row * base + row * (row - 1) // 2 > word
        row += (row + 1) * base + row * (row + 1) // 2 <= word
        return np.asarray(row, np.int64)

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        home = residence(s, self.buffer)
        wide, start, rows = self._extent(s)
        cycles, slope = self._cycles(s, home)
        loads = np.flatnonzero(self._loads(s, home))
        fold = np.full(len(at.row), -1, np.int64)
        for address in np.unique(home.address[loads]).tolist():
            here = loads[home.address[loads] == address]
            near = np.flatnonzero((at.row >= address) & (at.row < address + home.rows[here].max()))
            j = at.row[near] - address
            latest = np.searchsorted(home.load_cycle[here], at.cycle[near] - j - 1, side="right") - 1
            found = here[np.maximum(latest, 0)]
            first, last = self._span(s, home, found, j)
            inside = (latest >= 0) & (first <= at.cycle[near]) & (at.cycle[near] <= last)
            inside &= (start[found] <= j) & (j < (start + rows)[found])
            inside &= (at.col[near] < wide[found]) & (at.bit[near] < self.bits)
            fold[near[inside]] = found[inside]
        row = at.row - home.address[fold] - start[fold]
        begin, _ = self._span(s, home, fold, start[fold] + row)
        word = row * cycles[fold] + slope[fold] * (row * (row - 1) // 2) + at.cycle - begin
        return live_at(fold >= 0, fold, (word * wide[fold] + at.col) * self.bits + at.bit)

    def words(self, s: Schedule) -> Ints:
        home = residence(s, self.buffer)
        wide, _, rows = self._extent(s)
        return rows * wide * np.bincount(home.loaded_by, minlength=s.folds)

    def word(self, s: Schedule, fold: Ints, index: Ints) -> tuple[StruckWords, Ints]:
        home = residence(s, self.buffer)
        wide, start, rows = (x[fold] for x in self._extent(s))
        rest, col = np.divmod(index, wide)
        turn, row = np.divmod(rest, rows)
        # A word has the same effect from one reading of its tile to the next.
        order = np.argsort(home.loaded_by, kind="stable")
        first = np.searchsorted(home.loaded_by[order], fold)
        j = start + row
        loaded, _ = self._span(s, home, fold, j)
        before = home.read_slot[order[np.maximum(first + turn - 1, 0)]] + j + 1
        begin = np.where(turn == 0, loaded, before)
        cycles = home.read_slot[order[first + turn]] + j + 1 - begin
        zero = np.zeros_like(row)
        return StruckWords(home.address[fold] + j, col, zero, begin, zero + self.bits), cycles
