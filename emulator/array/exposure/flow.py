"""Words that move with a row: through edge and skew on their way in, through outputs, deskew, write pipeline and
requantiser on their way out. A line (an array row or column) has one or more stages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from emulator.array.exposure.lifetime import Flags, Ints, Sites, StruckWords, fold_of_slot, live_at
from emulator.array.tiling import Schedule

Moving = Literal["stream", "preload", "result", "first result", "drained"]


def steps(s: Schedule, moving: Moving) -> Ints:
    """Rows of each fold that move: operand rows, stationary rows shifted in, result rows, the same of the
    first k-fold only, or accumulator rows drained (at a block's last fold)."""
    match moving:
        case "stream":
            return s.steps
        case "preload":
            return s.rows_used
        case "result":
            return s.m_size
        case "first result":
            return np.where(s.k_start == 0, s.m_size, 0)
        case "drained":
            sizes = np.zeros(s.folds, np.int64)
            sizes[s.last_folds] = s.m_size[s.last_folds]
            return sizes


def time_of(s: Schedule, moving: Moving, fold: Ints, step: Ints) -> Ints:
    """The slot in which step `step` of a fold moves; for drained rows the cycle in which they are read."""
    match moving:
        case "stream":
            return s.first_slot[fold] + step
        case "preload":
            return s.first_slot[fold] - 1 - step
        case "result" | "first result":
            if s.output_stationary:
                return (s.first_slot + s.slots + s.spec.rows - 1)[fold] - step
            return s.first_slot[fold] + step
        case "drained":
            return s.drain_start[np.searchsorted(s.last_folds, fold)] + step


def step_at(s: Schedule, moving: Moving, time: Ints) -> tuple[Ints, Ints]:
    """The inverse of `time_of`: (fold, step), fold -1 where nothing moves."""
    if moving == "drained":
        block = np.searchsorted(s.drain_start, time, side="right") - 1
        fold = s.last_folds[np.maximum(block, 0)]
        fold = np.where(block >= 0, fold, -1)
    elif moving == "stream" or (moving != "preload" and not s.output_stationary):
        fold = fold_of_slot(s, time)
    elif moving == "preload":
        fold = np.where(time >= 0, fold_of_slot(s, time + s.spec.rows), -1)
    else:
        fold = fold_of_slot(s, time - s.spec.rows)
    zero = time_of(s, moving, fold, np.zeros_like(fold))
    step = time - zero
    if moving == "preload" or (moving in ("result", "first result") and s.output_stationary):
        step = -step
    moves = (fold >= 0) & (step >= 0) & (step < steps(s, moving)[fold])
    return np.where(moves, fold, -1), step


@dataclass(frozen=True, slots=True)
class Flow:
    """Words that move with a row, one a line and stage.

    A word of line l moves with the row of slot t and is in stage j of its line in cycle t + delay + l * skewed - j
    * ageing: along a skew the last stage is number 0. limit: which lines are in use, those of array rows in use,
    of columns in use. across: lines are columns and stages rows.
    """

    moving: Moving
    limit: Literal["rows", "cols"]
    stages: tuple[int, ...]
    bits: int
    delay: int
    skewed: int = 0
    ageing: int = 1
    across: bool = False
    first_row: int = 0

    def _lines(self, s: Schedule) -> Ints:
        return s.rows_used if self.limit == "rows" else s.n_size

    def _ends(self) -> Ints:
        """Words of the first 0, 1, 2 ... lines."""
        return _running_sum(self.stages)

    def count(self, s: Schedule) -> Ints:
        return self.words(s) * self.bits

    def site(self, s: Schedule, fold: Ints, offset: Ints) -> Sites:
        word, bit = np.divmod(offset, self.bits)
        return self._at(s, fold, word)._replace(bit=bit)

    def _at(self, s: Schedule, fold: Ints, index: Ints) -> Sites:
        """Bit 0 of each word."""
        step, word = np.divmod(index, self._ends()[self._lines(s)[fold]])
        line = np.searchsorted(self._ends(), word, side="right") - 1
        stage = word - self._ends()[line]
        cycle = time_of(s, self.moving, fold, step) + self._lag(line, stage)
        row, col = (stage, line) if self.across else (line, stage)
        return Sites(row + self.first_row, col, np.zeros_like(row), cycle)

    def words(self, s: Schedule) -> Ints:
        return steps(s, self.moving) * self._ends()[self._lines(s)]

    def word(self, s: Schedule, fold: Ints, index: Ints) -> tuple[StruckWords, Ints]:
        one = np.ones_like(fold)
        return StruckWords(*self._at(s, fold, index), bits=one * self.bits), one

    def _lag(self, line: Ints, stage: Ints) -> Ints:
        return self.delay + line * self.skewed - stage * self.ageing

    def offset(self, s: Schedule, at: Sites) -> tuple[Ints, Ints]:
        row = at.row - self.first_row
        line, stage = (at.col, row) if self.across else (row, at.col)
        fold, step = step_at(s, self.moving, at.cycle - self._lag(line, stage))
        lines = self._lines(s)[fold]
        live: Flags = (fold >= 0) & (line < lines) & (at.bit < self.bits)
        word = step * self._ends()[lines] + self._ends()[line] + stage
        return live_at(live, fold, word * self.bits + at.bit)


@lru_cache(maxsize=256)
def _running_sum(stages: tuple[int, ...]) -> Ints:
    return np.concatenate(([0], np.cumsum(stages, dtype=np.int64)))
