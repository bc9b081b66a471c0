"""The fault-free run of the emulator against ONNX Runtime's optimised int8 run of the same file, both on one core.

Medians of several rounds, taking turns. The limit holds for the networks whose files are named in LIMITED.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from emulator.graph.golden import Golden
from emulator.graph.load import load
from emulator.instructions import CHOSEN

sys.path.insert(0, str(Path(__file__).parent))
from engines import machine
from networks import NETWORKS, quantised

ROUNDS = 7
LIMIT = 3.0


def main() -> None:
    """Print the table, or JSON; exit 1 where a network is slower than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", action="append", type=Path, help="other files; by default networks of the literature"
    )
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    folder = Path(tempfile.gettempdir()) / "emulator-networks"
    files = wanted.model or [quantised(name, folder) for name in NETWORKS]
    results = [measure(file) for file in files]
    report = {
        "machine": machine(),
        "instructions": CHOSEN.name,
        "rounds": ROUNDS,
        "limit": LIMIT,
        "results": results,
    }
    print(json.dumps(report, indent=2) if wanted.json else table(report))
    sys.exit(0 if all(row["ratio"] <= LIMIT for row in results) else 1)


def measure(file: Path) -> dict[str, Any]:
    """Both runs of one network."""
    network = load(file)
    golden = Golden(network.graph)
    rng = np.random.default_rng(0)
    sample = {
        spec.name: rng.standard_normal(spec.sample_shape).astype(spec.dtype) for spec in network.graph.inputs
    }
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options)
    feeds = network.graph.feeds(sample)
    ours, theirs = taking_turns(lambda: golden.run(sample), lambda: session.run(None, feeds))
    return {
        "network": file.stem,
        "macs": network.graph.macs,
        "emulator_ms": 1e3 * ours,
        "onnxruntime_ms": 1e3 * theirs,
        "ratio": ours / theirs,
        "gmacs_per_second": network.graph.macs / ours / 1e9,
    }


def taking_turns(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of each; each round runs as often as fits in a twentieth of a second."""
    times: tuple[list[float], list[float]] = ([], [])
    for run in (ours, theirs):
        run()
    for _ in range(ROUNDS):
        for run, found in zip((ours, theirs), times, strict=True):
            count, start = 0, time.perf_counter()
            while count == 0 or time.perf_counter() - start < 0.05:
                run()
                count += 1
            found.append((time.perf_counter() - start) / count)
    return median(times[0]), median(times[1])


def table(report: dict[str, Any]) -> str:
    """The results for people."""
    heads = ("network", "MMACs", "emulator ms", "ONNX Runtime ms", "x", "GMAC/s")
    lines = [
        f"{report['machine']['cpu']}, {report['instructions']}, limit {report['limit']:g}x",
        "{:36}{:>10}{:>14}{:>18}{:>8}{:>10}".format(*heads),
    ]
    for row in report["results"]:
        times = f"{row['emulator_ms']:>14.3f}{row['onnxruntime_ms']:>18.3f}{row['ratio']:>8.2f}"
        lines += [f"{row['network']:36}{row['macs'] / 1e6:>10.1f}{times}{row['gmacs_per_second']:>10.1f}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
