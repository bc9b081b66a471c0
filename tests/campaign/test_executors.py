"""The loop that keeps a pool busy, on a pool whose futures the test decides."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from emulator.campaign.executors import MOST_EARLY, run_chunks
from emulator.sampling.past import Past, no_past


class Pool:
    """Every chunk is done at once, but for those that fail."""

    def __init__(self, failing: set[int], workers: int = 4) -> None:
        self.failing = failing
        self.workers = workers
        self.left = False

    @contextmanager
    def __call__(self, task: Any) -> Iterator[Pool]:
        try:
            yield self
        finally:
            self.left = True

    def size(self) -> int:
        return self.workers

    def submit(self, chunk: int, past: Past) -> Future[Any]:
        future: Future[Any] = Future()
        if chunk in self.failing:
            future.set_exception(RuntimeError(f"chunk {chunk}"))
        else:
            future.set_result(10 * chunk)
        return future


def run(pool: Pool, count: int) -> Iterator[tuple[int, Any]]:
    return run_chunks(None, range(count), pool, lambda _: 0, lambda _: no_past())  # type: ignore[arg-type]


def test_every_chunk_is_done_once() -> None:
    assert sorted(run(Pool(set()), 30)) == [(chunk, 10 * chunk) for chunk in range(30)]


@pytest.mark.parametrize("failing", range(8))
def test_what_is_done_beside_a_failure_is_kept(failing: int) -> None:
    pool, found = Pool({failing}), []
    with pytest.raises(RuntimeError, match=f"chunk {failing}"):
        for chunk, _ in run(pool, 8):
            found.append(chunk)
    # Eight are asked for at once, twice as many as there are workers.
    assert sorted(found) == [chunk for chunk in range(8) if chunk != failing]
    assert pool.left


def test_a_consumer_that_stops_leaves_the_pool() -> None:
    pool = Pool(set())
    chunks = run(pool, 30)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert pool.left


def test_no_chunk_is_far_ahead_of_one_that_takes_long() -> None:
    """What is finished early waits for it, in memory."""
    slow: Future[Any] = Future()
    asked: list[int] = []

    class Sluggish(Pool):
        def submit(self, chunk: int, past: Past) -> Future[Any]:
            asked.append(chunk)
            return super().submit(chunk, past) if chunk else slow

    def release() -> None:
        asked_meanwhile.append(len(asked))
        slow.set_result(0)

    asked_meanwhile: list[int] = []
    timer = threading.Timer(0.3, release)
    timer.start()
    assert sorted(run(Sluggish(set()), 500)) == [(chunk, 10 * chunk) for chunk in range(500)]
    timer.join()
    assert 8 * MOST_EARLY <= asked_meanwhile[0] <= 8 * (MOST_EARLY + 1)
