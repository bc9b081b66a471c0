"""The cycle engine for many faults of one layer: a golden run with snapshots, then every fault from the snapshot
before it until the machine has re-converged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.bits import wrap_words
from emulator.array.compile import compile_layer
from emulator.array.cycle import cycle_limit, observer
from emulator.array.exposure.memory import first_sum_cycle
from emulator.array.host import Observed, Words
from emulator.array.injection import FIRST, LAST, encode_upsets
from emulator.array.layout import Control, grid
from emulator.array.machine import advance, reset
from emulator.array.operands import Operands
from emulator.array.tiling import Schedule
from emulator.array.upset import Upset
from emulator.errors import BadConfig
from emulator.gemm import FixedPoint, Requantisation

Ints = npt.NDArray[np.int64]

SNAPSHOT_CYCLES = 64
SNAPSHOT_BYTES = 128 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Response:
    """What a fault did to a layer. m, n, delta: accumulators that were drained wrong (mod 2^acc_bits). output_m,
    output_n, output_delta: requantised words that are wrong; explained: these are just what the wrong accumulators
    requantise to, as where the layer is not requantised. hang: the layer never completed (DUE). cycles:
    simulated for this fault."""

    m: Ints = field(repr=False)
    n: Ints = field(repr=False)
    delta: Ints = field(repr=False)
    output_m: Ints = field(repr=False)
    output_n: Ints = field(repr=False)
    output_delta: Ints = field(repr=False)
    explained: bool
    hang: bool
    cycles: int


class _Changes(NamedTuple):
    """Words of the output memory that differ: rows, columns, golden and faulty words."""

    row: Ints
    col: Ints
    golden: Ints
    faulty: Ints


NO_CHANGES = _Changes(*np.zeros((4, 0), np.int64))


class LayerOnCycles:
    """One layer with one set of operands; `strike` as often as wanted.

    requantisation: None for a schedule with requantised=False. Raises what `compile_layer` raises. Between faults the
    working copies of the results equal the golden ones.
    """

    def __init__(
        self, plan: Schedule, operands: Operands, requantisation: Requantisation | FixedPoint | None
    ) -> None:
        if plan.requantised and requantisation is None:
            raise BadConfig(
                f"{plan.shape}: no requantisation; allowed: one, or a schedule with requantised=False. Give either."
            )
        self.plan = plan
        self.requantisation = requantisation
        self._grid = grid(plan.spec)
        self._host = compile_layer(plan, operands, requantisation)
        self._golden = observer(plan)
        self._period = _period(plan)
        self._snapshots = self._golden_run()
        self._work = Observed(*(words.copy() for words in self._golden))
        self._place = _places(plan)

    @property
    def nbytes(self) -> int:
        """What it takes, but for the operands."""
        tables = (*self._host, *self._golden, *self._work)
        arrays = [table for table in tables if isinstance(table, np.ndarray)]
        return len(self._snapshots) * self._snapshots[0].nbytes + sum(array.nbytes for array in arrays)

    def _golden_run(self) -> list[Words]:
        """States at the start of cycles 0, period, 2 * period ... before completion."""
        state = np.zeros(self._grid.words, np.int32)
        reset(state, self._grid, self._host)
        nothing = np.zeros((0, 10), np.int64), np.zeros(0, np.int32)
        snapshots, cycle = [state.copy()], 0
        while not state[self._grid.control + Control.COMPLETE]:
            stop = cycle + self._period
            cycle = advance(state, self._grid, *nothing, self._host, self._golden, cycle, stop)
            if cycle == stop:
                snapshots.append(state.copy())
        used = int(state[self._grid.control + Control.LOGGED])
        self._log = self._golden.log[:used].astype(np.int64)
        self._log_cycle = self._golden.log_cycle[:used].astype(np.int64)
        return snapshots

    def strike(self, upsets: Sequence[Upset]) -> Response:
        """The response to these upsets together; raises BadConfig for one outside the array."""
        table = encode_upsets(self.plan.spec, self._grid, upsets)
        start = min(int(table[:, FIRST].min()) // self._period, len(self._snapshots) - 1)
        state = self._snapshots[start].copy()
        state[self._grid.control + Control.LOGGED] = 0
        begin = start * self._period
        cycle, converged = self._run(state, table, begin)
        hang = not converged and not state[self._grid.control + Control.COMPLETE]
        stop = cycle if converged else np.iinfo(np.int64).max
        rows = self._observed(state, begin, stop, output=False)
        outputs = self._observed(state, begin, stop, output=True) if self.plan.requantised else NO_CHANGES
        if converged:
            rows, outputs = self._later(state, cycle, rows, outputs)
        m, n = self._elements(rows)
        delta = wrap_words(rows.faulty - rows.golden, self.plan.spec.acc_bits)
        output_m, output_n = self._elements(outputs)
        return Response(
            m=m,
            n=n,
            delta=delta,
            output_m=output_m,
            output_n=output_n,
            output_delta=outputs.faulty - outputs.golden,
            explained=self._explains(rows, outputs),
            hang=hang,
            cycles=cycle - begin,
        )

    def _run(self, state: Words, table: Ints, cycle: int) -> tuple[int, bool]:
        """(cycle, has the machine re-converged) at the end of a faulty run."""
        patches = np.zeros(len(table), np.int32)
        limit, last = cycle_limit(self.plan), int(table[:, LAST].max())
        while cycle < limit and not state[self._grid.control + Control.COMPLETE]:
            stop = min((cycle // self._period + 1) * self._period, limit)
            cycle = advance(state, self._grid, table, patches, self._host, self._work, cycle, stop)
            if last < cycle == stop and not patches.any() and self._equals_golden(state, cycle):
                return cycle, True
        return cycle, False

    def _equals_golden(self, state: Words, cycle: int) -> bool:
        """Are all registers those of the golden run? What differs in the accumulator memory is then carried along
        unchanged, unless sums saturate."""
        index = cycle // self._period
        if index >= len(self._snapshots):
            return False
        golden, seen = self._snapshots[index], self._grid.control + Control.LAST_RESULT
        end = self._grid.words if self.plan.spec.overflow == "saturate" else self._grid.memory
        before, after = slice(0, seen), slice(self._grid.control + len(Control), end)
        return np.array_equal(state[before], golden[before]) and np.array_equal(state[after], golden[after])

    def _observed(self, state: Words, begin: int, stop: int, *, output: bool) -> _Changes:
        """Rows that came out wrong, or not at all, in cycles [begin, stop); the working copy is golden again."""
        used = int(state[self._grid.control + Control.LOGGED])
        log = self._work.log[:used].astype(np.int64)
        late = self._log_cycle >= begin
        ours, golden, later = (
            np.unique((~events if output else events)[(events < 0) == output])
            for events in (log, self._log[late], self._log[self._log_cycle >= stop])
        )
        work, right = (
            (self._work.result, self._golden.result) if output else (self._work.rows, self._golden.rows)
        )
        # A row that never came out leaves what was there before: nothing.
        work[np.setdiff1d(golden, ours)] = 0
        rows = np.setdiff1d(np.union1d(ours, golden), later)
        # Padding columns are nobody's.
        inside = np.arange(self.plan.spec.cols) < self._place[rows, 2, np.newaxis]
        r, col = np.nonzero((work[rows] != right[rows]) & inside)
        changes = _Changes(rows[r], col, *(x[rows[r], col].astype(np.int64) for x in (right, work)))
        touched = np.union1d(ours, golden)
        work[touched] = right[touched]
        return changes

    def _later(
        self, state: Words, cycle: int, rows: _Changes, outputs: _Changes
    ) -> tuple[_Changes, _Changes]:
        """With what still lies wrong in the accumulator memory and will be drained."""
        plan, memory = self.plan, self._grid.memory
        wrong = state[memory:].astype(np.int64) - self._snapshots[cycle // self._period][memory:]
        row, col = np.divmod(np.flatnonzero(wrong), plan.spec.cols)
        error = wrong[row * plan.spec.cols + col]
        to = _drained_to(plan, row, cycle)
        used = (to >= 0) & (col < self._place[to, 2])
        row, col, error = to[used], col[used], error[used]
        golden = self._golden.rows[row, col].astype(np.int64)
        faulty = wrap_words(golden + error, plan.spec.acc_bits)
        late = _Changes(row, col, golden, faulty)
        return (
            _Changes(*(np.concatenate(pair) for pair in zip(rows, late, strict=True))),
            _Changes(*(np.concatenate(pair) for pair in zip(outputs, self._outputs_of(late), strict=True))),
        )

    def _outputs_of(self, rows: _Changes) -> _Changes:
        """What wrong accumulators make wrong behind the requantiser."""
        if not self.plan.requantised:
            return NO_CHANGES
        before = self._golden.result[rows.row, rows.col].astype(np.int64)
        after = self.requantised(self._elements(rows)[1], rows.faulty)
        moved = after != before
        return _Changes(rows.row[moved], rows.col[moved], before[moved], after[moved])

    def _explains(self, rows: _Changes, outputs: _Changes) -> bool:
        """Are the wrong outputs those of the wrong accumulators?"""
        width = self.plan.spec.cols
        expected, found = (
            np.stack((words.row * width + words.col, words.faulty))
            for words in (self._outputs_of(rows), outputs)
        )
        return np.array_equal(expected[:, expected[0].argsort()], found[:, found[0].argsort()])

    def requantised(self, n: Ints, words: Ints) -> Ints:
        """What the requantiser makes of accumulators of columns `n`."""
        channels = self.plan.shape.groups * self.plan.shape.n
        lines = np.zeros((len(n), channels), np.int32)
        inside = np.minimum(n, channels - 1)
        lines[np.arange(len(n)), inside] = words
        assert self.requantisation is not None
        return self.requantisation(lines)[np.arange(len(n)), inside].astype(np.int64)

    def _elements(self, changes: _Changes) -> tuple[Ints, Ints]:
        """(m, n) of words in the output memory; columns beyond the layer's are not in any."""
        m0, n0, _ = self._place[changes.row].T
        if self.plan.spec.dataflow == "is":
            # Here a row is a column of the layer.
            return n0 + changes.col, m0
        return m0, n0 + changes.col


