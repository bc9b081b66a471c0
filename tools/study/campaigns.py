"""What every sampler brings a trial and a second, in whole campaigns on the images of exhaustive tables.

    .venv/bin/python tools/study/campaigns.py TABLES MODEL --inputs X.npz --register accumulator [--trials 100000]

One JSON object. Critical: SDC-1 that is no tie. The truth is that of the tables. Seconds are those of drawing,
striking, following and judging in this process, golden runs and Jacobians included; before the first measured campaign
each sampler draws once, so that nothing is compiled in between, and samplers take turns. Baselines, and what goes
through all sites and hardly differs from seed to seed, run FEW times.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from labels import label
from tables import read_tables

from emulator.array.spec import ArraySpec
from emulator.campaign.chunks import DrawnChunks
from emulator.campaign.inputs import load_samples
from emulator.campaign.looking_back import past_of
from emulator.campaign.trial import Columns, count_chunk, run_chunk
from emulator.faults.space import FaultSpace
from emulator.graph.load import load
from emulator.sampling.adaptive import Adaptive
from emulator.sampling.baselines import BitOnly, Gradient, ISimDL, ProgressiveBitSearch
from emulator.sampling.counted import Counted, count_chunks, sites_of_chunk
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.horvitz_thompson import HorvitzThompson
from emulator.sampling.importance import Importance
from emulator.sampling.past import no_past
from emulator.sampling.sampler import Sampler
from emulator.sampling.stratified import Stratified
from emulator.sampling.sweep import Sweep
from emulator.sampling.uniform import Uniform
from emulator.sampling.workbench import Workbench

FIRST = 100
"""Critical faults to find."""
FEW = 2


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tables", type=Path, help="a directory that tools/ground_truth wrote")
    parser.add_argument("model", type=Path)
    parser.add_argument("--inputs", required=True)
    parser.add_argument("--register", required=True)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=10)
    wanted = parser.parse_args()
    tables = read_tables(wanted.tables)
    chosen, code = tables.some("random"), tables.register(wanted.register)
    critical = sum(t.columns["class_sites"][t.critical, code].sum() for t in chosen)
    truth = float(critical / sum(t.columns["class_sites"][:, code].sum() for t in chosen))
    network, array = load(wanted.model), ArraySpec.preset("gemmini-16")
    inputs = load_samples(wanted.inputs, network.graph, None).inputs
    images = [inputs[table.image] for table in chosen]
    space = FaultSpace(network, array, registers=[wanted.register])
    samplers: tuple[Sampler, ...] = (Uniform(), Stratified(), Adaptive(), Importance())
    others: tuple[Sampler | Counted, ...] = (
        Importance(learn=True),
        Sweep(trials=wanted.trials),
        BitOnly(),
        ISimDL(),
        Gradient(),
        ProgressiveBitSearch(),
    )
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in range(-1, wanted.seeds):
        for sampler in samplers + others if seed < FEW else samplers:
            if seed < 0 and not isinstance(sampler, Sampler):
                continue
            # A workbench of its own: golden runs and Jacobians belong to the cost of whoever needs them.
            bench = Workbench(network, array, space, images)
            trials = wanted.trials if seed >= 0 else 2000
            found = run(bench, sampler, seed + 1, trials, truth)
            if seed >= 0:
                runs.setdefault(label(sampler), []).append(found)
    figures = {name: summed(found, truth) for name, found in runs.items()}
    uniform = figures[label(Uniform())]
    for found in figures.values():
        a_second = uniform["seconds"] * found["trials"] / (uniform["trials"] * found["seconds"])
        found["reduction_a_second"] = found["reduction_a_trial"] * a_second
    about = {"model": wanted.model.name, "register": wanted.register, "images": [t.image for t in chosen]}
    print(json.dumps({**about, "trials": wanted.trials, "truth": truth, "samplers": figures}, indent=1))


def run(bench: Workbench, sampler: Sampler | Counted, seed: int, trials: int, truth: float) -> dict[str, Any]:
    """One campaign: its estimate, its time, and when it had FIRST distinct critical faults."""
    start = time.perf_counter()
    parts: list[Columns] = []
    seen: set[str] = set()
    first = None
    chunks = drawn(bench, sampler, seed, trials, parts) if isinstance(sampler, Sampler) else None
    for columns in chunks or counted(bench, sampler, seed, parts):
        seen.update(columns["fault_id"][critical_of(columns)].tolist())
        if first is None and len(seen) >= FIRST:
            first = time.perf_counter() - start
    seconds = time.perf_counter() - start
    estimate = estimate_of(bench, sampler, parts)
    trials = sum(len(part["sdc1"]) for part in parts)
    uniform = truth * (1 - truth)
    # Of a sampler that counts, the variance is that of its estimate, room for what nobody saw included.
    variance = variance_of_a_draw(parts, truth) if chunks else uniform * trials / estimate.ess
    return {
        "seconds": seconds,
        "trials": trials,
        "first": first,
        "critical": len(seen),
        "value": estimate.value,
        "half_width": estimate.half_width,
        "covered": estimate.low <= truth <= estimate.high,
        "ess": estimate.ess,
        "variance": variance,
    }


def variance_of_a_draw(parts: list[Columns], truth: float) -> float:
    """Of w y, around the truth."""
    moments = [np.exp(2 * part["log_weight"])[critical_of(part)].sum() for part in parts]
    return float(np.sum(moments) / sum(len(part["sdc1"]) for part in parts)) - truth**2


def drawn(
    bench: Workbench, sampler: Sampler, seed: int, trials: int, parts: list[Columns]
) -> Iterator[Columns]:
    """The chunks of a campaign that draws, kept in `parts`."""
    chunks, chunk, past, known = DrawnChunks(limit=trials), 0, no_past(), 0
    while (count := chunks.rows(chunk)) > 0:
        before = chunks.before(chunk) if sampler.learns else 0
        if before != known:
            past, known = past_of(parts[:before], bench.array), before
        parts.append(
            run_chunk(bench, sampler, past, seed=seed, chunk=chunk, first=chunks.first(chunk), count=count)
        )
        yield parts[-1]
        chunk += 1


def counted(bench: Workbench, sampler: Any, seed: int, parts: list[Columns]) -> Iterator[Columns]:
    """The chunks of one that goes through all sites."""
    for chunk in range(count_chunks(bench.space, bench.images)):
        parts.append(count_chunk(bench, sampler, seed=seed, chunk=chunk, first=0))
        yield parts[-1]


def critical_of(columns: Columns) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = columns["sdc1"] & ~columns["tie"]
    return found


def estimate_of(bench: Workbench, sampler: Any, parts: list[Columns]) -> Estimate:
    """Of the rate of critical faults over live sites."""
    if isinstance(sampler, Sampler):
        y = np.concatenate([critical_of(part) for part in parts])
        weight = np.exp(np.concatenate([part["log_weight"] for part in parts]))
        return hansen_hurwitz(y, weight, max_weight=sampler.max_weight)
    sites = bench.space.live * bench.images
    sample = HorvitzThompson(sites, per_site_floor=sampler.per_site_floor(sites))
    for chunk, part in enumerate(parts):
        inclusion = np.exp(-part["log_weight"])
        covered = sites_of_chunk(bench.space, chunk)
        sample.add(critical_of(part), part["class_size"], inclusion, covered=covered)
    return sample.estimate()


def summed(runs: list[dict[str, Any]], truth: float) -> dict[str, Any]:
    """Over seeds. reduction_a_trial: variance of a uniform draw beside that of one of these; ess_a_trial: the same with
    room for what nobody saw, which the interval has."""
    first = [found["first"] for found in runs if found["first"] is not None]
    values = np.array([found["value"] for found in runs])

    def mean(name: str) -> float:
        return float(np.mean([found[name] for found in runs]))

    return {
        "runs": len(runs),
        "value": mean("value"),
        "spread": float(values.std(ddof=1)),
        "half_width": mean("half_width"),
        "coverage": mean("covered"),
        "seconds": median(found["seconds"] for found in runs),
        "trials": mean("trials"),
        "critical": mean("critical"),
        "first_seconds": median(first) if len(first) == len(runs) else None,
        "reduction_a_trial": truth * (1 - truth) / mean("variance"),
        "ess_a_trial": mean("ess") / mean("trials"),
    }


if __name__ == "__main__":
    main()
