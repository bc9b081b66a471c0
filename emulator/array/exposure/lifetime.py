"""What a lifetime is: the live sites of a register class, each one integer.

Each Lifetime counts the live sites of every fold and maps offset <-> site inside a fold, so that a live site
is one integer and dead sites (idle cycles, padding, unused bits) are counted without being simulated. Liveness
is structural: it never looks at operand values. The facts are those of the Gemmini RTL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from emulator.array.tiling import Schedule

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Sites(NamedTuple):
    """Equal-length int64 arrays; cycle is the first cycle of the layer in which the flip is visible."""

    row: Ints
    col: Ints
    bit: Ints
    cycle: Ints


class StruckWords(NamedTuple):
    """Of each word the flips of `bits` bits, from `bit` on, each by itself; the rest as in Sites."""

    row: Ints
    col: Ints
    bit: Ints
    cycle: Ints
    bits: Ints

    @property
    def sites(self) -> Sites:
        """The first flip of each."""
        return Sites(*self[:4])


class Lifetime(Protocol):
    """The live sites of one register class."""

    def count(self, s: Schedule) -> Ints:
        """Live sites of each fold, (folds,) int64."""
        ...

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        """The live sites with these offsets, each in [0, count(fold))."""
        ...

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        """(fold, offset) of each site; -1, -1 where the site is dead."""
        ...

    def words(self, s: Schedule) -> Ints:
        """Words of each fold, (folds,) int64: its live sites, taken together where they differ only in the bit, or in
        the cycle while the flip has the same effect."""
        ...

    def word(self, s: Schedule, fold: Ints, index: Ints) -> tuple[StruckWords, Ints]:
        """The words with these indices, each in [0, words(fold)), in their first cycle, and for how many cycles."""
        ...


class SiteBySite:
    """For lifetimes whose sites are not taken together: every site is a word."""

    def words(self: Lifetime, s: Schedule) -> Ints:
        """One a site."""
        return self.count(s)

    def word(self: Lifetime, s: Schedule, fold: Ints, index: Ints) -> tuple[StruckWords, Ints]:
        """The site."""
        one = np.ones_like(fold)
        return StruckWords(*self.site(s, fold, index), bits=one), one


def fold_of_slot(s: Schedule, slot: Ints) -> Ints:
    """The fold that computes in `slot`, -1 before the first and after the last one."""
    fold = np.searchsorted(s.first_slot, slot, side="right") - 1
    return np.where(slot < s.first_slot[-1] + s.slots[-1], fold, -1)


def live_at(live: Flags, fold: Ints, offset: Ints) -> tuple[Ints, Ints]:
    """(fold, offset), -1 where not live."""
    return np.where(live, fold, -1), np.where(live, offset, -1)


@dataclass(frozen=True, slots=True)
class Dead(SiteBySite):
    """Nothing reads the register, or what it says can't change a result of these programs."""

    def count(self, s: Schedule) -> Ints:
        return np.zeros(s.folds, np.int64)

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        raise IndexError("a dead register has no live site")

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        nothing = np.full(len(at.row), -1, np.int64)
        return nothing, nothing


@dataclass(frozen=True, slots=True)
class Always(SiteBySite):
    """Control: any cycle of the layer may matter, in the first `columns` columns (None: in all). The sites of
    a cycle are counted at the fold whose first slot came last, those before the first at fold 0.

    lines: columns of each row; bits of every register.
    """

    lines: tuple[int, ...]
    bits: int
    first_row: int = 0
    columns: int | None = None

    def _words(self) -> Ints:
        return _used_lines(self.lines, self.columns)

    def _cycles(self, s: Schedule) -> tuple[Ints, Ints]:
        """(first cycle, cycles) of each fold."""
        first = s.first_slot.copy()
        first[0] = 0
        return first, np.diff(first, append=s.window_cycles)

    def count(self, s: Schedule) -> Ints:
        return self._cycles(s)[1] * int(self._words().sum()) * self.bits

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        words = self._words()
        rest, bit = np.divmod(offset, self.bits)
        cycle, word = np.divmod(rest, int(words.sum()))
        row = np.searchsorted(np.cumsum(words), word, side="right")
        col = word - (np.cumsum(words) - words)[row]
        return Sites(row + self.first_row, col, bit, self._cycles(s)[0][fold] + cycle)

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        words = self._words()
        first, _ = self._cycles(s)
        fold = np.searchsorted(first, at.cycle, side="right") - 1
        row = at.row - self.first_row
        live = (at.cycle < s.window_cycles) & (at.col < words[row])
        word = (at.cycle - first[fold]) * int(words.sum()) + (np.cumsum(words) - words)[row] + at.col
        return live_at(live, fold, word * self.bits + at.bit)


