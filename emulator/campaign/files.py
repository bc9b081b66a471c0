"""Files that are written whole or not at all (temporary file, fsync, rename), and manifests read back."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from emulator.errors import BadConfig, BadData

_LEFTOVER = re.compile(r"\.(manifest\.json|part-\d{6,}\.parquet)\.\d+\.tmp")


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces the file; raises BadConfig if the disk refuses, and then nothing has changed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise BadConfig(
            f"{path}: can't be written ({error.strerror}). {_REMEDY.get(error.errno or 0, 'Choose another -o')}; "
            "what was written before is there, and a rerun resumes."
        ) from error


_REMEDY = {
    errno.ENOSPC: "Free some space or choose another -o",
    errno.EACCES: "Choose an -o you may write to",
}


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file. Raises FileNotFoundError, and BadData, which ends with `remedy`, for anything else."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise BadData(f"{path}: unreadable ({error}). {remedy}") from None
    if not isinstance(found, dict):
        raise BadData(f"{path}: holds a {type(found).__name__}, not an object. {remedy}")
    return found


def is_leftover(path: Path) -> bool:
    """Is it what an interrupted write of a campaign's file left?"""
    return _LEFTOVER.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    for entry in folder.iterdir() if folder.is_dir() else ():
        if is_leftover(entry):
            entry.unlink(missing_ok=True)


def as_json(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """As JSON will give it back: tuples become lists, keys strings. Raises BadData, which begins with `what`, for what
    JSON can't hold, NaN among it."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadData(f"{what}: {error}. Allowed: what JSON can hold, without NaN.") from None
    return plain
