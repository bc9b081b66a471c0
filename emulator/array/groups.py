"""Faults of whole parts of an array, as the upsets that make them up."""

from __future__ import annotations

from emulator.array.registers import check_upset, register
from emulator.array.spec import ArraySpec
from emulator.array.upset import Upset

# What a PE knows of its column; activations pass a dead PE.
COLUMN_STATE = ("pe_b", "pe_d", "pe_c1", "pe_c2")


def dead_pe(spec: ArraySpec, row: int, col: int) -> tuple[Upset, ...]:
    """PE (row, col) without power: every bit of its stationary words and of what it takes from above is 0.

    What comes down the column ends there, and so do the sums of the rows above. Raises BadConfig for a place outside
    the array.
    """
    entries = [register(spec, name) for name in COLUMN_STATE]
    dead = tuple(
        Upset(
            register=entry.name,
            row=row,
            col=col,
            bits=tuple(range(entry.width(row))),
            kind="stuck-at-0",
        )
        for entry in entries
    )
    for upset in dead:
        check_upset(spec, upset)
    return dead


def dead_row(spec: ArraySpec, row: int) -> tuple[Upset, ...]:
    """Every PE of a row dead."""
    return tuple(upset for col in range(spec.cols) for upset in dead_pe(spec, row, col))


def dead_column(spec: ArraySpec, col: int) -> tuple[Upset, ...]:
    """Every PE of a column dead."""
    return tuple(upset for row in range(spec.rows) for upset in dead_pe(spec, row, col))