@lru_cache(maxsize=256)
def _used_lines(lines: tuple[int, ...], columns: int | None) -> Ints:
    words = np.array(lines, np.int64)
    return words if columns is None else np.minimum(words, columns)


@dataclass(frozen=True, slots=True)
class Requantising:
    """Registers of the requantiser: those of `part`, dead in a layer whose sums leave as they are."""

    part: Lifetime

    def count(self, s: Schedule) -> Ints:
        return self.part.count(s) if s.requantised else Dead().count(s)

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        return self.part.site(s, fold, offset)

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        return self.part.offset(s, at) if s.requantised else Dead().offset(s, at)

    def words(self, s: Schedule) -> Ints:
        return self.part.words(s) if s.requantised else Dead().words(s)

    def word(self, s: Schedule, fold: Ints, index: Ints) -> tuple[StruckWords, Ints]:
        return self.part.word(s, fold, index)


@dataclass(frozen=True, slots=True)
class Union:
    """Parts that have no site in common, one after the other."""

    parts: tuple[Lifetime, ...]

    def count(self, s: Schedule) -> Ints:
        total = np.zeros(s.folds, np.int64)
        for part in self.parts:
            total += part.count(s)
        return total

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        sizes = [part.count(s) for part in self.parts]
        return Sites(*self._of_parts(fold, offset, sizes, 4, lambda part, *at: part.site(s, *at)))

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        fold, offset = Dead().offset(s, at)
        before = np.zeros(s.folds, np.int64)
        for part in self.parts:
            found, inside = part.offset(s, at)
            here = found >= 0
            fold = np.where(here, found, fold)
            offset = np.where(here, before[found] + inside, offset)
            before = before + part.count(s)
        return fold, offset

    def words(self, s: Schedule) -> Ints:
        total = np.zeros(s.folds, np.int64)
        for part in self.parts:
            total += part.words(s)
        return total

    def word(self, s: Schedule, fold: Ints, index: Ints) -> tuple[StruckWords, Ints]:
        def found(part: Lifetime, fold: Ints, index: Ints) -> tuple[Ints, ...]:
            words, cycles = part.word(s, fold, index)
            return *words, cycles

        sizes = [part.words(s) for part in self.parts]
        *words, cycles = self._of_parts(fold, index, sizes, 6, found)
        return StruckWords(*words), cycles

    def _of_parts(
        self,
        fold: Ints,
        index: Ints,
        sizes: Sequence[Ints],
        columns: int,
        find: Callable[[Lifetime, Ints, Ints], tuple[Ints, ...]],
    ) -> Ints:
        """(columns, entries): what `find` gives for each entry, asked of the part whose turn it is; sizes: entries of
        each fold, by part."""
        found = np.zeros((columns, len(fold)), np.int64)
        rest, open_ = index.copy(), np.ones(len(fold), np.bool_)
        for part, size in zip(self.parts, sizes, strict=True):
            here = open_ & (rest < size[fold])
            if here.any():
                found[:, here] = find(part, fold[here], rest[here])
            open_ &= ~here
            rest -= np.where(open_, size[fold], 0)
        return found
