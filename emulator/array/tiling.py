"""How a matrix product becomes folds, requests and row slots on the array.

Folds follow each other without a bubble; one streams its rows in requests of `rows` slots, the last request
padded with idle rows. Slot s enters the array in cycle s. Request 0 only preloads.

WS: for each group, column fold and row block, the k-folds; during the last request of a fold the weights of
the next one are shifted in. OS: for each group, row fold and column fold, the k-blocks that can't overflow a
partial sum; the result of a fold leaves during the first request after it. IS is WS with the operands
exchanged: here m, k and n are those of the array, which computes the transposed product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from emulator.array.spec import ArraySpec
from emulator.errors import BadConfig
from emulator.gemm import GemmShape

Ints = npt.NDArray[np.int64]

# Stages of a result row behind the deskew: write pipeline and memory, and the requantiser.
WRITE_CYCLES = 3
REQUANT_CYCLES = 9


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """One layer on the array; the arrays have one entry a fold, in the order of execution.

    shape is the layer's, streamed the array's (exchanged for IS). n_start, m_start, k_start and the sizes
    address the streamed operands; first_slot is the fold's first compute slot, slots its number of slots
    (padding included); block_slot and block_slots are those of the whole K loop the fold belongs to, base is
    the accumulator row where it begins; shift is the right shift of output-stationary results; bank is the
    value of `propagate` while the fold computes: its stationary words are in c1 for 0, in c2 for 1. Where the layer is
    not requantised its sums leave as they are drained.
    """

    spec: ArraySpec
    shape: GemmShape
    streamed: GemmShape
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
    base: Ints
    bank: Ints
    shift: int = 0
    requantised: bool = True

    @property
    def folds(self) -> int:
        return len(self.group)

    @property
    def output_stationary(self) -> bool:
        return self.spec.dataflow == "os"

    @property
    def steps(self) -> Ints:
        """Operand rows each fold streams."""
        return self.k_size if self.output_stationary else self.m_size

    @property
    def rows_used(self) -> Ints:
        """Array rows each fold uses; the others are padding."""
        return self.m_size if self.output_stationary else self.k_size

    @property
    def requests(self) -> int:
        """The preload, those of the folds, and for OS the one that shifts the last result out."""
        return 1 + int(self.slots.sum()) // self.spec.rows + self.output_stationary

    @property
    def total_slots(self) -> int:
        """Row slots of the layer."""
        return self.spec.rows * self.requests

    @property
    def cycles(self) -> int:
        """First accepted row to last result row, both included (Gemmini RTL: N + nM + 2N + 1)."""
        return self.total_slots + self.spec.drain_cycles

    @cached_property
    def last_folds(self) -> Ints:
        """The last fold of each block."""
        return np.flatnonzero(self.first_slot + self.slots == self.block_slot + self.block_slots)

    @cached_property
    def drain_start(self) -> Ints:
        """(blocks,) the cycle in which a block's first row is drained: when its last result row has been
        written and the block before it is out."""
        ready = (self.block_slot + self.block_slots)[self.last_folds] + self.spec.drain_cycles
        ready += WRITE_CYCLES - 1 + (self.spec.rows if self.output_stationary else 0)
        rows = self.m_size[self.last_folds]
        # start[b] = max(ready[b], start[b - 1] + rows[b - 1])
        before = np.concatenate(([0], np.cumsum(rows)[:-1]))
        return np.maximum.accumulate(ready - before) + before

    @property
    def window_cycles(self) -> int:
        """First accepted row to last row out, requantised or drained: the fault window of the layer."""
        return int(self.drain_start[-1] + self.m_size[-1]) + (REQUANT_CYCLES if self.requantised else 0)

    @property
    def utilisation(self) -> float:
        """Useful multiply-accumulates per PE and cycle, 0 to 1."""
        return self.shape.macs / (self.cycles * self.spec.rows * self.spec.cols)

    @property
    def seconds(self) -> float:
        """Time of the layer at the array's clock."""
        return self.cycles / self.spec.clock_hz


