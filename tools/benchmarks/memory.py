"""What a campaign takes of memory, and what a limit costs: peak of the process and trials a second of its processor
time, with a limit and with none that matters, the same trials in both. Each campaign runs in a process of its own.

By default a ResNet-50 at 224 x 224 with random weights, quantised, and seeded noise as images.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
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


def main() -> None:
    """Print a line a campaign, or one JSON object; exit 1 where a limit was not kept or changed a result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet50", choices=sorted(NETWORKS))
    parser.add_argument("--model", type=Path, help="another file instead")
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--samplers", default="uniform,importance")
    parser.add_argument("--memory", default=f"4GB,{UNLIMITED}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("SAMPLER", "MEMORY", "DIR"), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    folder = Path(tempfile.gettempdir()) / "emulator-networks"
    model = wanted.model or quantised(wanted.network, folder)
    if wanted.one:
        print(json.dumps(campaign(model, wanted.images, wanted.trials, *wanted.one)))
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
    one = ["--one", sampler, memory, Path(room) / memory]
    command = [str(part) for part in (sys.executable, __file__, *settings, *one)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(line(found), file=sys.stderr)
    return found


def parts(directory: Path) -> dict[str, bytes]:
    """Every part file of a campaign."""
    return {path.name: path.read_bytes() for path in (directory / "trials").iterdir()}


def campaign(
    model: Path, images: int, trials: int, sampler: str, memory: str, directory: str
) -> dict[str, Any]:
    """In this process. ru_maxrss is in KiB."""
    network, array = load(model), ArraySpec.preset("gemmini-16")
    made = Campaign(
        network,
        array,
        FaultSpace(network, array),
        inputs=random_samples(network.graph, images, 0),
        sampler=sampler_named(sampler, {}),
        stop=max_trials(trials),
        memory=memory,
    )
    plan = made.memory_plan(1)
    start = time.process_time()
    made.collect(directory, workers=1)
    seconds = time.process_time() - start
    return {
        "sampler": sampler,
        "limit_bytes": plan.limit,
        "needed_bytes": plan.need,
        "image_bytes": plan.footprint.image,
        "images_kept": plan.images,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "trials_per_second": trials / seconds,
    }


def lines(report: dict[str, Any]) -> str:
    """For people."""
    text = [f"{report['model']}, {report['images']} images, on {report['machine']}"]
    text += [line(row) for row in report["campaigns"]]
    return "\n".join([*text, f"same results: {'yes' if report['same_results'] else 'NO'}"])


def line(row: dict[str, Any]) -> str:
    """Of one campaign."""
    return (
        f"{row['sampler']:>10}, limit {row['limit_bytes'] / 1e9:,.1f} GB ({row['needed_bytes'] / 1e9:.1f} needed): "
        f"peak {row['peak_bytes'] / 1e9:.2f} GB, room for {row['images_kept']} images of "
        f"{row['image_bytes'] / 1e6:.0f} MB, {row['trials_per_second']:.1f} trials/s"
    )


if __name__ == "__main__":
    main()
