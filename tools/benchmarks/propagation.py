"""Sparse propagation against ONNX Runtime running the whole network again: faults a second, by population.

`sum-32` and `sum-20` flip one bit of a sum of that width: the layer drawn by its MACs, element and bit uniform, no
array in the way. `weight` flips one bit of a weight for all rows of its layer, `weight-64` for 64 of them, in a unit
that takes the zero point off the activations first, so that zeros stay zeros. Other populations are registers, drawn
over their live sites in every layer and struck. Drawing is in the time. ONNX Runtime runs the same model, one thread,
the two taking turns; each figure is the median of ROUNDS.

--peers: PyTorchFI and MRFI on a ResNet-20 for CIFAR-10 in float32 (peers.py), in the same minutes, before us and after
us, the network as people have it and tuned for PyTorch. They flip one output of a convolution in each image and run all
of the network again. For a ResNet-20 of ours only.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from emulator.array.bits import wrap_words
from emulator.array.presets import PRESETS
from emulator.array.spec import ArraySpec
from emulator.bundled import fashion_mnist
from emulator.campaign.inputs import load_samples, random_samples
from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.faults.strike import operands
from emulator.faults.strikes import LayerErrors
from emulator.graph.golden import Golden, Inference
from emulator.graph.load import Network, load
from emulator.propagate.classes import Classes
from emulator.propagate.delta import flow, write
from emulator.propagate.propagator import Propagator
from emulator.propagate.scratch import restore
from emulator.propagate.stage import Stage
from emulator.simd import CHOSEN

sys.path.insert(0, str(Path(__file__).parent))
from engines import machine

ROUNDS = 7
FOLLOWED = 200
"""Faults of which the changed MACs are counted."""
WIDTHS = {"sum-32": 32, "sum-20": 20}
ROWS = {"weight": 1 << 30, "weight-64": 64}
AGAINST_PEERS = ("sum-32", "accumulator")
PEERS_PYTHON = Path(__file__).parents[2] / ".venv-peers/bin/python"

Draw = Callable[[Inference, np.random.Generator, int], tuple[npt.NDArray[np.int64], LayerErrors]]
"""So many faults of an image: the layer of each, and its errors."""


def main() -> None:
    """Print a line a population, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="by default the bundled CNN with its images")
    parser.add_argument("--inputs", help="an .npz as `emulator run` takes it; by default random inputs")
    parser.add_argument("--populations", default="sum-32,sum-20,accumulator,pe_a,pe_b")
    parser.add_argument("--array", default=next(iter(PRESETS)))
    parser.add_argument("--images", type=int, default=16, help="(default: %(default)s)")
    parser.add_argument(
        "--faults", type=int, default=1000, help="of an image and a round (default: %(default)s)"
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="PyTorchFI and MRFI too; only with a ResNet-20 for CIFAR-10 as --model",
    )
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    if wanted.peers and not wanted.model:
        parser.error("--peers without --model; the peers run a ResNet-20 for CIFAR-10, so name one")
    if wanted.peers and not PEERS_PYTHON.exists():
        parser.error(f"--peers: no {PEERS_PYTHON}; tools/install_peers makes it")
    before = run_peers() if wanted.peers else []
    rows = measure(wanted)
    after = run_peers() if wanted.peers else []
    peers = [against_peers(rows, list(reports)) for reports in zip(before, after, strict=True)]
    if peers and not wanted.json:
        print("\n".join(map(peer_lines, peers)))
    if wanted.json:
        report = {
            "machine": machine(),
            "instructions": CHOSEN.name,
            "rounds": ROUNDS,
            "results": rows,
            "peers": peers,
        }
        print(json.dumps(report, indent=2))


