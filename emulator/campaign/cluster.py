"""Chunks on a Dask cluster. Every worker is given the task once, also one that joins later; a chunk of a worker that
dies is done again by another, and so is one that came to a worker of another version."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from uuid import uuid4

from emulator.campaign.executors import DASK, DASK_LOCAL, Task, Work, refuse_in_a_worker
from emulator.campaign.roster import Roster, Versions, unlike
from emulator.campaign.versions import versions_here
from emulator.errors import BadConfig, EmulatorError, first_line
from emulator.sampling.past import Past

try:
    import distributed
    from distributed.comm.core import CommClosedError
    from distributed.diagnostics.plugin import WorkerPlugin
except ImportError as error:
    raise BadConfig(
        "workers on a cluster need Dask, which is not installed. "
        "Run `pip install 'systolic-fault-emulator[dask]'`, here and where the workers are."
    ) from error

_SECONDS_TO_CONNECT = 10
_SECONDS_UNSEEN = 0.1


class Cluster:
    """where: dask://HOST:PORT of a scheduler, dask-local for one of this machine's cores, or a client."""

    def __init__(self, where: str | distributed.Client) -> None:
        if isinstance(where, str):
            if where == DASK_LOCAL:
                refuse_in_a_worker()
            else:
                _connected(where).close()  # asked now: an address that is wrong leaves no directory behind
        elif not isinstance(where, distributed.Client):
            raise BadConfig(
                f"workers of type {type(where).__name__}; allowed: a number, 'auto', {DASK}HOST:PORT, {DASK_LOCAL}, "
                "or a distributed.Client."
            )
        elif where.asynchronous or where.status != "running":
            raise BadConfig(f"workers={where}; allowed: a client that is open, and not asynchronous.")
        self.where = where

    @contextmanager
    def __call__(self, task: Task[Any]) -> Iterator[_Pool]:
        with ExitStack() as stack:
            client = self._client(stack)
            key, roster = f"emulator-{uuid4().hex}", Roster(client)
            with _told(OSError):
                roster.present()
            stack.callback(_forget, client, key)
            try:
                client.register_plugin(_Holder(task, roster.versions), name=key)
            except Exception as error:  # whatever a worker raises that can't read or import the task
                raise EmulatorError(
                    f"the cluster does not take the task: {first_line(error)}. What it is made of must be installed "
                    "where scheduler and workers run."
                ) from error
            executor = client.get_executor(pure=False)
            stack.callback(executor.shutdown, wait=False)
            with _told(distributed.KilledWorker, CommClosedError, CancelledError):
                yield _Pool(executor, key, client, roster)

    def _client(self, stack: ExitStack) -> distributed.Client:
        """The caller's, or one that is closed with the stack."""
        if isinstance(self.where, distributed.Client):
            return self.where
        if self.where == DASK_LOCAL:
            cluster = distributed.LocalCluster(threads_per_worker=1, dashboard_address=":0")
            client = distributed.Client(stack.enter_context(cluster))
        else:
            client = _connected(self.where)
        stack.callback(client.close)
        return client


def _connected(where: str) -> distributed.Client:
    """To the scheduler at dask://HOST:PORT."""
    try:
        return distributed.Client(f"tcp://{where.removeprefix(DASK)}", timeout=_SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        raise BadConfig(
            f"workers={where!r}: no scheduler there ({first_line(error)}). Start `dask scheduler`, and "
            "`dask worker HOST:PORT` where the work is to be done."
        ) from error


class _Pool:
    def __init__(self, executor: Any, key: str, client: distributed.Client, roster: Roster) -> None:
        self.executor = executor
        self.key = key
        self.client = client
        self.roster = roster
        self.past: Past | None = None
        self.sent: distributed.Future[Any] | None = None
        self.alone = False

    def size(self) -> int:
        with _told(OSError):
            workers = self.roster.present()
        if not workers and not self.alone:
            warnings.warn("the scheduler has no workers: waiting for one (Ctrl-C ends)", stacklevel=2)
        self.alone = not workers
        # Chunks wait at the scheduler for the first worker.
        return max(1, workers)

    def submit(self, chunk: int, past: Past) -> Future[Any]:
        with _told(OSError):
            future: Future[Any] = self.executor.submit(_work, self.key, chunk, self._known(past))
            return future

    def _known(self, past: Past) -> distributed.Future[Any]:
        """The same for many chunks: it travels once, and from one worker to the next."""
        if past is not self.past:
            # A result, not scattered data: where it is lost the scheduler has it done again.
            self.past, self.sent = past, self.client.submit(_received, past, pure=False)
        assert self.sent is not None
        return self.sent


@contextmanager
def _told(*failures: type[BaseException]) -> Iterator[None]:
    """A scheduler that is gone, or workers that die of a chunk, are errors of ours."""
    try:
        yield
    except failures as error:
        what, remedy = "its scheduler is gone", ""
        if isinstance(error, distributed.KilledWorker):
            what, remedy = first_line(error), " If workers ran out of memory, give each more."
        raise EmulatorError(
            f"the cluster failed: {what}; finished chunks are kept, a rerun resumes.{remedy}"
        ) from error


def _forget(client: distributed.Client, key: str) -> None:
    # Where the scheduler is gone so is the task.
    with suppress(Exception):
        client.unregister_worker_plugin(key)


# ---- in the worker


class _Holder(WorkerPlugin):
    """A task on its way to every worker, and then what has become of it there."""

    def __init__(self, task: Task[Any], versions: Versions) -> None:
        self.task = task
        self.versions = versions

    def setup(self, worker: Any) -> None:
        self.opened = _Opened(self.task)
        self.unlike = unlike(versions_here(), self.versions)


class _Opened:
    """A task that is opened when its first chunk comes. One chunk at a time: what is open is not for threads."""

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        self.lock = threading.Lock()
        self.work: Work[Any] | None = None

    def __call__(self, chunk: int, past: Past) -> Any:
        with self.lock:
            if self.work is None:
                self.work = self.task.open(None)
            return self.work(chunk, past)


def _received(past: Past) -> Past:
    return past


def _work(key: str, chunk: int, past: Past) -> Any:
    holder = distributed.get_worker().plugins[key]
    assert isinstance(holder, _Holder)
    if holder.unlike:
        # The roster has not seen this worker yet; until it is ended its chunks go round.
        time.sleep(_SECONDS_UNSEEN)
        raise distributed.Reschedule
    return holder.opened(chunk, past)
