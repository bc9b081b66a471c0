"""Files that are written whole or not at all: temporary file, fsync, rename."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from emulator.errors import BadConfig


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