def measure(wanted: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a population."""
    bundle = fashion_mnist()
    model, inputs = (wanted.model, wanted.inputs) if wanted.model else (bundle.model, bundle.inputs)
    start = time.perf_counter()
    network = load(model)
    golden = Golden(network.graph)
    graph = network.graph
    count = wanted.images
    samples = load_samples(inputs, graph, count) if inputs else random_samples(graph, count, 0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options)
    chosen = list(samples.inputs)
    golden.run(chosen[0])
    loaded = time.perf_counter() - start
    start = time.perf_counter()
    images, feeds = [golden.run(sample) for sample in chosen], [graph.feeds(sample) for sample in chosen]
    once = {
        "model": model.stem,
        "macs": graph.macs,
        "load_and_compile_seconds": loaded,
        "golden_seconds_per_image": (time.perf_counter() - start) / len(chosen),
    }
    rows = []
    for population in wanted.populations.split(","):
        draw = drawing(population, network, golden, ArraySpec.preset(wanted.array))
        figures = one(golden, draw, images, session, feeds, wanted.faults)
        rows.append({**once, "population": population, **figures, "peak_memory_mib": peak_memory()})
        if not wanted.json:
            print(line(rows[-1]), flush=True)
    return rows


def drawing(population: str, network: Network, golden: Golden, array: ArraySpec) -> Draw:
    """How faults of a population are drawn."""
    if population in ROWS:
        return partial(draw_weights, golden, ROWS[population])
    if population in WIDTHS:
        return partial(draw_sums, golden, WIDTHS[population])
    space = FaultSpace(network, array, registers=[population])
    return partial(draw_sites, golden, space)


def draw_sums(
    golden: Golden, width: int, image: Inference, rng: np.random.Generator, count: int
) -> tuple[npt.NDArray[np.int64], LayerErrors]:
    """One bit of the sums of `width` bits of the layers that kernels run."""
    layers = golden.graph.layers
    columns = np.array([layer.columns for layer in layers])
    rows = np.array([layer.shape.m for layer in layers])
    layer = rng.choice(len(layers), count, p=shares(golden))
    m, n = rng.integers(rows[layer]), rng.integers(columns[layer])
    bit = rng.integers(width, size=count)
    sums = image.accumulators[golden.program.acc_start[layer] + m * columns[layer] + n].astype(np.int64)
    words = wrap_words(sums, width)
    delta = wrap_words(words ^ (1 << bit), width) - words
    words = (column.astype(np.int32) for column in (m, n, delta))
    return layer, LayerErrors(np.arange(count + 1), *words, *[np.zeros(count, np.bool_)] * 2)


def draw_weights(
    golden: Golden, rows: int, image: Inference, rng: np.random.Generator, count: int
) -> tuple[npt.NDArray[np.int64], LayerErrors]:
    """One bit of one weight, wrong for at most so many rows in a row."""
    layer = np.sort(rng.choice(len(golden.graph.layers), count, p=shares(golden)))
    parts = []
    for which, struck in zip(*np.unique(layer, return_counts=True), strict=True):
        mac = golden.graph.layers[which]
        shape, weight = mac.shape, mac.weight
        group, k, n, bit = (rng.integers(size, size=struck) for size in (shape.groups, shape.k, shape.n, 8))
        before = weight[group, k, n]
        change = (before ^ (1 << bit).astype(np.int8)).astype(np.int64) - before
        m = rows * rng.integers(max(1, shape.m // rows), size=struck)[:, np.newaxis] + np.arange(
            min(rows, shape.m)
        )
        act = operands(golden, image, which).act[group[:, np.newaxis], m, k[:, np.newaxis]]
        delta = (act.astype(np.int64) - mac.zero_point) * change[:, np.newaxis]
        fault, at = np.nonzero(delta)
        sizes = np.bincount(fault, minlength=struck)
        parts.append((sizes, m[fault, at], (group * shape.n + n)[fault], delta[fault, at]))
    sizes, *words = (np.concatenate(part) for part in zip(*parts, strict=True))
    ptr = np.concatenate(([0], np.cumsum(sizes)))
    return layer, LayerErrors(ptr, *(w.astype(np.int32) for w in words), *[np.zeros(count, np.bool_)] * 2)


def shares(golden: Golden) -> npt.NDArray[np.float64]:
    """How often each layer is struck: by its MACs, if kernels run it."""
    macs = np.array([mac.shape.macs if mac.compiled else 0 for mac in golden.graph.layers], np.float64)
    return macs / macs.sum()


def draw_sites(
    golden: Golden, space: FaultSpace, image: Inference, rng: np.random.Generator, count: int
) -> tuple[npt.NDArray[np.int64], LayerErrors]:
    """Live sites of a register."""
    faults = space.draw(rng, count)
    return faults.layer, strike(golden, image, space.array, faults).errors


def one(
    golden: Golden,
    draw: Draw,
    images: list[Inference],
    session: Any,
    feeds: list[dict[str, Any]],
    count: int,
) -> dict[str, Any]:
    """ROUNDS of drawing, striking and propagating, and of ONNX Runtime, taking turns."""
    propagator = Propagator(golden)
    total, alone, whole = [], [], []
    stages = np.zeros(len(Stage), np.int64)
    for turn in range(ROUNDS + 1):
        seconds = [round_of(propagator, draw, images, turn, stages, count), ort_seconds(session, feeds)]
        if turn > 0:  # the first turn compiles
            total.append(seconds[0][0])
            alone.append(seconds[0][1])
            whole.append(seconds[1])
    faults = count * len(images)
    ours, theirs = faults / median(total), len(feeds) / median(whole)
    return {
        "faults_per_second": ours,
        "propagated_per_second": faults / median(alone),
        "ort_images_per_second": theirs,
        "ratio_to_ort": ours / theirs,
        "ratio_of_propagation_to_ort": faults / median(alone) / theirs,
        "changed_macs_per_fault": changed_macs(propagator, draw, images[0]),
        "masked": {stage.name.lower(): stages[stage] / stages.sum() for stage in Stage if stages[stage]},
    }


def round_of(
    propagator: Propagator, draw: Draw, images: list[Inference], seed: int, stages: Any, count: int
) -> tuple[float, float]:
    """`count` new faults on each image: seconds in all, and in propagation alone."""
    alone, start = 0.0, time.perf_counter()
    for number, image in enumerate(images):
        layer, errors = draw(image, np.random.default_rng((seed, number)), count)
        before = time.perf_counter()
        effects = propagator.run(image, layer, errors)
        alone += time.perf_counter() - before
        stages += np.bincount(effects.stage, minlength=len(stages))
    return time.perf_counter() - start, alone


def changed_macs(propagator: Propagator, draw: Draw, image: Inference) -> float:
    """Products with a changed value in layers behind the struck one, of a fault, the mean of FOLLOWED."""
    golden, scratch = propagator.golden, propagator.scratch
    program = golden.program
    classes = Classes(program, image)
    classes.add(*draw(image, np.random.default_rng(1), FOLLOWED))
    changes, total = classes.changes, 0
    scratch.current[:] = image.values
    for c in range(len(classes)):
        write(program, scratch, image.values, changes, c)
        flow(program, scratch, image.values, image.accumulators, changes.op[c] + 1, len(program.ops))
        differs = scratch.current != image.values
        for layer in golden.graph.layers:
            if layer.taps is not None and isinstance(layer.source, int):
                start, end = program.tensor_start[layer.source : layer.source + 2]
                pixels = differs[start:end].reshape(-1, layer.channels).sum(axis=1)
                read = np.where(layer.taps >= 0, pixels[layer.taps], 0).sum()
                total += int(read) * layer.shape.n * classes.sizes[c]
        restore(program, scratch, image.values)
    return total / FOLLOWED


def peak_memory() -> float:
    """Of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ort_seconds(session: Any, feeds: list[dict[str, Any]]) -> float:
    """Every image once, one at a time."""
    start = time.perf_counter()
    for feed in feeds:
        session.run(None, feed)
    return time.perf_counter() - start


def run_peers() -> list[dict[str, Any]]:
    """The reports of peers.py, in its own environment: as people have the network, and tuned."""
    command = [PEERS_PYTHON, Path(__file__).with_name("peers.py")]
    runs = ([*command, *flags] for flags in ([], ["--tuned"]))
    return [json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout) for run in runs]


