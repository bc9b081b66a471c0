"""One run at a time writes into a directory: DIR/.lock."""

from __future__ import annotations

import fcntl
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from emulator.errors import BadConfig

LOCK = ".lock"


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Holds the lock of a campaign directory, which the system lets go of however this process ends. Raises BadConfig
    if another process has it."""
    path = directory / LOCK
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
        with (directory / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
