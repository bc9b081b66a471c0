"""DIR/trials/part-NNNNNN.parquet: the trials of one chunk. Equal data gives equal bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emulator.campaign.files import remove_leftovers, write_atomically
from emulator.campaign.manifest import TRIALS, campaign_digest, fresh_start
from emulator.campaign.schema import COLUMNS, Column
from emulator.errors import BadData, first_line

if TYPE_CHECKING:
    import pyarrow as pa

_PART = re.compile(r"part-(\d{6,})\.parquet")
_CAMPAIGN, _CHUNK = "campaign", "chunk"


def part_path(directory: Path, chunk: int) -> Path:
    """DIR/trials/part-000007.parquet"""
    return directory / TRIALS / f"part-{chunk:06d}.parquet"


def encoded_part(chunk: int, columns: Mapping[str, npt.NDArray[Any]], digest: str) -> bytes:
    """The file that holds the trials of one chunk of the campaign with this `campaign_digest`.

    columns: every column of `schema.COLUMNS`, (n,) each; strings as str or object arrays. A nullable column
    may be a masked array, and is null where it is masked or negative. Raises BadData for other columns or values.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check_columns(columns)
    try:
        arrays = [_arrow_array(column, columns[column.name]) for column in COLUMNS]
    except pa.ArrowException as error:
        raise BadData(f"chunk {chunk}: {error}") from None
    file = io.BytesIO()
    schema = _arrow_schema().with_metadata({_CAMPAIGN: digest, _CHUNK: str(chunk)})
    table = pa.Table.from_arrays(arrays, schema=schema)
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return file.getvalue()


def write_part(directory: Path, chunk: int, part: bytes) -> None:
    """Stores an `encoded_part`, replacing any earlier one; BadConfig if the disk refuses."""
    write_atomically(part_path(directory, chunk), part)


