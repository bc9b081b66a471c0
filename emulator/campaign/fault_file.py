"""Faults as a Parquet file has them: rows with the columns of a trial's location, each a fault of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from emulator.array.upset import FLIP, Kind, Upset
from emulator.errors import BadConfig, BadData, first_line
from emulator.faults.fault import Fault
from emulator.faults.space import layer_index

NEEDED = ("layer", "register", "row", "col", "bits", "cycle")
OPTIONAL = ("kind", "until_cycle", "input_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A fault of a file, and the input that it strikes there, None where the file names none."""

    fault: Fault
    image: int | None


def read_faults(path: Path, layers: list[str]) -> list[Listed]:
    """The rows of `path`: NEEDED columns, of OPTIONAL ones those that are there, as in trials/part-*.parquet; others
    are not looked at. bits is a mask; layer an index, or a name of `layers`.

    Raises BadData for a file that is no such table, has no rows or one that is no fault.
    """
    table = _table(path)
    missing = [name for name in NEEDED if name not in table.column_names]
    if missing or not table.num_rows:
        found = f"lacks {', '.join(missing)}" if missing else "has no rows"
        raise BadData(
            f"faults {str(path)!r}: {found}; allowed: one row or more with {', '.join(NEEDED)}, and where wanted "
            f"{', '.join(OPTIONAL)}, as in the trials of a campaign."
        )
    rows = table.select([name for name in (*NEEDED, *OPTIONAL) if name in table.column_names]).to_pylist()
    return [_listed(path, number, row, layers) for number, row in enumerate(rows)]


def _table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A file object of our own: pyarrow would read Hive partitions into the path.
        return pq.ParquetFile(pa.BufferReader(path.read_bytes())).read()
    except (pa.ArrowException, OSError) as error:
        raise BadData(
            f"faults {str(path)!r} can't be read: {first_line(error)}. Give a Parquet file."
        ) from None


def _listed(path: Path, number: int, row: dict[str, Any], layers: list[str]) -> Listed:
    try:
        mask = int(row["bits"])
        upset = Upset(
            register=row["register"],
            row=int(row["row"]),
            col=int(row["col"]),
            bits=tuple(bit for bit in range(mask.bit_length()) if mask >> bit & 1),
            kind=cast(Kind, row.get("kind") or FLIP),
            cycle=int(row["cycle"]),
            until_cycle=None if row.get("until_cycle") is None else int(row["until_cycle"]),
        )
        fault = Fault(layer=layer_index(layers, row["layer"]), upset=upset)
        image = None if row.get("input_id") is None else int(row["input_id"])
    except (BadConfig, TypeError, ValueError) as error:
        raise BadData(f"faults {str(path)!r}, row {number}: {error}") from None
    return Listed(fault=fault, image=image)
