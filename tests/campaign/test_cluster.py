"""Campaigns on a Dask cluster: the same files as alone, whatever becomes of its workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest

from emulator.campaign.cluster import Cluster
from emulator.campaign.config import make_config
from emulator.campaign.executors import run_chunks
from emulator.campaign.roster import Roster, unlike
from emulator.campaign.runner import Campaign
from emulator.errors import BadConfig, EmulatorError
from emulator.faults.space import FaultSpace
from emulator.sampling.importance import Importance
from emulator.sampling.past import Past, no_past
from emulator.sampling.stopping import max_trials

TRIALS = 9000


def campaign(digits: Any, trials: int = TRIALS, **given: Any) -> Campaign:
    space = FaultSpace(digits.network, digits.array, registers=["pe_b", "accumulator"])
    stop = max_trials(trials)
    return Campaign(
        digits.network, digits.array, space, inputs=digits.inputs[:20], stop=stop, seed=3, **given
    )


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (directory / "trials").iterdir()}


@contextmanager
def scheduler() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """In a process of its own, without workers; and its address."""
    with started("scheduler", "--port", "0", "--no-dashboard") as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "Scheduler at:" in line)
        drain(process)
        yield process, line.split("tcp://")[1].strip()


def drain(process: subprocess.Popen[str]) -> None:
    """Nobody else reads what it says, and a full pipe would stop it."""
    assert process.stderr is not None
    threading.Thread(target=process.stderr.read, daemon=True).start()


@contextmanager
def started(what: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """With all that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def worker(stack: ExitStack, address: str, *options: str) -> subprocess.Popen[str]:
    fixed = ("--nthreads", "1", "--no-dashboard", "--no-nanny")
    found = stack.enter_context(started("worker", address, *fixed, *options))
    drain(found)
    return found


def test_a_cluster_finds_the_same(digits: Any, tmp_path: Path) -> None:
    alone = campaign(digits).collect(tmp_path / "alone", workers=1)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = campaign(digits).collect(tmp_path / "dask", workers=client)
    assert files(tmp_path / "alone") == files(tmp_path / "dask")
    assert alone.rate() == found.rate()


@pytest.mark.slow
def test_workers_die_and_join(digits: Any, tmp_path: Path) -> None:
    """Of three workers one is killed while it works, and another one joins."""
    seen: list[int] = []
    with ExitStack() as stack:
        _, address = stack.enter_context(scheduler())
        workers = [worker(stack, address) for _ in range(3)]
        with distributed.Client(f"tcp://{address}") as client:
            client.wait_for_workers(3)

        def progress(state: Any) -> None:
            seen.append(state.trials)
            if len(seen) == 3:
                kill(workers[0])
                workers.append(worker(stack, address))
                with distributed.Client(f"tcp://{address}") as client:
                    client.wait_for_workers(3)

        campaign(digits).collect(tmp_path / "dask", workers=f"dask://{address}", progress=progress)
    campaign(digits).collect(tmp_path / "alone", workers=1)
    assert files(tmp_path / "alone") == files(tmp_path / "dask")
    assert seen == sorted(set(seen)) and seen[-1] == TRIALS


# What a worker imports first: it has another numpy to all appearances, and would find something else.
OLDER = """
from importlib.metadata import version
from emulator.campaign import chunk_task, versions
chunk_task.encoded_part = lambda *_: b"wrong"
versions.version = lambda name: "1.0" if name == "numpy" else version(name)
"""


@pytest.mark.parametrize("late", [False, True], ids=["from the start", "later"])
def test_a_worker_of_another_version_is_sent_away_and_the_others_go_on(
    digits: Any, tmp_path: Path, late: bool
) -> None:
    (tmp_path / "older.py").write_text(OLDER)
    campaign(digits).collect(tmp_path / "alone", workers=1)
    with ExitStack() as stack:
        _, address = stack.enter_context(scheduler())
        client = stack.enter_context(distributed.Client(f"tcp://{address}"))
        worker(stack, address)

        def join(_: Any = None) -> None:
            if not joined:
                joined.append(worker(stack, address, "--preload", str(tmp_path / "older.py")))
                client.wait_for_workers(2)

        joined: list[Any] = []
        if not late:
            join()
        with pytest.warns(
            UserWarning, match=r"worker tcp://\S+ has numpy 1\.0 \(the campaign \d\S+\): it might"
        ):
            campaign(digits).collect(tmp_path / "dask", workers=client, progress=join)
        assert len(client.nthreads()) == 1
    assert files(tmp_path / "alone") == files(tmp_path / "dask")


