"""A layer cycle by cycle, without and with upsets: what every register holds at the start of each cycle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.compile import compile_layer
from emulator.array.cycle import cycle_limit, observer
from emulator.array.home import IN_ACT_BUFFER, IN_WGT_BUFFER, NOWHERE
from emulator.array.host import (
    ACT_BUFFER,
    LOAD_BUFFER,
    LOAD_CYCLE,
    LOAD_ROW,
    WGT_BUFFER,
    Host,
    Operand,
    Table,
    Words,
)
from emulator.array.injection import (
    ADDRESS,
    COL,
    FIRST,
    LAST,
    PLACE,
    apply_upsets,
    encode_upsets,
    struck_word,
)
from emulator.array.layout import Control, Grid, grid
from emulator.array.machine import advance, reset
from emulator.array.operands import Operands
from emulator.array.registers import Register, inventory
from emulator.array.tiling import Schedule
from emulator.array.upset import Upset
from emulator.gemm import FixedPoint, Requantisation
from emulator.jit import Int, kernel

Ints = npt.NDArray[np.int64]


class Moment(NamedTuple):
    """A run at the start of `cycle`, the upsets of this cycle applied. words: its state; patches: what each upset
    has changed in its buffer word; unread: words of registers that nothing reads, by register, row and column;
    complete: the run ends here, and later moments repeat this one."""

    cycle: int
    words: Words
    patches: Words
    unread: dict[tuple[str, int, int], int]
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """Registers of one class, one entry each: where they are, and where the state has them (see `home`)."""

    register: Register
    row: Ints
    col: Ints
    width: Ints
    address: Ints
    place: Ints

    def __len__(self) -> int:
        return len(self.row)


class _Setup(NamedTuple):
    """What a run needs besides its state: layer, machine, host memory, and upsets as records and encoded."""

    plan: Schedule
    grid: Grid
    host: Host
    upsets: tuple[Upset, ...]
    table: Table

    @property
    def golden(self) -> _Setup:
        return self._replace(upsets=(), table=self.table[:0])


class LayerTrace:
    """One layer twice, without and with `upsets`, from `before` cycles before the first of them to `after` cycles
    after it, at most until both runs are complete. Raises what `compile_layer` and `encode_upsets` raise."""

    def __init__(
        self,
        plan: Schedule,
        operands: Operands,
        requantisation: Requantisation | FixedPoint | None,
        upsets: Sequence[Upset],
        *,
        before: int,
        after: int,
    ) -> None:
        self.plan = plan
        self.upsets = tuple(upsets)
        g = grid(plan.spec)
        host, table = compile_layer(plan, operands, requantisation), encode_upsets(plan.spec, g, upsets)
        self._setup = _Setup(plan, g, host, self.upsets, table)
        first = int(table[:, FIRST].min())
        self.cycles = range(max(first - before, 0), min(first + after + 1, cycle_limit(plan)))
        run = _Run(self._setup.golden, np.zeros(g.words, np.int32), 0)
        reset(run.state, g, host)
        run.skip_to(self.cycles.start)
        self._start = run.state

    def moments(self) -> Iterator[tuple[Moment, Moment]]:
        """(golden, faulty) at the start of each of `cycles`; ends early where both are complete."""
        setups = (self._setup.golden, self._setup)
        runs = [_Run(setup, self._start.copy(), self.cycles.start) for setup in setups]
        for _ in self.cycles:
            golden, faulty = (run.step() for run in runs)
            yield golden, faulty
            if golden.complete and faulty.complete:
                return

    def struck(self, cycle: int) -> bool:
        """Is an upset applied at the start of this cycle?"""
        table = self._setup.table
        return bool(((table[:, FIRST] <= cycle) & (cycle <= table[:, LAST])).any())

    def read(self, probe: Probe, moment: Moment) -> Ints:
        """The values of these registers, signed ones as signed numbers."""
        words = self._stored(probe, moment) >> probe.register.lsb
        unsigned = words & ((1 << probe.width) - 1)
        if not probe.register.signed:
            return unsigned
        return np.where(unsigned >> (probe.width - 1), unsigned - (1 << probe.width), unsigned)

    def _stored(self, probe: Probe, moment: Moment) -> Ints:
        """The words of the state in which these registers lie."""
        g, place = self._setup.grid, int(probe.place[0]) if len(probe) else NOWHERE
        if place == NOWHERE:
            at = zip(probe.row.tolist(), probe.col.tolist(), strict=True)
            name = probe.register.name
            return np.array([moment.unread.get((name, row, col), 0) for row, col in at], np.int64)
        if place in (IN_ACT_BUFFER, IN_WGT_BUFFER):
            return self._in_buffer(probe, moment, place)
        ring_row = (moment.cycle - 1 - probe.place) % g.depth
        address = probe.address + np.where(probe.place >= 0, ring_row * g.lanes, 0)
        return moment.words[address].astype(np.int64)

    def _in_buffer(self, probe: Probe, moment: Moment, place: int) -> Ints:
        """The state knows which row of host memory a buffer row holds, and what upsets have changed in it."""
        second = place == IN_WGT_BUFFER
        g, host = self._setup.grid, self._setup.host
        source = host.wgt if second else host.act
        origin = moment.words[g.loaded + second * g.act_rows + probe.address]
        words = np.where(origin >= 0, source[origin, probe.col], 0).astype(np.int64)
        for upset, patch in zip(self._setup.table, moment.patches.tolist(), strict=False):
            if upset[PLACE] == place:
                words[(probe.address == upset[ADDRESS]) & (probe.col == upset[COL])] ^= patch
        return words

    # ---- which registers

    @cached_property
    def probes(self) -> tuple[Probe, ...]:
        """Every register of the array, class by class; of the memories only the rows that are written, or differ
        between the runs, within the cycles."""
        rows = self._memory_rows()
        return tuple(
            _probe(entry, self._setup.grid, rows.get(entry.name)) for entry in inventory(self.plan.spec)
        )

    def _memory_rows(self) -> dict[str, list[int]]:
        g, table, loads = self._setup.grid, self._setup.table, self._setup.host.loads
        accumulator: set[int] = set()
        for golden, faulty in self.moments():
            wrong = np.flatnonzero(golden.words[g.memory :] != faulty.words[g.memory :])
            accumulator.update((np.unique(wrong // g.cols)).tolist())
            accumulator.update(_written_row(g, run) for run in (golden, faulty))
        found = {"accumulator": sorted(accumulator & set(range(g.acc_rows)))}
        inside = loads[
            (loads[:, LOAD_CYCLE] >= self.cycles.start) & (loads[:, LOAD_CYCLE] < self.cycles.stop)
        ]
        for name, buffer, place in (
            ("act_buffer", ACT_BUFFER, IN_ACT_BUFFER),
            ("wgt_buffer", WGT_BUFFER, IN_WGT_BUFFER),
        ):
            loaded = inside[inside[:, LOAD_BUFFER] == buffer, LOAD_ROW].tolist()
            found[name] = sorted({*loaded, *table[table[:, PLACE] == place, ADDRESS].tolist()})
        return found


class _Run:
    """The machine of a trace, one cycle a step."""

    def __init__(self, setup: _Setup, state: Words, cycle: int) -> None:
        self.state = state
        self._setup = setup
        self._cycle = cycle
        self._seen = observer(setup.plan)
        self._patches = np.zeros(len(setup.table), np.int32)
        self._unread: dict[tuple[str, int, int], int] = {}
        self._last: Moment | None = None

    def skip_to(self, cycle: int) -> None:
        self._advance(cycle)

    def step(self) -> Moment:
        """The moment before the clock ticks."""
        if self._last is not None and self._last.complete:
            return self._last
        _, g, host, _, table = self._setup
        words, patches = self.state.copy(), self._patches.copy()
        flat = host.act.reshape(-1), host.wgt.reshape(-1)
        _strike(words, g, *flat, table, patches, self._cycle)
        self._strike_unread()
        cycle, unread = self._cycle, dict(self._unread)
        self._advance(cycle + 1)
        complete = bool(self.state[g.control + Control.COMPLETE])
        self._last = Moment(cycle, words, patches, unread, complete)
        return self._last

    def _advance(self, stop: int) -> None:
        _, g, host, _, table = self._setup
        self._cycle = advance(self.state, g, table, self._patches, host, self._seen, self._cycle, stop)

    def _strike_unread(self) -> None:
        """As `apply_upsets` does with the registers that the state has."""
        table = self._setup.table
        for i, upset in enumerate(self._setup.upsets):
            if table[i, PLACE] == NOWHERE and table[i, FIRST] <= self._cycle <= table[i, LAST]:
                where = (upset.register, upset.row, upset.col)
                self._unread[where] = int(_strike_word(np.int64(self._unread.get(where, 0)), table, i))


# Stages are compiled into the kernels that call them; alone they would be compiled anew in every process.
@kernel
def _strike(
    state: Words, g: Grid, act: Operand, wgt: Operand, upsets: Table, patches: Words, cycle: int
) -> None:
    apply_upsets(state, g, act, wgt, upsets, patches, cycle)


@kernel
def _strike_word(word: Int, upsets: Table, i: int) -> Int:
    return struck_word(word, upsets, i)


def _written_row(g: Grid, moment: Moment) -> int:
    """The accumulator row that is written at the end of this cycle, -1 for none."""
    control = moment.words[g.control :]
    return int(control[Control.WRITE_ADDRESS_1]) if control[Control.WRITE_VALID_1] else -1


def _probe(entry: Register, g: Grid, rows: Sequence[int] | None) -> Probe:
    """The registers of a class in these rows, None: in all."""
    chosen = range(entry.first_row, entry.first_row + len(entry.lines)) if rows is None else rows
    places = [(row, col) for row in chosen for col in range(entry.lines[row - entry.first_row])]
    found = [(row, col, entry.width(row), *entry.home.locate(g, row, col)) for row, col in places]
    row, col, width, address, place = np.array(found, np.int64).reshape(-1, 5).T
    return Probe(register=entry, row=row, col=col, width=width, address=address, place=place)
