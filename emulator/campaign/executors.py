"""Where chunks run: in this process, or in a pool of processes. One protocol, so a cluster fits in later."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from emulator.errors import BadConfig, EmulatorError

Result = TypeVar("Result", covariant=True)


class Task(Protocol[Result]):
    """Picklable: `open()` once a worker gives the function that does chunks there. shared: a file that all workers may
    map, empty at first; None where one works alone, or the system has no such files."""

    def open(self, shared: Path | None) -> Callable[[int], Result]: ...


def run_chunks(
    task: Task[Result], chunks: Iterable[int], workers: int, after: Callable[[int], int] = lambda chunk: 0
) -> Iterator[tuple[int, Result]]:
    """(chunk, result) as they finish. `chunks` ascend and may be endless: they are read a few chunks ahead of the work,
    and closing the iterator stops it. A chunk begins when all chunks below after(chunk), which may not fall, are
    finished."""
    if workers == 1:
        work = task.open(None)
        for chunk in chunks:
            yield chunk, work(chunk)
        return
    yield from _run_in_pool(task, iter(chunks), workers, after)


def worker_count(workers: int | str) -> int:
    """'auto' is one process a usable core."""
    if workers == "auto":
        return len(os.sched_getaffinity(0))
    if isinstance(workers, str) and workers.isdecimal():
        workers = int(workers)
    if not isinstance(workers, int) or workers < 1:
        raise BadConfig(f"workers={workers!r}; allowed: 'auto' or a number from 1. Try --workers auto.")
    return workers


def _run_in_pool(
    task: Task[Result], chunks: Iterator[int], workers: int, after: Callable[[int], int]
) -> Iterator[tuple[int, Result]]:
    if multiprocessing.parent_process() is not None:
        raise BadConfig(f"campaign started inside a worker process. {_GUARD}")
    # spawn: a fresh interpreter a worker; fork would copy ONNX Runtime's and numba's threads half-dead.
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        try:
            common = stack.enter_context(tempfile.TemporaryFile())
        except OSError:
            common = None  # no place for temporary files: every process has its own runs
        arguments = (task, _path_of(common))
        pool = ProcessPoolExecutor(workers, context, initializer=_open_worker, initargs=arguments)
        try:
            pending: dict[Future[Any], int] = {}
            following = next(chunks, None)
            while pending or following is not None:
                while following is not None and len(pending) < 2 * workers:
                    if min(pending.values(), default=following) < after(following):
                        break
                    pending[_submit(pool, following)] = following
                    following = next(chunks, None)
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    chunk = pending.pop(future)
                    yield chunk, _result(future)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, chunk: int) -> Future[Any]:
    with _told():
        return pool.submit(_work, chunk)


def _result(future: Future[Any]) -> Any:
    with _told():
        return future.result()


@contextmanager
def _told() -> Iterator[None]:
    """A worker that dies is an error of ours."""
    try:
        yield
    except BrokenProcessPool as error:
        raise EmulatorError(
            f"a worker process died; finished chunks are kept, a rerun resumes. {_GUARD} "
            "If it ran out of memory, use fewer workers."
        ) from error


_GUARD = (
    'In a script, put the calls under `if __name__ == "__main__":` (workers import the script again), '
    "or use workers=1."
)

_worker: Callable[[int], Any] | None = None


def _path_of(file: IO[bytes] | None) -> Path | None:
    """Where other processes find a file without a name, which can't be left behind."""
    if file is None:
        return None
    path = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
    return path if path.exists() else None


def _open_worker(task: Task[Any], shared: Path | None) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = task.open(shared)


def _end_with_parent() -> None:
    """A worker must not outlive a parent that was killed: it would write into a rerun's directory."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(chunk: int) -> Any:
    assert _worker is not None
    return _worker(chunk)