def against_peers(rows: list[dict[str, Any]], reports: list[dict[str, Any]]) -> dict[str, Any]:
    """The peers' injections a second over all reports, and how many times that our median is: as many as the best
    median of any peer and batch, as many as the best round of any."""
    rates: dict[tuple[str, int], list[float]] = {}
    for found in (result for report in reports for result in report["results"]):
        rates.setdefault((found["peer"], found["batch"]), []).extend(found["rates"])
    results: list[dict[str, Any]] = [
        {"peer": peer, "batch": batch, "median": median(found), "best": max(found), "rounds": len(found)}
        for (peer, batch), found in rates.items()
    ]
    best = {figure: max(row[figure] for row in results) for figure in ("median", "best") if results}
    return {
        "versions": reports[0]["versions"],
        "tuned": reports[0]["tuned"],
        "results": results,
        "unavailable": {gone["peer"]: gone["reason"] for report in reports for gone in report["unavailable"]},
        "ratios": {
            row["population"]: {figure: row["faults_per_second"] / rate for figure, rate in best.items()}
            for row in rows
            if row["population"] in AGAINST_PEERS and best
        },
    }


def peer_lines(peers: dict[str, Any]) -> str:
    """The peers for people."""
    versions = ", ".join(f"{name} {version}" for name, version in peers["versions"].items())
    lines = [f"{versions}; the network {'tuned for PyTorch' if peers['tuned'] else 'as people have it'}"]
    for row in peers["results"]:
        rates = f"{row['median']:6.0f} injections/s, best of {row['rounds']} {row['best']:.0f}"
        lines.append(f"{row['peer']:32} batch {row['batch']:2} {rates}")
    lines += [f"{peer:32} unavailable: {reason}" for peer, reason in peers["unavailable"].items()]
    for population, ratio in peers["ratios"].items():
        figures = f"{ratio['median']:.1f} x the best peer's median, {ratio['best']:.1f} x the best round"
        lines.append(f"{population:12} {figures}")
    return "\n".join(lines)


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    masked = " ".join(f"{name} {share:.2f}" for name, share in row["masked"].items())
    return (
        f"{row['population']:12} {row['faults_per_second']:9.0f} faults/s (propagation alone "
        f"{row['propagated_per_second']:.0f}), {row['ratio_to_ort']:.2f} x ORT "
        f"({row['ort_images_per_second']:.0f} images/s) [{CHOSEN.name}] {masked}; "
        f"{row['changed_macs_per_fault']:.3g} of {row['macs']:.3g} MACs changed; "
        f"golden {1e3 * row['golden_seconds_per_image']:.2f} ms, {row['peak_memory_mib']:.0f} MiB"
    )


if __name__ == "__main__":
    main()
