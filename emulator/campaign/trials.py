"""The table of trials. A long campaign has more than fit into memory: columns are read when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from emulator.campaign.parts import read_parts, stored_chunks, trials_in
from emulator.campaign.schema import COLUMNS
from emulator.errors import BadData

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Flags = npt.NDArray[np.bool_]


class Trials(Protocol):
    """One row a trial, or a class of sites, with the columns of `schema.COLUMNS`. chunks: the numbers of those whose
    files these are; one may have no trials."""

    chunks: Sequence[int]

    def __len__(self) -> int: ...

    def column(self, name: str) -> npt.NDArray[Any]:
        """(trials,) strings as objects."""
        ...

    def rows(self, chosen: Flags | None = None) -> pd.DataFrame:
        """Those that are chosen, (trials,) bool, or all, with every column; the index counts all trials."""
        ...


class HeldTrials:
    """A table in memory, of no files."""

    chunks: Sequence[int] = ()

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str) -> npt.NDArray[Any]:
        return np.asarray(self.frame[name])

    def rows(self, chosen: Flags | None = None) -> pd.DataFrame:
        return self.frame if chosen is None else self.frame[chosen]


class StoredTrials:
    """Those that a directory holds at this moment; columns are kept once they are read. Raises BadData where there are
    none, here and later where a part can't be read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.chunks: Sequence[int] = stored_chunks(directory)
        if not self.chunks:
            raise BadData(f"{directory}: no trials yet. Run the campaign: `emulator run ... -o {directory}`.")
        self.counts = [trials_in(directory, chunk) for chunk in self.chunks]
        self._kept: dict[str, npt.NDArray[Any]] = {}

    def __len__(self) -> int:
        return sum(self.counts)

    def column(self, name: str) -> npt.NDArray[Any]:
        if name not in self._kept:
            self._kept[name] = np.asarray(self._table([name], None).to_pandas()[name])
        return self._kept[name]

    def rows(self, chosen: Flags | None = None) -> pd.DataFrame:
        frame = _frame(self._table([column.name for column in COLUMNS], chosen))
        return frame if chosen is None else frame.set_index(np.flatnonzero(chosen))

    def _table(self, names: list[str], chosen: Flags | None) -> pa.Table:
        import pyarrow as pa

        tables = read_parts(self.directory, self.chunks, names)
        if chosen is not None:
            flags = np.split(chosen, np.cumsum(self.counts)[:-1])
            tables = (table.filter(pa.array(some)) for table, some in zip(tables, flags, strict=True))
        return pa.concat_tables(tables).unify_dictionaries()


def _frame(table: pa.Table) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = table.drop_columns(["until_cycle"]).to_pandas()
    # Null until_cycle must not turn the column into floats.
    until = table["until_cycle"].to_pandas(types_mapper={table["until_cycle"].type: pd.Int64Dtype()}.get)
    frame.insert(table.column_names.index("until_cycle"), "until_cycle", until)
    return frame
