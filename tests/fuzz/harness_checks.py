"""One case for each way to end, named after it."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from pathlib import Path

from forked import SECONDS, Case

from emulator.errors import BadData


def crash(path: Path) -> None:
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)


def timeout(path: Path) -> None:
    end = time.process_time() + 10 * SECONDS
    while time.process_time() < end:
        pass


def memory(path: Path) -> None:
    bytearray(3 << 30)


def error(path: Path) -> None:
    raise KeyError(path.name)


def refused(path: Path) -> None:
    raise BadData("clear")


def ran(path: Path) -> None:
    path.read_bytes()


CASES = [
    Case(name=subject.__name__, file="file", make=lambda: b"x", subject=subject)
    for subject in (crash, timeout, memory, error, refused, ran)
]
