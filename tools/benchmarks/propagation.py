"""Sparse propagation against ONNX Runtime running the whole network again: faults a second, by register class.

Faults are drawn over the live sites of one register in every layer, struck, and propagated on one core; drawing is in
the time. ONNX Runtime runs the same model, one thread, the two taking turns; each figure is the median of ROUNDS.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from emulator.array.presets import PRESETS
from emulator.array.spec import ArraySpec
from emulator.campaign.inputs import load_samples, random_samples
from emulator.faults.space import FaultSpace
from emulator.faults.strike import strike
from emulator.graph.golden import Golden, Inference
from emulator.graph.load import load
from emulator.propagate.delta import Stage
from emulator.propagate.propagator import Propagator
from emulator.simd import CHOSEN

sys.path.insert(0, str(Path(__file__).parent))
from engines import machine

ROUNDS = 7
IMAGES = 16
FAULTS = 1000
"""Of an image and a round."""


def main() -> None:
    """Print a line a register, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--inputs", help="an .npz as `emulator run` takes it; without it, random inputs")
    parser.add_argument("--registers", default="accumulator,pe_b,pe_a,pe_c1")
    parser.add_argument("--array", default=next(iter(PRESETS)))
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    rows = measure(wanted)
    if wanted.json:
        report = {
            "machine": machine(),
            "instructions": CHOSEN.name,
            "rounds": ROUNDS,
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "results": rows,
        }
        print(json.dumps(report, indent=2))


def measure(wanted: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a register."""
    network = load(wanted.model)
    golden = Golden(network.graph)
    if wanted.inputs:
        samples = load_samples(wanted.inputs, network.graph, IMAGES)
    else:
        samples = random_samples(network.graph, IMAGES, 0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(wanted.model, options)
    chosen = list(samples.inputs)
    images, feeds = [golden.run(sample) for sample in chosen], [network.graph.feeds(s) for s in chosen]
    array = ArraySpec.preset(wanted.array)
    rows = []
    for register in wanted.registers.split(","):
        space = FaultSpace(network, array, registers=[register])
        figures = one(golden, space, images, session, feeds)
        rows.append({"model": Path(wanted.model).stem, "register": register, **figures})
        if not wanted.json:
            print(line(rows[-1]), flush=True)
    return rows


def one(
    golden: Golden, space: FaultSpace, images: list[Inference], session: Any, feeds: list[dict[str, Any]]
) -> dict[str, Any]:
    """ROUNDS of drawing, striking and propagating, and of ONNX Runtime, taking turns."""
    propagator = Propagator(golden)
    total, alone, whole = [], [], []
    stages = np.zeros(len(Stage), np.int64)
    for turn in range(ROUNDS + 1):
        seconds = [round_of(propagator, space, images, turn, stages), ort_seconds(session, feeds)]
        if turn > 0:  # the first turn compiles
            total.append(seconds[0][0])
            alone.append(seconds[0][1])
            whole.append(seconds[1])
    faults = FAULTS * len(images)
    ours, theirs = faults / median(total), len(feeds) / median(whole)
    return {
        "faults_per_second": ours,
        "propagated_per_second": faults / median(alone),
        "ort_images_per_second": theirs,
        "ratio_to_ort": ours / theirs,
        "ratio_of_propagation_to_ort": faults / median(alone) / theirs,
        "masked": {stage.name.lower(): stages[stage] / stages.sum() for stage in Stage if stages[stage]},
    }


def round_of(
    propagator: Propagator, space: FaultSpace, images: list[Inference], seed: int, stages: Any
) -> tuple[float, float]:
    """FAULTS new faults on each image: seconds in all, and in propagation alone."""
    alone, start = 0.0, time.perf_counter()
    for number, image in enumerate(images):
        faults = space.draw(np.random.default_rng((seed, number)), FAULTS)
        strikes = strike(propagator.golden, image, space.array, faults)
        before = time.perf_counter()
        effects = propagator.run(image, faults.layer, strikes.errors)
        alone += time.perf_counter() - before
        stages += np.bincount(effects.stage, minlength=len(stages))
    return time.perf_counter() - start, alone


def ort_seconds(session: Any, feeds: list[dict[str, Any]]) -> float:
    """Every image once, one at a time."""
    start = time.perf_counter()
    for feed in feeds:
        session.run(None, feed)
    return time.perf_counter() - start


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    masked = " ".join(f"{name} {share:.2f}" for name, share in row["masked"].items())
    return (
        f"{row['register']:12} {row['faults_per_second']:9.0f} faults/s (propagation alone "
        f"{row['propagated_per_second']:.0f}), {row['ratio_to_ort']:.2f} x ORT "
        f"({row['ort_images_per_second']:.0f} images/s) [{CHOSEN.name}] {masked}"
    )


if __name__ == "__main__":
    main()
