"""What a campaign takes of memory, and what a limit costs: its peak and trials a second, with a limit and with none
that matters, the same trials in both. Each campaign runs in a process of its own.

The peak of one process is the system's (ru_maxrss), and its time that of the processor. With --workers the peak is the
largest sum over all processes, of what each has for itself and its share of what they have in common (PSS), looked at
every tenth of a second: a shorter peak may be missed. Their time is that of the clock.

By default a ResNet-50 at 224 x 224 with random weights, quantised, and seeded noise as images.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from engines import machine
from networks import NETWORKS, quantised

from emulator.array.spec import ArraySpec
from emulator.campaign.inputs import random_samples
from emulator.campaign.runner import Campaign
from emulator.faults.space import FaultSpace
from emulator.graph.load import load
from emulator.sampling.registry import sampler_named
from emulator.sampling.stopping import max_trials

UNLIMITED = "1TB"
SECONDS_BETWEEN_LOOKS = 0.1


def main() -> None:
    """Print a line a campaign, or one JSON object; exit 1 where a limit was not kept or changed a result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet50", choices=sorted(NETWORKS))
    parser.add_argument("--model", type=Path, help="another file instead")
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--samplers", default="uniform,importance")
    parser.add_argument("--memory", default=f"4GB,{UNLIMITED}")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("SAMPLER", "MEMORY", "DIR"), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    folder = Path(tempfile.gettempdir()) / "emulator-networks"
    model = wanted.model or quantised(wanted.network, folder)
    if wanted.one:
        print(json.dumps(campaign(model, wanted, *wanted.one)))
        return
    rows, same = [], True
    for sampler in wanted.samplers.split(","):
        with tempfile.TemporaryDirectory() as room:
            found = [apart(wanted, model, sampler, memory, room) for memory in wanted.memory.split(",")]
            trials = [parts(Path(room) / memory) for memory in wanted.memory.split(",")]
        rows += found
        same = same and all(each == trials[0] for each in trials)
    report = {"machine": machine(), "model": model.stem, "images": wanted.images, "campaigns": rows}
    report["same_results"] = same
    print(json.dumps(report, indent=2) if wanted.json else lines(report))
    sys.exit(not same or any(row["peak_bytes"] > row["limit_bytes"] for row in rows))


def apart(wanted: argparse.Namespace, model: Path, sampler: str, memory: str, room: str) -> dict[str, Any]:
    """One campaign in another process."""
    settings = ["--model", model, "--images", wanted.images, "--trials", wanted.trials]
    settings += ["--workers", wanted.workers]
    one = ["--one", sampler, memory, Path(room) / memory]
    command = [str(part) for part in (sys.executable, __file__, *settings, *one)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(line(found), file=sys.stderr)
    return found


def parts(directory: Path) -> dict[str, bytes]:
    """Every part file of a campaign."""
    return {path.name: path.read_bytes() for path in (directory / "trials").iterdir()}


def campaign(
    model: Path, wanted: argparse.Namespace, sampler: str, memory: str, directory: str
) -> dict[str, Any]:
    """In this process, and its workers."""
    network, array = load(model), ArraySpec.preset("gemmini-16")
    made = Campaign(
        network,
        array,
        FaultSpace(network, array),
        inputs=random_samples(network.graph, wanted.images, 0),
        sampler=sampler_named(sampler, {}),
        stop=max_trials(wanted.trials),
        memory=memory,
    )
    plan = made.memory_plan(wanted.workers)
    alone = wanted.workers == 1
    clock = time.process_time if alone else time.perf_counter
    with watched() as peak:
        start = clock()
        made.collect(directory, workers=wanted.workers)
        seconds = clock() - start
    return {
        "sampler": sampler,
        "workers": wanted.workers,
        "limit_bytes": plan.limit,
        "needed_bytes": plan.need,
        "image_bytes": plan.footprint.image,
        "images_kept": plan.images,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if alone else max(peak),
        "trials_per_second": wanted.trials / seconds,
    }


@contextmanager
def watched() -> Iterator[list[int]]:
    """What this process and its children have, in bytes, again and again until the end."""
    found, end = [0], threading.Event()

    def watch() -> None:
        while not end.wait(SECONDS_BETWEEN_LOOKS):
            found.append(sum(map(proportional_bytes, [os.getpid(), *children(os.getpid())])))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        end.set()
        watcher.join()


def children(parent: int) -> list[int]:
    """And theirs."""
    direct: list[int] = []
    for listed in Path(f"/proc/{parent}/task").glob("*/children"):
        with suppress(OSError):
            direct += map(int, listed.read_text().split())
    return [*direct, *(one for child in direct for one in children(child))]


def proportional_bytes(process: int) -> int:
    """Its own memory and its share of what it has in common with others (PSS, in KiB there); 0 once it has ended."""
    with suppress(OSError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0


def lines(report: dict[str, Any]) -> str:
    """For people."""
    text = [f"{report['model']}, {report['images']} images, on {report['machine']}"]
    text += [line(row) for row in report["campaigns"]]
    return "\n".join([*text, f"same results: {'yes' if report['same_results'] else 'NO'}"])


def line(row: dict[str, Any]) -> str:
    """Of one campaign."""
    processes = "1 process" if row["workers"] == 1 else f"{row['workers']} workers"
    limit, needed = row["limit_bytes"] / 1e9, row["needed_bytes"] / 1e9
    return (
        f"{row['sampler']:>10}, {processes}, limit {limit:,.1f} GB ({needed:.1f} needed): "
        f"peak {row['peak_bytes'] / 1e9:.2f} GB, room for {row['images_kept']} images of "
        f"{row['image_bytes'] / 1e6:.0f} MB, {row['trials_per_second']:.1f} trials/s"
    )


if __name__ == "__main__":
    main()
