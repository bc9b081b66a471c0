"""Register classes cut into units at one level: numbers of units, where they lie, and how their bits are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.registers import Register

Ints = npt.NDArray[np.int64]

Level = Literal["register", "register-bit", "row", "row-bit", "word", "bit"]

# What a unit has one of; it spans all of the others.
_FIXED: dict[Level, tuple[str, ...]] = {
    "register": (),
    "register-bit": ("bit",),
    "row": ("row",),
    "row-bit": ("row", "bit"),
    "word": ("row", "col"),
    "bit": ("row", "col", "bit"),
}


class Places(NamedTuple):
    """Bits of registers: entry is the number of the register class, each (places,)."""

    entry: Ints
    row: Ints
    col: Ints
    bit: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """Register classes cut at `level`. starts (classes + 1,): the first unit of each class; sram, words, width, bits
    (units,): as in Parts."""

    entries: tuple[Register, ...]
    level: Level
    starts: Ints
    sram: npt.NDArray[np.bool_]
    words: Ints
    width: Ints
    bits: Ints

    def __len__(self) -> int:
        return int(self.starts[-1])

    def unit_at(self, at: Places) -> Ints:
        """(places,) the unit that each lies in."""
        unit = np.empty(len(at.entry), np.int64)
        for number in np.unique(at.entry).tolist():
            here = at.entry == number
            local = _local(self.entries[number], self.level, at.row[here], at.col[here], at.bit[here])
            unit[here] = self.starts[number] + local
        return unit

    def first_places(self) -> Places:
        """(units,) a place in each unit: 0 of what it spans, and the first row."""
        entry = np.repeat(np.arange(len(self.entries)), np.diff(self.starts))
        at = Places(entry, *(np.zeros(len(entry), np.int64) for _ in range(3)))
        for number, register in enumerate(self.entries):
            units = slice(self.starts[number], self.starts[number + 1])
            index = np.arange(self.starts[number + 1] - self.starts[number])
            for column, values in zip(at[1:], _first_place(register, self.level, index), strict=True):
                column[units] = values
        return at

    def names(self, at: Places) -> dict[str, npt.NDArray[Any]]:
        """(units,) of each: the register, and what else tells units apart."""
        register = np.array([entry.name for entry in self.entries])[at.entry]
        return {"register": register, **{key: getattr(at, key) for key in _FIXED[self.level]}}


def level_of(entries: Sequence[Register], level: Level) -> Cut:
    """These register classes, cut."""
    shapes = [_shape(entry, level) for entry in entries]
    words, width, bits = (np.concatenate([shape[i] for shape in shapes]) for i in range(3))
    counts = [len(shape[0]) for shape in shapes]
    return Cut(
        entries=tuple(entries),
        level=level,
        starts=np.concatenate(([0], np.cumsum(counts))),
        sram=np.repeat([entry.storage == "sram" for entry in entries], counts),
        words=words,
        width=width,
        bits=bits,
    )


def _lines(entry: Register) -> tuple[Ints, Ints]:
    """(rows,) registers in each row, and bits of one."""
    widths = np.full(len(entry.lines), entry.bits, np.int64)
    widths[: max(0, 1 - entry.first_row)] = entry.first_row_bits
    return np.array(entry.lines, np.int64), widths


def _shape(entry: Register, level: Level) -> tuple[Ints, Ints, Ints]:
    """(units,) code words, bits of the widest, and all data bits. A memory reads a row of words at once, so its code
    words are what a unit has in a row; those of other registers are what it has in one register."""
    count, width = _lines(entry)
    if level == "bit":
        one = np.ones(entry.total_bits, np.int64)
        return one, one, one
    if level == "word":
        each = np.repeat(width, count)
        return np.ones_like(each), each, each
    # (rows, bits) registers that have this bit.
    has = count[:, np.newaxis] * (np.arange(entry.bits) < width[:, np.newaxis])
    match level:
        case "register":
            grouped = has[np.newaxis]
        case "row":
            grouped = has[:, np.newaxis]
        case "register-bit":
            grouped = has.T[:, :, np.newaxis]
        case "row-bit":
            grouped = has.reshape(-1, 1, 1)
    bits = grouped.sum(axis=(1, 2))
    if entry.storage == "sram":
        return (grouped.sum(axis=2) > 0).sum(axis=1), grouped.sum(axis=2).max(axis=1, initial=0), bits
    return (
        grouped.max(axis=2, initial=0).sum(axis=1),
        (grouped > 0).sum(axis=2).max(axis=1, initial=0),
        bits,
    )


def _local(entry: Register, level: Level, row: Ints, col: Ints, bit: Ints) -> Ints:
    """The number of the unit within its class."""
    line = row - entry.first_row
    match level:
        case "register":
            return np.zeros_like(line)
        case "register-bit":
            return bit
        case "row":
            return line
        case "row-bit":
            return line * entry.bits + bit
        case "word":
            before = np.concatenate(([0], np.cumsum(entry.lines)))
            return np.asarray(before[line] + col, np.int64)
        case "bit":
            return entry.index(row, col, bit)


def _first_place(entry: Register, level: Level, index: Ints) -> tuple[Ints, Ints, Ints]:
    """(row, col, bit) of the first place of each unit; the inverse of `_local`."""
    zero, first = np.zeros_like(index), np.full_like(index, entry.first_row)
    match level:
        case "register":
            return first, zero, zero
        case "register-bit":
            return first, zero, index
        case "row":
            return first + index, zero, zero
        case "row-bit":
            return first + index // entry.bits, zero, index % entry.bits
        case "word":
            ends = np.cumsum(entry.lines)
            line = np.searchsorted(ends, index, side="right")
            return first + line, index - (ends - np.array(entry.lines))[line], zero
        case "bit":
            return entry.place(index)
