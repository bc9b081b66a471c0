"""A user's table of supply voltages and the bit-error rates there. Nothing here knows any: they are those of a process,
a memory cell and a clock."""

from __future__ import annotations

import csv
from pathlib import Path

from emulator.errors import BadData

HEADER = ["supply_v", "bit_error_rate"]
MOST_VOLTS = 10


def read_voltages(path: Path) -> dict[float, float]:
    """Supply voltages in V by bit-error rate, upsets a bit and cycle, ascending in the latter, from a CSV file of two
    columns under HEADER. Raises BadData for anything else, for voltages outside (0, 10) and rates outside (0, 1), where
    one stands twice, or where a rate rises with the voltage."""
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"{path}: unreadable ({error}). Give a CSV file with the columns {HEADER}.") from None
    if not lines or [name.strip() for name in lines[0]] != HEADER:
        raise BadData(f"{path}: begins with {lines[0] if lines else 'nothing'}; allowed: {','.join(HEADER)}.")
    found: dict[float, float] = {}
    for number, line in enumerate(lines[1:], start=2):
        volts, rate = _row(line, f"{path}, line {number}")
        if rate in found or volts in found.values():
            raise BadData(
                f"{path}, line {number}: {','.join(line)}, again; allowed: each once. Leave it out."
            )
        found[rate] = volts
    if not found:
        raise BadData(f"{path}: no voltages; allowed: one or more lines. Add one.")
    ascending = dict(sorted(found.items()))
    if list(ascending.values()) != sorted(ascending.values(), reverse=True):
        raise BadData(
            f"{path}: the rate rises with the voltage somewhere; allowed: rates that fall where the voltage rises. "
            "Check the columns."
        )
    return ascending


def _row(line: list[str], where: str) -> tuple[float, float]:
    try:
        volts, rate = (float(text) for text in line)
    except ValueError:
        volts = rate = 0.0
    if not (0 < volts < MOST_VOLTS and 0 < rate < 1):
        raise BadData(
            f"{where}: {','.join(line)!r}; allowed: two numbers, volts (not millivolts) between 0 and {MOST_VOLTS} "
            "and upsets a bit and cycle between 0 and 1. Change it."
        )
    return volts, rate
