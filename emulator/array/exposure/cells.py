"""Words of the PEs: operands and sums that pass through, stationary words that rest or are shifted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from emulator.array.exposure.lifetime import Ints, Sites, StruckWords, fold_of_slot, live_at
from emulator.array.tiling import Schedule


def pe_slot(at: Sites) -> Ints:
    """The row slot that PE(row, col) works on in `cycle`; slot s reaches PE(0, 0) in cycle s + 2."""
    return at.cycle - 2 - at.row - at.col


@dataclass(frozen=True, slots=True)
class Computing:
    """A register that matters in every PE while a fold computes: operands and sums passing through, or the bank
    in use (`bank`; None: either). Rows in use, or all; row 0 may be narrower; padding slots count if `padded`."""

    bits: int
    first_row_bits: int
    all_rows: bool = False
    padded: bool = False
    bank: int | None = None

    def _column_bits(self, s: Schedule) -> Ints:
        return self.first_row_bits + (self._rows(s) - 1) * self.bits

    def _slots(self, s: Schedule) -> Ints:
        slots = s.slots if self.padded else s.steps
        return slots if self.bank is None else np.where(s.bank == self.bank, slots, 0)

    def _rows(self, s: Schedule) -> Ints:
        return np.full_like(s.rows_used, s.spec.rows) if self.all_rows else s.rows_used

    def count(self, s: Schedule) -> Ints:
        return self._slots(s) * s.n_size * self._column_bits(s)

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        rest, word = np.divmod(offset, self._column_bits(s)[fold])
        step, col = np.divmod(rest, s.n_size[fold])
        first = word < self.first_row_bits
        row, bit = np.divmod(np.maximum(word - self.first_row_bits, 0), self.bits)
        row, bit = np.where(first, 0, row + 1), np.where(first, word, bit)
        return Sites(row, col, bit, s.first_slot[fold] + step + 2 + row + col)

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        slot = pe_slot(at)
        fold = fold_of_slot(s, slot)
        step = slot - s.first_slot[fold]
        above = self.first_row_bits + (at.row - 1) * self.bits
        word = np.where(at.row == 0, at.bit, above + at.bit)
        live = (fold >= 0) & (step < self._slots(s)[fold]) & (at.col < s.n_size[fold])
        live &= word < self._column_bits(s)[fold]
        live &= at.bit < np.where(at.row == 0, self.first_row_bits, self.bits)
        return live_at(live, fold, (step * s.n_size[fold] + at.col) * self._column_bits(s)[fold] + word)

    def words(self, s: Schedule) -> Ints:
        return self._slots(s) * s.n_size * self._rows(s)

    def word(self, s: Schedule, fold: Ints, index: Ints) -> tuple[StruckWords, Ints]:
        rest, row = np.divmod(index, self._rows(s)[fold])
        step, col = np.divmod(rest, s.n_size[fold])
        bits = np.where(row == 0, self.first_row_bits, self.bits)
        cycle = s.first_slot[fold] + step + 2 + row + col
        return StruckWords(row, col, np.zeros_like(row), cycle, bits), np.ones_like(row)


@dataclass(frozen=True, slots=True)
class Shifting:
    """A stationary word or result on its way down a column, row q of the tile seen in PE row r.

    chain: in the d registers, else in the bank that shifts (`bank`). out: the result leaving after the fold, else
    the stationary word coming in before it. Row 0 may have fewer live bits.
    """

    chain: bool
    out: bool
    bits: int
    first_row_bits: int
    bank: int | None = None

    def _table(self, s: Schedule) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        first_row_bits = min(self.first_row_bits, self.bits)
        return _shifting_words(s.spec.rows, self.chain, self.out, self.bits, first_row_bits)

    def _words(self, s: Schedule) -> Ints:
        """Live bits of one column of each fold."""
        words = self._table(s)[3][s.rows_used]
        return words if self.bank is None else np.where(s.bank == self.bank, words, 0)

    def count(self, s: Schedule) -> Ints:
        return self._words(s) * s.n_size

    def _slot(self, s: Schedule, fold: Ints, row: Ints, q: Ints) -> Ints:
        # A word moves one row a slot; it is in d one slot before it is in the bank.
        start = (s.first_slot + s.slots if self.out else s.first_slot)[fold]
        return start + row - q - int(self.chain)

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        rows, qs, bits, _, _ = self._table(s)
        word, col = np.divmod(offset, s.n_size[fold])
        row, q = rows[word], qs[word]
        return Sites(row, col, bits[word], self._slot(s, fold, row, q) + 2 + row + col)

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        slot, size = pe_slot(at), s.spec.rows
        # The last `rows` slots before a fold bring its words in, the first ones after it take them out.
        fold = fold_of_slot(s, slot - size if self.out else slot + size)
        q = self._slot(s, fold, at.row, np.zeros_like(slot)) - slot
        known = (fold >= 0) & (slot >= 0) & (q >= 0) & (q < size)
        index = self._table(s)[4][at.row, np.where(known, q, 0)]
        width = np.where(at.row == 0, min(self.first_row_bits, self.bits), self.bits)
        live = known & (index >= 0) & (at.bit < width) & (at.col < s.n_size[fold])
        word = index + at.bit
        live &= word < self._words(s)[fold]
        return live_at(live, fold, word * s.n_size[fold] + at.col)

    def words(self, s: Schedule) -> Ints:
        starts = np.flatnonzero(self._table(s)[2] == 0)
        return np.searchsorted(starts, self._words(s)) * s.n_size

    def word(self, s: Schedule, fold: Ints, index: Ints) -> tuple[StruckWords, Ints]:
        rows, qs, bits, _, _ = self._table(s)
        starts = np.flatnonzero(bits == 0)
        word, col = np.divmod(index, s.n_size[fold])
        row, q = rows[starts[word]], qs[starts[word]]
        width = np.where(row == 0, min(self.first_row_bits, self.bits), self.bits)
        cycle = self._slot(s, fold, row, q) + 2 + row + col
        return StruckWords(row, col, np.zeros_like(row), cycle, width), np.ones_like(row)


@lru_cache(maxsize=64)
def _shifting_words(
    size: int, chain: bool, out: bool, bits: int, first_row_bits: int
) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """(row, q, bit) of each live bit of a column in the order of q; running number of words for q = 0, 1, ...;
    the first word of (row, q), -1 where none is."""
    row, q = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    # Coming in, a word passes the rows above its own; in d also its own. Going out, those from its own down.
    strictly, weakly = (row > q, row >= q) if out else (row <= q, row < q)
    passes = strictly if chain else weakly
    order = np.lexsort((row[passes], q[passes]))
    rows, qs = row[passes][order], q[passes][order]
    width = np.where(rows == 0, first_row_bits, bits)
    start = np.cumsum(width) - width
    first = np.full((size, size), -1, np.int64)
    first[rows, qs] = start
    per_q = np.bincount(qs, weights=width, minlength=size).astype(np.int64)
    ends = np.concatenate(([0], np.cumsum(per_q)))
    bit = np.arange(ends[-1]) - np.repeat(start, width)
    return np.repeat(rows, width), np.repeat(qs, width), bit, ends, first