def _starts(total: int, step: int) -> list[tuple[int, int]]:
    return [(start, min(step, total - start)) for start in range(0, total, step)]


_COLUMNS = (
    *("group", "n_start", "n_size", "m_start", "m_size", "k_start", "k_size"),
    *("first_slot", "slots", "block_slot", "block_slots", "base"),
)


@lru_cache(maxsize=1024)
def schedule(
    spec: ArraySpec,
    shape: GemmShape,
    *,
    k_step: int | None = None,
    shift: int = 0,
    requantised: bool = True,
) -> Schedule:
    """The folds of `shape` on `spec`; raises BadConfig where a counter of the array is too narrow.

    requantised: False for a layer that ends in sums of acc_bits (ConvInteger, MatMulInteger).

    k_step, shift: output-stationary only, products a PE sums (default: `k_block`), and the right shift (0 to 31)
    of its results, half to even and saturating, as Gemmini can; layers of a network have neither.
    """
    streamed = replace(shape, m=shape.n, n=shape.m) if spec.dataflow == "is" else shape
    half = spec.acc_rows // 2
    folds: list[tuple[int, ...]] = []
    slot, block = spec.rows, 0
    k_step = (k_step or k_block(spec)) if spec.dataflow == "os" else spec.rows
    for group, n, m in _blocks(spec, streamed, half):
        k_folds = _starts(streamed.k, k_step)
        across = m[1] if spec.dataflow != "os" else 0
        lengths = [_padded(spec, across or k_size) for _, k_size in k_folds]
        block_slot, block_slots = slot, sum(lengths)
        for k, slots in zip(k_folds, lengths, strict=True):
            folds.append((group, *n, *m, *k, slot, slots, block_slot, block_slots, block % 2 * half))
            slot += slots
        block += 1
    columns = np.array(folds, np.int64).T.copy()
    columns.flags.writeable = False
    # The edge's propagate starts at 0 and the first request toggles it.
    bank = np.arange(columns.shape[1], dtype=np.int64) % 2
    fields = dict(zip(_COLUMNS, columns, strict=True))
    plan = Schedule(
        spec=spec, shape=shape, streamed=streamed, bank=bank, shift=shift, requantised=requantised, **fields
    )
    _check_counters(plan, block)
    return plan


def _blocks(
    spec: ArraySpec, shape: GemmShape, half: int
) -> list[tuple[int, tuple[int, int], tuple[int, int]]]:
    """(group, column fold, row block) of each accumulator block, in order."""
    columns = _starts(shape.n, spec.cols)
    if spec.dataflow == "os":
        rows = _starts(shape.m, spec.rows)
        return [(g, n, m) for g in range(shape.groups) for m in rows for n in columns]
    rows = _starts(shape.m, half)
    return [(g, n, m) for g in range(shape.groups) for n in columns for m in rows]


def k_block(spec: ArraySpec) -> int:
    """Products an output-stationary PE sums before its result leaves: whole requests, and if one fits
    without overflow, no more than do (16 for 8 x 8 bits in 20)."""
    exact = 1 << max(spec.psum_bits - spec.act_bits - spec.wgt_bits, 0)
    return max(exact // spec.rows, 1) * spec.rows


def _padded(spec: ArraySpec, slots: int) -> int:
    return -(-slots // spec.rows) * spec.rows


def _check_counters(plan: Schedule, blocks: int) -> None:
    """The sequencer counts requests in 24 bits, blocks in 16; a row on its way out has a number of 24."""
    rows = int(plan.m_size[plan.last_folds].sum())
    if plan.requests >= 1 << 24 or blocks >= 1 << 16 or rows > 1 << 24:
        raise BadConfig(
            f"{plan.shape} on {plan.spec.name!r} takes {plan.requests} requests, {blocks} accumulator blocks and "
            f"{rows} result rows; allowed: below {1 << 24}, below {1 << 16}, {1 << 24}. Use an array with more "
            "acc_rows, rows or cols."
        )
