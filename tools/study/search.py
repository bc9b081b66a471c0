"""How many draws the search for faults that reach an accuracy drop takes, beside others' samplers.

    .venv/bin/python tools/study/search.py MODEL --inputs X.npz [--limit 100] [--registers accumulator pe_c1,pe_c2]
        [--drops 0.03,0.05,0.1] [--seeds 10] [--trials 10000] [--importance-trials 1000] [--samplers importance,uniform]

One JSON object. For every register class and drop, over all seeds: draws and found faults of each sampler, draws for
each found fault with its interval, and how many times fewer than uniform and than bit-only ours takes. `ceiling`: what
no sampler can exceed, 1 over the share of such faults, for a draw finds one at most. `enough`: uniform finds ENOUGH a
seed. Draws that come to a known fault count again; `distinct` does not count them. A seed draws once for all drops:
the draws do not depend on the drop, and what a fault costs is counted. `inside`: of the seeds, those whose interval of
the rate, at the smallest drop, holds the one of all uniform draws.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from emulator.array.spec import ArraySpec
from emulator.campaign.inputs import load_samples
from emulator.faults.space import FaultSpace
from emulator.graph.load import Network, load
from emulator.harden.answers import Answers
from emulator.harden.found import DrawsPerFault, Found
from emulator.harden.search import SAMPLERS, Search, sampler_for
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.stopping import max_trials
from emulator.sampling.workbench import Workbench

ENOUGH = 30
BESIDE = ("uniform", "bit-only")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--inputs", required=True)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--array", default="gemmini-16")
    parser.add_argument("--registers", nargs="+", default=["accumulator", "pe_c1,pe_c2"])
    parser.add_argument("--drops", default="0.02,0.03,0.05,0.1,0.2,0.3")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--importance-trials", type=int, default=1000)
    parser.add_argument("--samplers", default="importance,uniform,bit-only", help=", ".join(SAMPLERS))
    wanted = parser.parse_args()
    network = load(wanted.model)
    registers = {
        names: of_registers(network, ArraySpec.preset(wanted.array), names.split(","), wanted)
        for names in wanted.registers
    }
    about = {"model": wanted.model.name, "images": wanted.limit, "seeds": wanted.seeds}
    print(json.dumps({**about, "registers": registers}, indent=1))


def of_registers(network: Network, array: ArraySpec, names: list[str], wanted: Any) -> dict[str, Any]:
    """The figures of one class."""
    samples = load_samples(wanted.inputs, network.graph, wanted.limit)
    space = FaultSpace(network, array, registers=names)
    bench = Workbench(network, array, space, samples.inputs)
    answers = Answers.of(bench, samples.labels)
    drops = sorted(float(drop) for drop in wanted.drops.split(","))
    runs: dict[str, list[Found]] = {}
    for seed in range(wanted.seeds):
        for name in wanted.samplers.split(","):
            trials = wanted.importance_trials if name == "importance" else wanted.trials
            search = Search(
                drop=drops[0], sampler=sampler_for(name, answers), stop=max_trials(trials), seed=seed
            )
            runs.setdefault(name, []).append(search.run(bench, answers))
    return {
        "accuracy": answers.accuracy,
        "live": space.live,
        "samplers": {name: costs(found) for name, found in runs.items()},
        "inside": {name: inside(found, runs["uniform"]) for name, found in runs.items()},
        "drops": [at_drop(runs, drop, len(answers)) for drop in drops],
    }


def costs(runs: list[Found]) -> dict[str, Any]:
    """What a draw takes."""
    draws = sum(found.draws for found in runs)
    return {
        "draws": draws,
        "injections_a_draw": sum(found.injections for found in runs) / draws,
        "predictions_a_draw": sum(found.predictions for found in runs) / draws,
        "milliseconds_a_draw": 1000 * sum(found.seconds for found in runs) / draws,
    }


def inside(runs: list[Found], uniform: list[Found]) -> int:
    """Seeds whose interval holds the rate that all uniform draws give."""
    rate = sum(found.hits.value for found in uniform) / len(uniform)
    return sum(found.rate.low <= rate <= found.rate.high for found in runs)


def at_drop(runs: dict[str, list[Found]], drop: float, images: int) -> dict[str, Any]:
    """Each sampler at one drop, and ours beside the others."""
    figures = {name: yields(found, drop, images) for name, found in runs.items()}
    share = {name: [hits / found.draws for hits, found in zip(figures[name]["by_seed"], runs[name], strict=True)]
             for name in runs}  # fmt: skip
    mean = {name: sum(of_seed) / len(of_seed) for name, of_seed in share.items()}
    fewer = {
        name: {
            "times": mean["importance"] / mean[name],
            "lowest_seed": min(share["importance"]) / mean[name],
            "highest_seed": max(share["importance"]) / mean[name],
        }
        for name in BESIDE
        if mean.get(name)
    }
    return {
        "drop": drop,
        "enough": sum(figures["uniform"]["by_seed"]) >= ENOUGH * len(runs["uniform"]),
        "ceiling": 1 / mean["uniform"] if mean["uniform"] else None,
        "fewer_than": fewer,
        "samplers": figures,
    }


def yields(runs: list[Found], drop: float, images: int) -> dict[str, Any]:
    """Of one sampler."""
    chosen = [[fault for fault in found.faults if fault.lost >= drop * images - 1e-9] for found in runs]
    by_seed = [sum(fault.draws for fault in faults) for faults in chosen]
    draws = sum(found.draws for found in runs)
    hits = hansen_hurwitz([1] * sum(by_seed) + [0] * (draws - sum(by_seed)), [1.0] * draws)
    return {
        "draws_per_fault": DrawsPerFault.of(hits).to_json(),
        "by_seed": by_seed,
        "distinct": sum(map(len, chosen)),
        "milliseconds_per_fault": 1000 * sum(found.seconds for found in runs) / max(1, sum(by_seed)),
    }


if __name__ == "__main__":
    main()
