"""Chunks in a pool of processes of this machine."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any

from emulator.campaign.executors import GUARD, Task, Work, refuse_in_a_worker
from emulator.errors import EmulatorError
from emulator.sampling.past import Past


class Processes:
    """So many of them."""

    def __init__(self, count: int) -> None:
        refuse_in_a_worker()
        self.count = count

    @contextmanager
    def __call__(self, task: Task[Any]) -> Iterator[_Pool]:
        # spawn: a fresh interpreter a worker; fork would copy ONNX Runtime's and numba's threads half-dead.
        context = multiprocessing.get_context("spawn")
        with ExitStack() as stack:
            try:
                common = stack.enter_context(tempfile.TemporaryFile())
            except OSError:
                common = None  # no place for temporary files: every process has its own runs
            pool = ProcessPoolExecutor(
                self.count, context, initializer=_open_worker, initargs=(task, _path_of(common))
            )
            try:
                with _told():
                    yield _Pool(pool, self.count)
            except BaseException:
                _end_work(pool)
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _end_work(pool: ProcessPoolExecutor) -> None:
    """Nobody waits for what they are doing. `terminate_workers`, from Python 3.14 on."""
    for process in _processes(pool):
        process.terminate()
    # One that was sending has left half an answer: the pool would wait for the rest as long as anybody could send it,
    # and we could.
    pool._result_queue._writer.close()  # type: ignore[attr-defined]


def _processes(pool: ProcessPoolExecutor) -> list[BaseProcess]:
    return list((pool._processes or {}).values())


class _Pool:
    def __init__(self, pool: ProcessPoolExecutor, count: int) -> None:
        self.pool = pool
        self.count = count

    def size(self) -> int:
        # The pool itself waits for ever if one dies that was sending.
        if multiprocessing.connection.wait(
            [process.sentinel for process in _processes(self.pool)], timeout=0
        ):
            raise BrokenProcessPool
        return self.count

    def submit(self, chunk: int, past: Past) -> Future[Any]:
        return self.pool.submit(_work, chunk, past)


@contextmanager
def _told() -> Iterator[None]:
    """A worker that dies is an error of ours."""
    try:
        yield
    except BrokenProcessPool:
        raise EmulatorError(
            f"a worker process died; finished chunks are kept, a rerun resumes. {GUARD} "
            "If it ran out of memory, use fewer workers."
        ) from None


def _path_of(file: IO[bytes] | None) -> Path | None:
    """Where other processes find a file without a name, which can't be left behind."""
    if file is None:
        return None
    path = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
    return path if path.exists() else None


# ---- in the worker

_worker: Work[Any] | None = None


def _open_worker(task: Task[Any], shared: Path | None) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = task.open(shared)


def _end_with_parent() -> None:
    """A worker must not outlive a parent that was killed: nobody would take what it finds."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(chunk: int, past: Past) -> Any:
    assert _worker is not None
    return _worker(chunk, past)
