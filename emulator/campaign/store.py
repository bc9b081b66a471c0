"""A campaign on disk: DIR/manifest.json and one DIR/trials/part-NNNNNN.parquet a chunk.

Every file is written whole or not at all (temporary file, fsync, rename), equal data gives equal bytes, and
nothing is written into a directory that is not this campaign's.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emulator.campaign.files import read_object, write_atomically
from emulator.campaign.schema import COLUMNS, Column
from emulator.errors import BadConfig, BadData, first_line

if TYPE_CHECKING:
    import pyarrow as pa

Manifest = Mapping[str, Any]

SCHEMA = 4
"""Of manifest and trials: 2 since a row may stand for many sites, 3 since trials have a score, 4 since the manifest
knows whether any run of the campaign was to stop on what it found."""

_MANIFEST = "manifest.json"
_TRIALS = "trials"
_PART = re.compile(r"part-(\d{6})\.parquet")
_LEFTOVER = re.compile(r"\.(manifest\.json|part-\d{6}\.parquet)\.\d+\.tmp")
_LOCK = ".lock"
_EXTENDABLE = ("stop", "looked")  # a rerun may ask for more trials of the same campaign


# ---- manifest


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of `directory`; BadConfig if there is none, BadData if it can't be read."""
    path = directory / _MANIFEST
    try:
        manifest = read_object(path, _fresh_start(directory))
    except FileNotFoundError:
        raise BadConfig(
            f"{directory}: not a campaign directory (no {_MANIFEST}). "
            "Give the -o directory of an `emulator run`."
        ) from None
    if manifest.get("schema") != SCHEMA:
        raise BadData(
            f"{path}: schema {manifest.get('schema')!r}, of another version; allowed: {SCHEMA}. Choose another -o to "
            "run the campaign again, or read it with the version that wrote it."
        )
    return manifest


def check_manifest(directory: Path, manifest: Manifest) -> dict[str, Any] | None:
    """What `directory` holds of this campaign, its manifest (a rerun resumes it); None if it is absent or empty.

    Raises BadConfig, naming each difference, if it holds another campaign, or anything else.
    """
    if not (directory / _MANIFEST).exists():
        _refuse_foreign(directory)
        return None
    stored = read_manifest(directory)
    different = differences(stored, _plain(manifest))
    if different:
        lines = "\n".join(f"  {key}: stored {a}, new {b}" for key, a, b in different)
        raise BadConfig(
            f"{directory} holds another campaign; nothing was written. Different:\n{lines}\n"
            "To keep it, choose another -o; to replace it, delete the directory; to resume, undo the change."
        )
    return stored


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Starts a campaign in `directory`, or extends it; whether it may is for `check_manifest` to say."""
    text = json.dumps(_plain(manifest), indent=2, ensure_ascii=False) + "\n"
    write_atomically(directory / _MANIFEST, text.encode())


def _refuse_foreign(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise BadConfig(f"{directory} is a file; nothing was written. Choose another -o.")
    if directory.is_dir() and any(not _is_ours(entry) for entry in directory.iterdir()):
        raise BadConfig(
            f"{directory} is not empty and not a campaign directory; nothing was written. "
            "Choose another -o, or empty it."
        )


def _plain(manifest: Manifest) -> dict[str, Any]:
    """What JSON will give back: tuples become lists, keys become strings."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(manifest), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadData(f"manifest: {error}. Allowed: what JSON can hold, without NaN.") from None
    return plain


def differences(stored: Manifest, new: Manifest) -> list[tuple[str, str, str]]:
    """(dotted key, stored, new) of all that makes them two campaigns."""
    return _differences(_identity(stored), _identity(new))


def _identity(manifest: Manifest) -> dict[str, Any]:
    """What makes two manifests one campaign: not the stop rule, and content, not where a file lies."""
    return {
        key: {name: part for name, part in value.items() if name != "path"}
        if isinstance(value, dict)
        else value
        for key, value in manifest.items()
        if key not in _EXTENDABLE
    }


def _differences(stored: Any, new: Any, key: str = "") -> list[tuple[str, str, str]]:
    """(dotted key, stored, new) of every leaf that differs."""
    if isinstance(stored, dict) and isinstance(new, dict):
        inner = ((k, stored.get(k, _ABSENT), new.get(k, _ABSENT)) for k in sorted({*stored, *new}))
        return [d for k, a, b in inner for d in _differences(a, b, f"{key}.{k}" if key else k)]
    if isinstance(stored, list) and isinstance(new, list) and len(stored) == len(new):
        pairs = enumerate(zip(stored, new, strict=True))
        return [d for i, (a, b) in pairs for d in _differences(a, b, f"{key}.{i}")]
    return [] if stored == new else [(key, _short(stored), _short(new))]


