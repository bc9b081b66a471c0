"""Where the registers of a class live in the state: (row, col) to an address, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from emulator.array.layout import CELL, LANES, TAG_FIELDS, Control, Grid, Rows

# Places of a word: an age in the ring, counted from its producer, or one of these.
IN_STATE, IN_ACT_BUFFER, IN_WGT_BUFFER, NOWHERE = -1, -2, -3, -4


class Home(Protocol):
    """The geometry of a register class in the state."""

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        """(address, place): a word of the state, of the ring's current row, or a buffer row."""
        ...


@dataclass(frozen=True, slots=True)
class Cell:
    """A register of the PEs, or of the output registers in row `rows`; start: its first word in a cell."""

    start: int

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        block, lane = divmod(col, LANES)
        return (block * (g.rows + 1) + row) * CELL + self.start + lane, IN_STATE


@dataclass(frozen=True, slots=True)
class Edge:
    """Edge registers, one word a row."""

    start: int

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        return g.edge + self.start + row, IN_STATE


@dataclass(frozen=True, slots=True)
class Skew:
    """Stages of skew line `row`; stage 0 is the oldest, `row` cycles behind the edge."""

    start: int

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        return g.ring + self.start + row, row - 1 - col


@dataclass(frozen=True, slots=True)
class Deskew:
    """Stages of deskew line `row`; stage 0 is the oldest, `longest` - row cycles behind the outputs."""

    start: int

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        return g.ring + self.start + row, g.cols - 2 - row - col


@dataclass(frozen=True, slots=True)
class ResultStage:
    """Stages of the result pipeline, stage `row`, the first one `first`; lane None: one word a column."""

    first: int = 0
    lane: int | None = None

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        lane = col if self.lane is None else g.cols + self.lane
        return g.ring + g.result_lane + lane, row - self.first


@dataclass(frozen=True, slots=True)
class RequantControl:
    """requant_valid and requant_row: stage 0 is a register of its own, the others follow the results."""

    control: Control
    lane: int

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        if row == 0:
            return g.control + self.control, IN_STATE
        return ResultStage(first=1, lane=self.lane).locate(g, row, col)


@dataclass(frozen=True, slots=True)
class Single:
    """Single registers; further stages, as rows, follow."""

    control: Control

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        return g.control + self.control + row, IN_STATE


@dataclass(frozen=True, slots=True)
class Tag:
    """A field of the tag table; the row is the entry."""

    field: int

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        return g.tags + TAG_FIELDS * row + self.field, IN_STATE


@dataclass(frozen=True, slots=True)
class Wide:
    """Registers a row wide; further stages, as rows, follow."""

    register: Rows

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        return g.wide + (self.register + row) * g.cols + col, IN_STATE


@dataclass(frozen=True, slots=True)
class Memory:
    """Accumulator words."""

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        return g.memory + row * g.cols + col, IN_STATE


@dataclass(frozen=True, slots=True)
class Buffer:
    """Buffer words: what the state holds is which row of host memory was loaded."""

    place: int

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        return row, self.place


@dataclass(frozen=True, slots=True)
class Unread:
    """Registers that nothing reads: no word of the state."""

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        return 0, NOWHERE