def snapshot_bytes(plan: Schedule) -> int:
    """What the snapshots of a layer take, about."""
    return (plan.window_cycles // _period(plan) + 1) * 4 * grid(plan.spec).words


def _period(plan: Schedule) -> int:
    """Cycles from one snapshot to the next."""
    most = max(SNAPSHOT_BYTES // (4 * grid(plan.spec).words), 1)
    return max(SNAPSHOT_CYCLES, -(-plan.window_cycles // most))


def _places(plan: Schedule) -> Ints:
    """(output rows, 3): for each, its row, its first column and its columns in the layer; exchanged where the
    operands are: its column, and its first row."""
    last = plan.last_folds
    size = plan.m_size[last]
    fold = np.repeat(last, size)
    i = np.arange(len(fold)) - np.repeat(np.cumsum(size) - size, size)
    row, col = plan.m_start[fold] + i, plan.n_start[fold]
    if plan.spec.dataflow == "is":
        row = row + plan.group[fold] * plan.streamed.m
    else:
        col = col + plan.group[fold] * plan.streamed.n
    return np.stack((row, col, plan.n_size[fold]), axis=1)


def _drained_to(plan: Schedule, row: Ints, cycle: int) -> Ints:
    """The output row to which each accumulator row goes, as it is at the start of `cycle`; -1 where it is
    overwritten before it is drained, or never drained again."""
    last = plan.last_folds
    first = np.searchsorted(plan.first_slot, plan.block_slot[last])
    starts = np.cumsum(plan.m_size[last]) - plan.m_size[last]
    to = np.full(len(row), -1, np.int64)
    for i, memory_row in enumerate(row.tolist()):
        m = memory_row - plan.base[last]
        drained = plan.drain_start + m
        holds = (m >= 0) & (m < plan.m_size[last]) & (drained >= cycle)
        if holds.any():
            block = int(np.argmax(holds))
            if first_sum_cycle(plan, first[block : block + 1], m[block : block + 1])[0] <= cycle:
                to[i] = starts[block] + m[block]
    return to
