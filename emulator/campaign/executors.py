"""Where chunks run: in this process, in processes of this machine, or on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from emulator.choices import did_you_mean
from emulator.errors import BadConfig
from emulator.sampling.past import Past

GUARD = (
    'In a script, put the calls under `if __name__ == "__main__":` (workers import the script again), '
    "or use workers=1."
)

Result = TypeVar("Result", covariant=True)
Work = Callable[[int, Past], Result]

DASK = "dask://"
DASK_LOCAL = "dask-local"
_CLUSTER = re.compile(rf"{DASK_LOCAL}|{DASK}\S+:\d+")


class Task(Protocol[Result]):
    """Picklable: `open()` once a worker gives the function that does chunks there. shared: a file that all workers may
    map, empty at first; None where one works alone, or the system has no such files."""

    def open(self, shared: Path | None) -> Work[Result]: ...


class Pool(Protocol):
    """Workers that have a task."""

    def size(self) -> int:
        """How many there are now."""
        ...

    def submit(self, chunk: int, past: Past) -> Future[Any]:
        """For one of them. Raises EmulatorError, as its result does, where the pool has broken."""
        ...


class Opener(Protocol):
    """Gives a task to workers, and stops them."""

    def __call__(self, task: Task[Any]) -> AbstractContextManager[Pool]: ...


def run_chunks(
    task: Task[Result],
    chunks: Iterable[int],
    opener: Opener | None,
    after: Callable[[int], int],
    past: Callable[[int], Past],
) -> Generator[tuple[int, Result]]:
    """(chunk, result) as they finish. `chunks` ascend and may be endless: they are read a few chunks ahead of the work,
    and closing the iterator stops it. A chunk begins when all chunks below after(chunk), which may not fall, are
    finished, and is given what past(after(chunk)) knows of them. opener: None works here, in this process."""
    if opener is None:
        work = task.open(None)
        for chunk in chunks:
            yield chunk, work(chunk, past(after(chunk)))
        return
    with opener(task) as pool:
        yield from _run_in_pool(pool, iter(chunks), after, past)


def _run_in_pool(
    pool: Pool, chunks: Iterator[int], after: Callable[[int], int], past: Callable[[int], Past]
) -> Iterator[tuple[int, Any]]:
    pending: dict[Future[Any], int] = {}
    early: list[int] = []  # finished before one that is older
    following = next(chunks, None)
    while pending or following is not None:
        ahead = 2 * pool.size()
        while following is not None and len(pending) < ahead:
            oldest = min(pending.values(), default=following)
            early = [chunk for chunk in early if chunk > oldest]
            if oldest < after(following) or len(early) >= MOST_EARLY * ahead:
                break
            pending[pool.submit(following, past(after(following)))] = following
            following = next(chunks, None)
        wait(pending, timeout=_LOOK_AGAIN_SECONDS, return_when=FIRST_COMPLETED)
        done = [future for future in pending if future.done()]
        # First what can be kept: a chunk that failed ends the rest.
        for future in sorted(done, key=_failed):
            early.append(pending.pop(future))
            yield early[-1], future.result()


def _failed(future: Future[Any]) -> bool:
    return future.cancelled() or future.exception() is not None


# Results that are taken in order wait for the oldest: no more of them than this for each chunk that is asked for.
MOST_EARLY = 4

# Workers that have joined meanwhile are given something to do.
_LOOK_AGAIN_SECONDS = 1.0


def refuse_in_a_worker() -> None:
    """Raise BadConfig where this process is a worker itself.

    A worker that imports a script without the guard, and finds itself here, ends with that one line: a traceback from
    each of them would hide it.
    """
    # What multiprocessing itself asks; such a worker does not know its parent yet.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(f"error: {GUARD}")
    if multiprocessing.parent_process() is not None:
        raise BadConfig(f"campaign started inside a worker process. {GUARD}")


def counted_workers(workers: Any) -> int | Literal["auto"] | None:
    """What `--workers` says: a number of processes of this machine, or 'auto'; None for 'dask://HOST:PORT',
    'dask-local' and a `distributed.Client`. Raises BadConfig for other numbers and words."""
    if workers == "auto":
        return "auto"
    if isinstance(workers, str) and workers.isdecimal():
        workers = int(workers)
    if isinstance(workers, int) and workers >= 1:
        return workers
    if isinstance(workers, int) or (isinstance(workers, str) and not _CLUSTER.fullmatch(workers)):
        meant = did_you_mean(str(workers), ("auto", DASK_LOCAL, f"{DASK}HOST:PORT"))
        raise BadConfig(
            f"workers={workers!r}{meant}; allowed: 'auto', a number from 1, {DASK}HOST:PORT or {DASK_LOCAL}. "
            "Try --workers auto."
        )
    return None


def usable_cores() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0))


def opener_of(count: int | Literal["auto"] | None, cluster: Any) -> Opener | None:
    """So many processes, 1: this one, 'auto': one a usable core; None: the cluster. Raises BadConfig where that is
    none."""
    if count == "auto":
        count = usable_cores()
    if count is not None:
        from emulator.campaign.processes import Processes

        return None if count == 1 else Processes(count)
    from emulator.campaign.cluster import Cluster

    return Cluster(cluster)
