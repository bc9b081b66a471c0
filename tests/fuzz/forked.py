"""Runs each case in a process of its own, forked from one that has imported and compiled everything: thousands of
crashes, hangs and memory bombs at a few milliseconds each."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 5
"""Of processor time: what a case may take must not depend on what else the machine does."""
PATIENCE = 12 * SECONDS
"""Of waiting, for a case that sleeps."""
MEMORY_BYTES = 2 << 30
GOOD = ("ran", "refused", "unmade")
# How the libraries underneath say that memory ran out.
_NO_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "Unable to allocate", "MemoryError")


@dataclass(frozen=True, kw_only=True)
class Case:
    """make: the damaged file's bytes; subject: what reads it, given its path."""

    name: str
    file: str
    make: Callable[[], bytes] = field(repr=False)
    subject: Callable[[Path], None] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """kind: ran; refused (one clear error of the emulator); unmade (the mutation does not apply); error (any other
    exception); crash (a signal); timeout; memory (asked for more than was there)."""

    case: Case
    kind: str
    detail: str
    seconds: float


def verdicts(cases: Iterable[Case], folder: Path, clear: type[Exception], jobs: int = 2) -> Iterator[Verdict]:
    """Every case, `jobs` at a time, in the order they end. clear: the class of errors that are answers."""
    running: dict[int, _Child] = {}
    todo = iter(cases)
    while True:
        while len(running) < jobs and (case := next(todo, None)) is not None:
            child = _fork(case, folder, clear)
            running[child.pipe] = child
        if not running:
            return
        left = min(child.started + PATIENCE for child in running.values()) - time.monotonic()
        ready, _, _ = select.select(list(running), [], [], max(0.0, left))
        late = [p for p, child in running.items() if time.monotonic() - child.started > PATIENCE]
        for pipe in {*ready, *late}:
            yield running.pop(pipe).end()


@dataclass(frozen=True, kw_only=True)
class _Child:
    case: Case
    pid: int
    pipe: int
    started: float

    def end(self) -> Verdict:
        """Read what it said, or stop it if it is late."""
        seconds = time.monotonic() - self.started
        said = b""
        if select.select([self.pipe], [], [], 0)[0]:
            while part := os.read(self.pipe, 1 << 16):
                said += part
        else:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.pipe)
        _, status = os.waitpid(self.pid, 0)
        kind, _, detail = said.decode(errors="replace").partition("\n")
        if os.WIFSIGNALED(status) and not said:
            killed = os.WTERMSIG(status)
            late = killed == signal.SIGXCPU or seconds > PATIENCE
            kind = "timeout" if late else "crash"
            detail = "" if late else signal.Signals(killed).name
        return Verdict(case=self.case, kind=kind or "crash", detail=detail, seconds=seconds)


def _fork(case: Case, folder: Path, clear: type[Exception]) -> _Child:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return _Child(case=case, pid=pid, pipe=reading, started=time.monotonic())
    said = "crash\n"
    try:
        os.close(reading)
        said = _live(case, folder, clear)
    finally:
        os.write(writing, said.encode(errors="replace")[:60_000])
        os._exit(0)


def _live(case: Case, folder: Path, clear: type[Exception]) -> str:
    """The child: make the file, read it, say how it went."""
    path = folder / f"{os.getpid()}" / case.file
    path.parent.mkdir()
    try:
        path.write_bytes(case.make())
    except Exception as error:  # protobuf refuses to write what it would refuse to read
        return f"unmade\n{type(error).__name__}: {error}"
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1), os.dup2(quiet, 2)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    try:
        case.subject(path)
    except BaseException as error:
        text = "".join(traceback.format_exception(error))
        if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
            return f"memory\n{_where(error)}"
        if isinstance(error, clear):
            return f"refused\n{type(error).__name__}: {error}"
        return f"error\n{_where(error)}"
    finally:
        path.unlink()
        path.parent.rmdir()
    return "ran\n"


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/emulator/" in f.filename] or frames[-1:]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {place}: {str(error)[:300]}"