_ABSENT = object()


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fresh_start(directory: Path) -> str:
    return (
        f"The trials are not lost: start the same campaign with another -o and copy its {_MANIFEST} here; "
        f"or delete {directory} and run it again."
    )


# ---- parts


def part_path(directory: Path, chunk: int) -> Path:
    """DIR/trials/part-000007.parquet"""
    return directory / _TRIALS / f"part-{chunk:06d}.parquet"


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
    table = pa.Table.from_arrays(arrays, schema=_arrow_schema().with_metadata({_CAMPAIGN: digest}))
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


def read_parts(directory: Path) -> pa.Table:
    """All trials in chunk order; BadData if there are none or a part can't be read."""
    import pyarrow as pa

    chunks = stored_chunks(directory)
    if not chunks:
        raise BadData(f"{directory}: no trials yet. Run the campaign: `emulator run ... -o {directory}`.")
    digest = campaign_digest(directory)
    return pa.concat_tables([_sound(directory, chunk, digest) for chunk in chunks]).unify_dictionaries()


def complete_chunks(directory: Path, expected_rows: Callable[[int], int | None]) -> list[int]:
    """The chunks whose part reads well and has the expected rows (None: any), ascending.

    A part that does not read is set aside as part-*.parquet.corrupt; leftovers of interrupted writes are
    removed. A healthy part with another number of rows stays, to be overwritten when its chunk is redone.
    """
    _remove_leftovers(directory)
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
    folder = directory / _TRIALS
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in map(_PART.fullmatch, names) if match)


def _healthy_rows(directory: Path, chunk: int, digest: str) -> int:
    """The rows of a part; -1 if it had to be set aside."""
    try:
        return int(_read(directory, chunk, digest).num_rows)
    except BadData:
        path = part_path(directory, chunk)
        path.replace(path.with_name(f"{path.name}.corrupt"))
        return -1


def _read(directory: Path, chunk: int, digest: str, names: Sequence[str] | None = None) -> pa.Table:
    """A part, all of it or the columns `names`; BadData, which says what is wrong, if it isn't one of this campaign."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        # A file object of our own: pyarrow would read Hive partitions into the path.
        data = pa.BufferReader(part_path(directory, chunk).read_bytes())
        file = pq.ParquetFile(data, page_checksum_verification=True)
        schema = file.schema_arrow
        table = file.read(None if names is None else [*names, "chunk"])
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadData(first_line(error)) from None
    if not schema.equals(_arrow_schema()):
        raise BadData("its columns are not those of this version")
    if (schema.metadata or {}).get(_CAMPAIGN.encode()) != digest.encode():
        raise BadData("its trials belong to another campaign")
    if not pc.all(pc.equal(table["chunk"], chunk)).as_py() and table.num_rows:
        raise BadData("its trials belong to another chunk")
    return table


def _sound(directory: Path, chunk: int, digest: str, names: Sequence[str] | None = None) -> pa.Table:
    """A part that must read well; BadData if it doesn't."""
    try:
        return _read(directory, chunk, digest, names)
    except BadData as error:
        raise BadData(
            f"{part_path(directory, chunk)}: unreadable ({error}). "
            "Rerun the campaign: the part is set aside and redone."
        ) from None


_CAMPAIGN = "campaign"


def campaign_digest(directory: Path) -> str:
    """Names the campaign of a directory; a part carries it, so that a stray part is noticed."""
    identity = json.dumps(_identity(read_manifest(directory)), sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


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


# ---- one writer, whole files


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Holds the lock of a campaign directory, which the system lets go of however this process ends. Raises BadConfig
    if another process has it."""
    path = directory / _LOCK
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise BadConfig(f"{path}: can't be written ({error.strerror}). Choose another -o.") from error
    with file:
        try:
            _take(file)
        except BlockingIOError:
            raise BadConfig(
                f"{directory}: another run is writing here; nothing was written. Wait for it, or choose another -o."
            ) from None
        except OSError as error:
            message = f"{directory} can't be locked ({error.strerror}): see that no other run writes there"
            warnings.warn(message, stacklevel=2)
        yield


def _take(file: IO[bytes]) -> None:
    """The lock of a writer. Tried twice: a look at it by `being_written` is soon over."""
    with suppress(BlockingIOError):
        return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    time.sleep(0.1)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def being_written(directory: Path) -> bool:
    """Does a process hold the lock of this directory? False where locks don't work."""
    try:
        with (directory / _LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _is_ours(path: Path) -> bool:
    return path.name == _LOCK or _is_leftover(path)


def _is_leftover(path: Path) -> bool:
    return _LEFTOVER.fullmatch(path.name) is not None


def _remove_leftovers(directory: Path) -> None:
    for folder in (directory, directory / _TRIALS):
        for entry in folder.iterdir() if folder.is_dir() else ():
            if _is_leftover(entry):
                entry.unlink(missing_ok=True)
