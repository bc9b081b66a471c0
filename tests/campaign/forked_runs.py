"""`emulator run` in processes that can be killed, forked from one that has imported and compiled everything: a run
costs tenths of a second, where a fresh interpreter takes several."""

from __future__ import annotations

import multiprocessing
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PATIENCE_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class Run:
    """pipe: what it and its workers say on stderr, which ends when all of them have ended. fresh: see `start`."""

    pid: int
    pipe: int
    fresh: bool

    def strike(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to this run or one of its workers."""
        with suppress(ProcessLookupError):  # a worker that was ending already
            os.kill(pid, number)

    def ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def workers(self) -> list[int]:
        """Those there are, once there are any; none if the run ends without."""
        while not self.ended():
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            # A new interpreter has another child first, which keeps account of semaphores.
            if found := [int(pid) for pid in children if not self.fresh or b"spawn_main" in _command(pid)]:
                return found
            time.sleep(0.002)
        return []

    def wait(self) -> tuple[int, str]:
        """(exit code, or - signal; stderr); AssertionError where a process of it lives on."""
        said, end = b"", time.monotonic() + PATIENCE_SECONDS
        while True:
            ready, _, _ = select.select([self.pipe], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.strike(self.pid, signal.SIGKILL)  # its workers end with it
                os.waitpid(self.pid, 0)
                raise AssertionError(f"a process of the run is still there: {said.decode()[-500:]!r}")
            more = os.read(self.pipe, 1 << 16)
            if not more:
                break
            said += more
        os.close(self.pipe)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status), said.decode(errors="replace")


def _command(pid: str) -> bytes:
    """The command line of a process; nothing once it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


Trap = Callable[[], None]
"""Set in the process that is to run, before it does."""


def start(
    arguments: Sequence[str], *, temporary: Path, fresh: bool = False, trap: Trap = lambda: None
) -> Run:
    """`emulator ARGUMENTS`. temporary: for its temporary files. fresh: in a new interpreter, as a user starts it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Run(pid=pid, pipe=reading, fresh=fresh)
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(writing, 2)
        os.environ["TMPDIR"] = str(temporary)
        trap()
        if fresh:
            os.execv(sys.executable, [sys.executable, "-m", "emulator", *arguments])
        os._exit(_in_this_process(arguments))
    finally:
        os._exit(70)


def _in_this_process(arguments: Sequence[str]) -> int:
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    tempfile.tempdir = None
    # Workers are forked as well: nothing here has threads that a fork could cut off.
    fork = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda _: fork  # type: ignore[assignment,return-value]
    from emulator.cli.main import app

    try:
        app(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stderr.flush()
    return 0


_OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir"}


def in_place_of(operation: int, directory: Path, number: signal.Signals) -> Trap:
    """A signal in place of an operation on a directory: the one of this number that opens, renames, removes or makes
    a file or folder there."""

    def trap() -> None:
        left, own = operation, os.getpid()

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in _OPERATIONS and str(arguments[0]).startswith(str(directory)) and os.getpid() == own:
                left -= 1
                if left == -1:
                    os.kill(own, number)

        sys.addaudithook(hook)

    return trap


def at_length(size: int, *, deadly: bool) -> Trap:
    """Whoever writes more bytes than these into a file is refused by the kernel (EFBIG), or killed, in the middle."""

    def trap() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        if deadly:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

    return trap
