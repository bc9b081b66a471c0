"""How a matrix product becomes folds, requests and row slots on a weight-stationary array.

For each group, column fold and row block, the k-folds follow each other without a bubble. A fold streams its
block's rows in requests of `rows` slots (the last one padded with idle rows); during the last request of a
fold the weights of the next one are shifted in. Request 0 only preloads. Slot s enters the array in cycle s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from emulator.array.spec import ArraySpec
from emulator.gemm import GemmShape

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """One layer on the array; the arrays have one entry a fold, in the order of execution.

    n_start, m_start, k_start and the sizes address the operands; first_slot is the fold's first compute slot,
    slots its number of slots (padding included); block_slot and block_slots are those of the whole K loop
    the fold belongs to; bank is 0 where the fold's weights live in c1 and 1 where they live in c2.
    """

    spec: ArraySpec
    shape: GemmShape
    group: Ints
    n_start: Ints
    n_size: Ints
    m_start: Ints
    m_size: Ints
    k_start: Ints
    k_size: Ints
    first_slot: Ints
    slots: Ints
    block_slot: Ints
    block_slots: Ints
    bank: Ints

    @property
    def folds(self) -> int:
        return len(self.group)

    @property
    def total_slots(self) -> int:
        """Row slots of the layer: the first preload and every request."""
        return self.spec.rows + int(self.slots.sum())

    @property
    def cycles(self) -> int:
        """First accepted row to last result row, both included (Gemmini RTL: N + nM + 2N + 1)."""
        return self.total_slots + self.spec.drain_cycles

    @property
    def window_cycles(self) -> int:
        """First accepted row to last row drained from the accumulator: the fault window of the layer."""
        # A short last block can be drained before the longer one it follows.
        return int((self.block_slot + self.block_slots + self.m_size).max()) + self.spec.drain_cycles

    @property
    def utilisation(self) -> float:
        """Useful multiply-accumulates per PE and cycle, 0 to 1."""
        return self.shape.macs / (self.cycles * self.spec.rows * self.spec.cols)


def _starts(total: int, step: int) -> list[tuple[int, int]]:
    return [(start, min(step, total - start)) for start in range(0, total, step)]


_COLUMNS = (
    *("group", "n_start", "n_size", "m_start", "m_size", "k_start", "k_size"),
    *("first_slot", "slots", "block_slot", "block_slots"),
)


@lru_cache(maxsize=1024)
def schedule(spec: ArraySpec, shape: GemmShape) -> Schedule:
    """The folds of `shape` on `spec`, weight-stationary."""
    blocks = _starts(shape.m, spec.acc_rows)
    k_folds = _starts(shape.k, spec.rows)
    folds: list[tuple[int, ...]] = []
    slot = spec.rows
    for group in range(shape.groups):
        for n_start, n_size in _starts(shape.n, spec.cols):
            for m_start, m_size in blocks:
                slots = -(-m_size // spec.rows) * spec.rows
                block = (slot, slots * len(k_folds))
                for k_start, k_size in k_folds:
                    tile = (group, n_start, n_size, m_start, m_size, k_start, k_size)
                    folds.append((*tile, slot, slots, *block))
                    slot += slots
    columns = np.array(folds, np.int64).T.copy()
    columns.flags.writeable = False
    bank = np.arange(columns.shape[1], dtype=np.int64) % 2
    return Schedule(spec=spec, shape=shape, bank=bank, **dict(zip(_COLUMNS, columns, strict=True)))
