"""Campaigns on a Dask cluster of this machine: two workers against one, and what one coordinator can take.

throughput: the same campaign on one and on two workers, from its first quarter to its last chunk. coordinator:
chunks of 32,000 trials that are ready, sent by --crowd workers who share one process and do nothing else, taken, stored
and counted as a campaign does; CPU seconds of the coordinating process alone, in which Dask's scheduler runs too. What
a trial costs there bounds how many workers a campaign may have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import distributed

from emulator.bundled import fashion_mnist
from emulator.campaign.chunk_task import JudgedChunk
from emulator.campaign.chunks import MOST_TRIALS
from emulator.campaign.cluster import Cluster
from emulator.campaign.executors import run_chunks
from emulator.campaign.in_order import InOrder
from emulator.campaign.inputs import Samples, load_samples
from emulator.campaign.parts import encoded_part, write_part
from emulator.campaign.runner import Campaign
from emulator.campaign.trial import run_chunk
from emulator.faults.space import FaultSpace
from emulator.graph.load import Network, load
from emulator.sampling.estimators import Tally
from emulator.sampling.importance import Importance
from emulator.sampling.past import Past, no_past
from emulator.sampling.stopping import max_trials
from emulator.sampling.uniform import Uniform
from emulator.sampling.workbench import Workbench

sys.path.insert(0, str(Path(__file__).parent))
from campaign import array, steady_rate
from engines import machine

ROUNDS = 3
REGISTERS = ["accumulator", "pe_b"]


def main() -> None:
    """Print a line a figure, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500_000, help="of throughput (default: %(default)s)")
    parser.add_argument(
        "--crowd", type=int, default=100, help="workers that only send (default: %(default)s)"
    )
    parser.add_argument("--chunks", type=int, default=600, help="of the coordinator (default: %(default)s)")
    parser.add_argument("--parts", default="throughput,coordinator")
    parser.add_argument("--join", metavar="ADDRESS", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    if wanted.join:
        asyncio.run(join(wanted.join, wanted.crowd))
        return
    bundle = fashion_mnist()
    network = load(bundle.model)
    samples = load_samples(bundle.inputs, network.graph, 100)
    report: dict[str, Any] = {"machine": machine()}
    if "throughput" in wanted.parts:
        report["throughput"] = throughput(network, samples, wanted.trials)
    if "coordinator" in wanted.parts:
        report["coordinator"] = coordinator(network, samples, wanted.crowd, wanted.chunks)
    print(json.dumps(report, indent=2) if wanted.json else lines(report))


# ---- workers


def throughput(network: Network, samples: Samples, trials: int) -> dict[str, Any]:
    """Trials a second, medians of ROUNDS, one worker and two taking turns."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(ROUNDS):
        for workers, found in rates.items():
            with (
                distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, dashboard_address=None
                ) as cluster,
                distributed.Client(cluster) as client,
            ):
                found.append(steady_rate(network, samples, REGISTERS, trials, client, turn, Importance()))
    one, two = (median(rates[workers]) for workers in (1, 2))
    return {"one": one, "two": two, "ratio": two / one}


# ---- the coordinator


@dataclass(frozen=True)
class Ready:
    """A task whose chunks are one that is done already."""

    done: JudgedChunk

    def open(self, shared: Path | None) -> Any:
        return lambda chunk, past: self.done


def coordinator(network: Network, samples: Samples, crowd: int, chunks: int) -> dict[str, Any]:
    """CPU seconds and bytes of a chunk, in the process that a campaign is run from."""
    done, past = _one_chunk(network, samples)
    in_order = InOrder(Tally(max_weight=1.0), named=False)
    with tempfile.TemporaryDirectory() as folder, _crowd(crowd) as client:
        start, cpu = time.perf_counter(), time.process_time()
        for chunk, judged in run_chunks(
            Ready(done), range(chunks), Cluster(client), lambda _: 0, lambda _: past
        ):
            write_part(Path(folder), chunk, judged.part)
            list(in_order.add(chunk, judged.summary))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert in_order.trials == chunks * MOST_TRIALS
    return {
        "workers": crowd,
        "chunks": chunks,
        "trials_a_chunk": MOST_TRIALS,
        "cpu_seconds_a_chunk": cpu / chunks,
        "chunks_per_second": chunks / seconds,
        "trials_per_second": chunks * MOST_TRIALS / seconds,
        "bytes_per_trial_stored": len(done.part) / MOST_TRIALS,
        "bytes_per_trial_sent": len(pickle.dumps(done)) / MOST_TRIALS,
    }


def _one_chunk(network: Network, samples: Samples) -> tuple[JudgedChunk, Past]:
    """MOST_TRIALS trials as a worker gives them back, and nothing to look back at."""
    space = FaultSpace(network, array(), registers=REGISTERS)
    campaign = Campaign(
        network, array(), space, inputs=samples, sampler=Uniform(), stop=max_trials(MOST_TRIALS)
    )
    bench = Workbench(network, array(), space, samples.inputs)
    columns = run_chunk(bench, Uniform(), no_past(), seed=0, chunk=0, first=0, count=MOST_TRIALS)
    part = encoded_part(0, columns, "of no campaign")
    return JudgedChunk(part=part, summary=campaign.summary(0, columns)), no_past()


@contextmanager
def _crowd(workers: int) -> Iterator[distributed.Client]:
    """A scheduler in this process, and many workers in another one."""
    with (
        distributed.LocalCluster(n_workers=0, protocol="tcp://", dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        command = [sys.executable, __file__, "--join", cluster.scheduler_address, "--crowd", str(workers)]
        process = subprocess.Popen(command)
        try:
            client.wait_for_workers(workers, timeout=120)
            yield client
        finally:
            process.kill()
            process.wait()


async def join(address: str, workers: int) -> None:
    """So many workers of one thread each, until this process is killed."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    async with AsyncExitStack() as stack:
        for _ in range(workers):
            await stack.enter_async_context(distributed.Worker(address, nthreads=1, dashboard_address=None))
        await asyncio.Event().wait()


def lines(report: dict[str, Any]) -> str:
    """For people."""
    text = []
    if "throughput" in report:
        found = report["throughput"]
        text.append(
            f"Dask, one worker {found['one']:,.0f} trials/s, two {found['two']:,.0f}: {found['ratio']:.2f} x"
        )
    if "coordinator" in report:
        found = report["coordinator"]
        text.append(
            f"coordinator, {found['workers']} workers: {1000 * found['cpu_seconds_a_chunk']:.1f} ms of CPU a chunk of "
            f"{found['trials_a_chunk']:,} trials, {found['chunks_per_second']:.0f} chunks/s here, "
            f"{found['bytes_per_trial_sent']:.0f} bytes a trial sent, {found['bytes_per_trial_stored']:.0f} stored"
        )
    return "\n".join(text)


if __name__ == "__main__":
    main()