def test_a_chunk_that_comes_to_a_worker_of_another_version_is_judged_elsewhere(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has just joined may be given chunks before it is seen; here it is seen late."""
    (tmp_path / "older.py").write_text(OLDER)
    campaign(digits).collect(tmp_path / "alone", workers=1)
    seeing, looks = Roster.present, iter(range(4))

    def late(roster: Roster) -> int:
        return seeing(roster) if next(looks, None) is None else 2

    monkeypatch.setattr(Roster, "present", late)
    with ExitStack() as stack:
        _, address = stack.enter_context(scheduler())
        client = stack.enter_context(distributed.Client(f"tcp://{address}"))
        worker(stack, address)
        worker(stack, address, "--preload", str(tmp_path / "older.py"))
        client.wait_for_workers(2)
        with pytest.warns(UserWarning, match="is ended"):
            campaign(digits).collect(tmp_path / "dask", workers=client)
    assert files(tmp_path / "alone") == files(tmp_path / "dask")


def test_only_what_differs_is_told() -> None:
    here = {"emulator": "1", "numpy": "2", "python": "3"}
    assert unlike({**here}, here) == ""
    assert unlike({**here, "numpy": "1"}, here) == "has numpy 1 (the campaign 2)"
    assert unlike({"emulator": "1", "numpy": "2"}, here) == "has python absent (the campaign 3)"
    assert unlike(ModuleNotFoundError("No module named 'emulator'"), here) == (
        "can't say what it has (No module named 'emulator')"
    )


def test_a_worker_that_leaves_takes_nothing_with_it(digits: Any, tmp_path: Path) -> None:
    """Both workers are in this process."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        gone: list[str] = []

        def progress(state: Any) -> None:
            if not gone:
                gone.append(next(iter(client.nthreads())))
                client.retire_workers(gone)

        with pytest.warns(UserWarning, match="left; chunks that it had not finished") as told:
            found = campaign(digits).collect(tmp_path, workers=client, progress=progress)
        assert [str(one.message).split()[1] for one in told if "left" in str(one.message)] == gone
        assert len(found) == TRIALS and len(client.nthreads()) == 1


class Sick:
    """A task whose second chunk fails, in its own way."""

    def open(self, shared: Path | None) -> Any:
        def work(chunk: int, past: Past) -> int:
            if chunk == 1:
                raise OSError("the task's own")
            return chunk

        return work


class Unfit:
    """A task that no worker can take."""

    def __reduce__(self) -> Any:
        return exec, ("raise ModuleNotFoundError('no emulator')",)


def test_errors_are_told_for_what_they_are(digits: Any) -> None:
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        kept = []
        with pytest.raises(OSError, match="the task's own"):
            kept += run_chunks(Sick(), range(3), Cluster(client), lambda _: 0, lambda _: no_past())
        with pytest.raises(EmulatorError, match="does not take the task"):
            list(run_chunks(Unfit(), range(3), Cluster(client), lambda _: 0, lambda _: no_past()))  # type: ignore[arg-type]
        # Neither task is left on the scheduler.
        assert not [name for name in cluster.scheduler.worker_plugins if name.startswith("emulator")]
    with pytest.raises(BadConfig, match="a client that is open"):
        Cluster(client)


@pytest.mark.slow
def test_a_sampler_that_learns_finds_the_same(digits: Any, tmp_path: Path) -> None:
    learning = Importance(learn=True)
    campaign(digits, sampler=learning).collect(tmp_path / "alone", workers=1)
    campaign(digits, sampler=learning).collect(tmp_path / "dask", workers="dask-local")
    assert files(tmp_path / "alone") == files(tmp_path / "dask")


@pytest.mark.slow
def test_a_scheduler_that_dies_loses_nothing(digits: Any, tmp_path: Path) -> None:
    with ExitStack() as stack:
        process, found = stack.enter_context(scheduler())
        worker(stack, found)

        def progress(state: Any) -> None:
            kill(process)

        with pytest.raises(EmulatorError, match="a rerun resumes"):
            campaign(digits).collect(tmp_path / "dask", workers=f"dask://{found}", progress=progress)
    kept = files(tmp_path / "dask")
    assert kept
    campaign(digits).collect(tmp_path / "dask", workers=1)
    campaign(digits).collect(tmp_path / "alone", workers=1)
    assert files(tmp_path / "alone") == files(tmp_path / "dask")
    assert kept.items() <= files(tmp_path / "dask").items()


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ("dask", "allowed: 'auto', a number from 1, dask://HOST:PORT or dask-local"),
        ("dask://", r"did you mean 'dask://HOST:PORT'\?\); allowed"),
        ("dask://localhost", "allowed: 'auto'"),
        ("dask:localhost:8786", "allowed: 'auto'"),
        ("dask-lcoal", r"workers='dask-lcoal' \(did you mean 'dask-local'\?\)"),
        ("dask://localhost:1", "no scheduler there"),
        ("many", "allowed: 'auto', a number from 1"),
        (0, "allowed: 'auto'"),
        (object(), "of type object"),
    ],
)
def test_workers_that_are_none(digits: Any, tmp_path: Path, workers: Any, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(BadConfig, match=message):
        campaign(digits).collect(tmp_path / "none", workers=workers)
    assert time.monotonic() - started < 60
    assert not (tmp_path / "none").exists()


def test_a_misspelt_word_is_told_before_anything_is_read(tmp_path: Path) -> None:
    config = make_config({"model": "absent.onnx", "inputs": "absent.npz", "workers": "dask-lcoal"}, "test")
    with pytest.raises(BadConfig, match="did you mean 'dask-local'"):
        config.campaign()


class Weighing:
    """A task that tells how much each chunk is told."""

    def open(self, shared: Path | None) -> Any:
        return lambda chunk, past: len(past.weight)


def test_what_is_known_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty chunks that look back at the same trials, over TCP."""
    past = replace(no_past(), weight=np.ones(50_000))
    sent: list[int] = []
    state = Past.__getstate__

    def counted(past: Past) -> Any:
        sent.append(len(past.weight))
        return state(past)

    monkeypatch.setattr(Past, "__getstate__", counted)
    with (
        distributed.LocalCluster(
            n_workers=1, processes=False, protocol="tcp", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = run_chunks(Weighing(), range(20), Cluster(client), lambda _: 0, lambda _: past)
        assert sorted(found) == [(chunk, 50_000) for chunk in range(20)]
    # Dask writes a task down twice.
    assert 1 <= len(sent) <= 2


def test_a_scheduler_without_workers_is_told_and_waited_for() -> None:
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        later = threading.Timer(0.5, cluster.scale, (1,))
        later.start()
        with pytest.warns(UserWarning, match="the scheduler has no workers: waiting for one"):
            found = list(run_chunks(Weighing(), range(2), Cluster(client), lambda _: 0, lambda _: no_past()))
        later.join()
    assert sorted(found) == [(0, 0), (1, 0)]