def read_part(directory: Path, chunk: int, names: Sequence[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """Columns of one chunk, all or those of `names`, as `encoded_part` takes them; BadData if it can't be read."""
    columns = [column for column in COLUMNS if names is None or column.name in names]
    table = _sound(directory, chunk, campaign_digest(directory), [column.name for column in columns])
    return {column.name: _numpy_array(column, table[column.name]) for column in columns}


def read_parts(
    directory: Path, chunks: Sequence[int], digest: str, names: Sequence[str]
) -> Iterator[pa.Table]:
    """Columns of the trials of these chunks of the campaign with this `campaign_digest`, a table each, in their order;
    BadData if a part can't be read, or is another's."""
    for chunk in chunks:
        yield _sound(directory, chunk, digest, names).select(names)


def complete_chunks(directory: Path, expected_rows: Callable[[int], int | None]) -> list[int]:
    """The chunks whose part reads well and has the expected rows (None: any), ascending.

    A part that does not read is set aside as part-*.parquet.corrupt, with a warning; leftovers of interrupted writes
    are removed. A healthy part with another number of rows stays, to be overwritten when its chunk is redone.
    """
    remove_leftovers(directory)
    remove_leftovers(directory / TRIALS)
    chunks = stored_chunks(directory)
    digest = campaign_digest(directory) if chunks else ""
    rows = {chunk: _healthy_rows(directory, chunk, digest) for chunk in chunks}
    return [chunk for chunk in chunks if rows[chunk] >= 0 and expected_rows(chunk) in (None, rows[chunk])]


def stored_trials(directory: Path) -> int:
    """Trials in the parts that can be read; 0 where there is no campaign."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    total = 0
    for chunk in stored_chunks(directory):
        try:
            total += int(pq.read_metadata(part_path(directory, chunk)).num_rows)
        except (pa.ArrowException, OSError):
            continue  # a damaged part is set aside when its chunk is redone
    return total


def end_with(directory: Path, chunk: int) -> None:
    """Removes the parts behind this chunk."""
    for stored in stored_chunks(directory):
        if stored > chunk:
            part_path(directory, stored).unlink()


def stored_chunks(directory: Path) -> list[int]:
    folder = directory / TRIALS
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in map(_PART.fullmatch, names) if match)


def _healthy_rows(directory: Path, chunk: int, digest: str) -> int:
    """The rows of a part; -1 if it had to be set aside."""
    try:
        return int(_read(directory, chunk, digest).num_rows)
    except BadData as error:
        path = part_path(directory, chunk)
        aside = path.with_name(f"{path.name}.corrupt")
        path.replace(aside)
        told = f"{path} is damaged ({error}): set aside as {aside.name}, its trials are made again"
        warnings.warn(told, stacklevel=2)
        return -1


def _read(directory: Path, chunk: int, digest: str, names: Sequence[str] | None = None) -> pa.Table:
    """A part, all of it or the columns `names`; BadData, which says what is wrong, if it isn't one of this campaign."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A file object of our own: pyarrow would read Hive partitions into the path.
        with pa.OSFile(str(part_path(directory, chunk))) as data:
            file = pq.ParquetFile(data, page_checksum_verification=True)
            schema = file.schema_arrow
            table = file.read(None if names is None else list(names))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadData(first_line(error)) from None
    if not schema.equals(_arrow_schema()):
        raise BadData("its columns are not those of this version")
    stored = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    if stored.get(_CAMPAIGN) != digest:
        raise BadData("its trials belong to another campaign")
    if stored.get(_CHUNK) != str(chunk):
        raise BadData("its trials belong to another chunk")
    return table


def _sound(directory: Path, chunk: int, digest: str, names: Sequence[str] | None = None) -> pa.Table:
    """A part that must read well; BadData if it doesn't."""
    try:
        return _read(directory, chunk, digest, names)
    except BadData as error:
        if _are_of_another_manifest(directory, digest):
            raise BadData(
                f"{directory}: the manifest is not that of these trials (edited or swapped?). {fresh_start(directory)}"
            ) from None
        raise BadData(
            f"{part_path(directory, chunk)}: unreadable ({error}). "
            "Rerun the campaign: the part is set aside and redone."
        ) from None


def _are_of_another_manifest(directory: Path, digest: str) -> bool:
    """Do all parts belong together, but not to this manifest?"""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        stored = [pq.read_schema(part_path(directory, chunk)).metadata for chunk in stored_chunks(directory)]
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return False
    campaigns = {(metadata or {}).get(_CAMPAIGN.encode()) for metadata in stored}
    return len(campaigns) == 1 and campaigns.isdisjoint({None, digest.encode()})


def _check_columns(columns: Mapping[str, npt.NDArray[Any]]) -> None:
    names = {column.name for column in COLUMNS}
    if names != columns.keys():
        missing, unknown = sorted(names - columns.keys()), sorted(columns.keys() - names)
        raise BadData(f"trials: missing columns {missing}, unknown columns {unknown}; see schema.COLUMNS.")
    shapes = {name: np.shape(values) for name, values in columns.items()}
    odd = {name: shape for name, shape in shapes.items() if shape != shapes["trial_id"] or len(shape) != 1}
    if odd:
        raise BadData(f"trials: shapes {odd}; allowed: (n,) with n = {shapes['trial_id']} of trial_id.")


def _arrow_array(column: Column, values: npt.NDArray[Any]) -> pa.Array:
    import pyarrow as pa

    if column.type in ("string", "dictionary"):
        array = pa.array(np.asarray(values, dtype=object), pa.string())
        array = array.dictionary_encode() if column.type == "dictionary" else array
    else:
        absent = np.ma.getmaskarray(values) | (np.ma.getdata(values) < 0) if column.nullable else None
        array = pa.array(np.ma.getdata(values), getattr(pa, _arrow_name(column))(), mask=absent)
    if array.null_count and not column.nullable:
        raise BadData(f"trials: column {column.name} has {array.null_count} nulls; allowed: none.")
    return array


def _numpy_array(column: Column, values: Any) -> npt.NDArray[Any]:
    if not column.nullable:
        return np.asarray(values.to_numpy())
    return np.ma.masked_array(values.fill_null(-1).to_numpy(), values.is_null().to_numpy())


def _arrow_schema() -> pa.Schema:
    import pyarrow as pa

    def arrow_type(column: Column) -> Any:
        if column.type == "dictionary":
            return pa.dictionary(pa.int32(), pa.string())
        return getattr(pa, _arrow_name(column))()

    return pa.schema(
        [
            pa.field(
                column.name,
                arrow_type(column),
                nullable=column.nullable,
                metadata={"unit": column.unit, "description": column.description},
            )
            for column in COLUMNS
        ]
    )


def _arrow_name(column: Column) -> str:
    return "bool_" if column.type == "bool" else column.type
