"""The register inventory: name, geometry, width, lifetime, home. One entry drives the fault space, the engines,
the documentation and the reports: a new register is one more entry in `mesh_registers` or `outer_registers`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from emulator.array import mesh_registers, outer_registers
from emulator.array.exposure.lifetime import Lifetime
from emulator.array.home import Home
from emulator.array.spec import ArraySpec
from emulator.array.upset import Upset
from emulator.choices import allowed_of_many
from emulator.errors import BadConfig

Ints = npt.NDArray[np.int64]
Storage = Literal["flip-flop", "sram"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Register:
    """A class of equal registers: lines[r] of them in row first_row + r; row 0 may be narrower. lsb: the bit of
    the state's word at which the register begins."""

    name: str
    code: int
    lines: tuple[int, ...]
    bits: int
    lifetime: Lifetime
    home: Home
    meaning: str
    first_row_bits: int
    first_row: int = 0
    signed: bool = False
    lsb: int = 0
    storage: Storage = "flip-flop"

    @cached_property
    def _ends(self) -> Ints:
        """Bits before each row, and in all."""
        widths = np.full(len(self.lines), self.bits, np.int64)
        widths[: 1 - self.first_row] = self.first_row_bits
        return np.concatenate(([0], np.cumsum(widths * np.array(self.lines, np.int64))))

    @property
    def count(self) -> int:
        """Registers of the class."""
        return sum(self.lines)

    @property
    def total_bits(self) -> int:
        """Bits of the whole class."""
        return int(self._ends[-1])

    def width(self, row: int) -> int:
        """Bits of one register in `row`."""
        return self.first_row_bits if row == 0 else self.bits

    def place(self, index: Ints) -> tuple[Ints, Ints, Ints]:
        """index in [0, total_bits) to (row, col, bit)."""
        line = np.searchsorted(self._ends, index, side="right") - 1
        row = line + self.first_row
        width = np.where(row == 0, self.first_row_bits, self.bits)
        word = index - self._ends[line]
        return row, word // width, word % width

    def index(self, row: Ints, col: Ints, bit: Ints) -> Ints:
        """The inverse of `place`."""
        width = np.where(row == 0, self.first_row_bits, self.bits)
        return self._ends[row - self.first_row] + col * width + bit

    def check_place(self, row: int, col: int, bits: Sequence[int]) -> str | None:
        """What is wrong with a place, None if nothing is."""
        rows = range(self.first_row, self.first_row + len(self.lines))
        cols = range(self.lines[row - self.first_row]) if row in rows else range(0)
        for field, value, allowed in (
            ("row", row, rows),
            ("col", col, cols),
            *(("bits", bit, range(self.width(row))) for bit in bits),
        ):
            if value not in allowed:
                span = f"{allowed.start} to {allowed.stop - 1}" if allowed else "none, the line has no stages"
                return f"{field} {value}; allowed: {span}"
        return None


@lru_cache(maxsize=64)
def inventory(spec: ArraySpec) -> tuple[Register, ...]:
    """Every register class of `spec`, in the order of their codes."""
    entries = [
        *mesh_registers.cells(spec),
        *mesh_registers.edges(spec),
        *mesh_registers.outputs(spec),
        *outer_registers.sequencer(spec),
        *outer_registers.results(spec),
        *outer_registers.memories(spec),
    ]
    if spec.dataflows == "ws":
        entries = [entry for entry in entries if entry["name"] not in _BOTH_ONLY]
    return tuple(
        Register(**{"first_row_bits": entry["bits"], **entry}, code=code)
        for code, entry in enumerate(entries)
    )


# A weight-stationary build has no use for these.
_BOTH_ONLY = (
    *(
        "pe_dataflow",
        "pe_shift",
        "pe_last_s",
        "buf_dataflow",
        "buf_shift",
        "late_shift",
        "skew_control_dataflow",
    ),
    *("skew_control_shift", "out_c", "out_dataflow", "seq_dataflow", "seq_shift"),
)


def register(spec: ArraySpec, name: str) -> Register:
    """The register class called `name`; raises BadConfig, which says what is allowed."""
    found = _by_name(spec).get(name)
    if found is None:
        raise BadConfig(
            f"register {name!r} is not in the array {spec.name!r}"
            f"{allowed_of_many(name, [*_by_name(spec)], 'emulator inspect --registers')}."
        )
    return found


def registers_named(spec: ArraySpec, names: Iterable[str]) -> list[Register]:
    """Register classes by name, or all of a kind of storage, `flip-flop` or `sram`; each once. Raises BadConfig."""
    found: dict[str, Register] = {}
    for name in names:
        kind = [entry for entry in inventory(spec) if entry.storage == name]
        found |= {entry.name: entry for entry in kind or [register(spec, name)]}
    return list(found.values())


@lru_cache(maxsize=64)
def _by_name(spec: ArraySpec) -> dict[str, Register]:
    return {entry.name: entry for entry in inventory(spec)}


def check_upset(spec: ArraySpec, upset: Upset) -> None:
    """Raise BadConfig where `upset` names no register, place or bit of `spec`."""
    wrong = register(spec, upset.register).check_place(upset.row, upset.col, upset.bits)
    if wrong is not None:
        where = f"{upset.register} row={upset.row} col={upset.col}"
        raise BadConfig(f"upset in {where}: {wrong}. Change it or the array.")
