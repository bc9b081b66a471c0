"""Files that are written whole or not at all (temporary file, fsync, rename), and manifests read back."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from emulator.errors import BadConfig, BadData


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
