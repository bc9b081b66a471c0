"""The table of trials. A long campaign has more than fit into memory: columns are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from emulator.campaign.manifest import campaign_digest
from emulator.campaign.one_writer import being_written
from emulator.campaign.parts import part_path, read_parts, stored_chunks
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
    none, here and later where a part can't be read, or is no longer the one that it was."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.chunks: Sequence[int] = stored_chunks(directory)
        if not self.chunks:
            if being_written(directory):
                raise BadData(
                    f"{directory}: a run is at work here and has no trials yet. Ask again in a while."
                )
            raise BadData(f"{directory}: no trials yet. Run the campaign: `emulator run ... -o {directory}`.")
        self.digest = campaign_digest(directory)
        self.counts = [table.num_rows for table in self._read([])]
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

        return pa.concat_tables(self._chosen(names, chosen)).unify_dictionaries()

    def _chosen(self, names: list[str], chosen: Flags | None) -> Iterator[pa.Table]:
        """A table a chunk."""
        import pyarrow as pa

        ends = np.cumsum(self.counts)
        for chunk, table, count, end in zip(self.chunks, self._read(names), self.counts, ends, strict=True):
            if table.num_rows != count:
                raise BadData(
                    f"{part_path(self.directory, chunk)}: {table.num_rows} trials, {count} when it was opened; "
                    "allowed: the same. Open the results again."
                )
            yield table if chosen is None else table.filter(pa.array(chosen[end - count : end]))

    def _read(self, names: list[str]) -> Iterator[pa.Table]:
        return read_parts(self.directory, self.chunks, self.digest, names)


def _frame(table: pa.Table) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = table.drop_columns(["until_cycle"]).to_pandas()
    # Null until_cycle must not turn the column into floats.
    until = table["until_cycle"].to_pandas(types_mapper={table["until_cycle"].type: pd.Int64Dtype()}.get)
    frame.insert(table.column_names.index("until_cycle"), "until_cycle", until)
    return frame
