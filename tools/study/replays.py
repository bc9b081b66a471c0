"""Are the samplers unbiased, and do their intervals keep their promise? Thousands of small campaigns on the bundled
digits network, against the outcome of every live site.

    .venv/bin/python tools/study/replays.py REGISTER [--replays 2000]

One JSON object: for each sampler, over campaigns of 1,000 trials and as many tens of them, drawn at
random, the bias in standard errors, the share of the 95 % intervals that contain the truth, and their width beside
uniform's. A sampler that learns draws the second half of each campaign looking back at the first.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from labels import label

from emulator.array.spec import ArraySpec
from emulator.bundled import digits
from emulator.campaign.inputs import load_samples
from emulator.campaign.trial import judge_faults
from emulator.faults.space import FaultSpace
from emulator.graph.load import load
from emulator.sampling.adaptive import Adaptive
from emulator.sampling.baselines import BitOnly, Gradient, ISimDL, ProgressiveBitSearch
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.importance import Importance
from emulator.sampling.past import Past, no_past
from emulator.sampling.rng import rng_for
from emulator.sampling.sampler import SampledFaults, Sampler
from emulator.sampling.stratified import Stratified
from emulator.sampling.uniform import Uniform
from emulator.sampling.workbench import Workbench

IMAGES = 10
TRIALS = 1000
TOGETHER = 10
MANY = 50
AT_ONCE = 100_000
SAMPLERS: tuple[Sampler, ...] = (
    Uniform(),
    Stratified(),
    Adaptive(),
    Importance(),
    Importance(alpha=0.2),
    Importance(alpha=0.05),
    BitOnly(),
    ISimDL(),
    Gradient(),
    ProgressiveBitSearch(),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """SDC-1 of every live site of every image: sites ascending by index, sdc1 (images, sites)."""

    bench: Workbench
    sites: npt.NDArray[np.int64]
    sdc1: npt.NDArray[np.bool_]

    def of(self, drawn: SampledFaults) -> npt.NDArray[np.bool_]:
        """The outcome of each draw."""
        column = np.searchsorted(self.sites, np.array(self.bench.space.indices(drawn.faults)))
        found: npt.NDArray[np.bool_] = self.sdc1[drawn.image, column]
        return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replays", type=int, default=2000)
    parser.add_argument("register")
    wanted = parser.parse_args()
    print(json.dumps(of_register(wanted.register, wanted.replays), indent=1))


def of_register(register: str, replays: int) -> dict[str, Any]:
    """All samplers."""
    truth = truth_of(register)
    rate = float(truth.sdc1.mean())
    found = {label(sampler): replayed(truth, sampler, replays) for sampler in SAMPLERS}
    samplers = {name: figures(trials, rate) for name, trials in found.items()}
    return {"register": register, "replays": replays, "rate": rate, "samplers": samplers}


def truth_of(register: str) -> Truth:
    """Every live site struck and followed."""
    bundle, array = digits(), ArraySpec.preset("gemmini-16")
    network = load(bundle.model)
    inputs = load_samples(bundle.inputs, network.graph, None).inputs
    space = FaultSpace(network, array, registers=[register])
    margins = Workbench(network, array, space, inputs).margins
    # Images of every margin: each fiftieth.
    chosen = np.argsort(margins, kind="stable")[:: len(inputs) // IMAGES][:IMAGES]
    bench = Workbench(network, array, space, [inputs[i] for i in chosen])
    sites, sdc1 = [], []
    for start in range(0, space.live, AT_ONCE):
        faults = space.live_faults(np.arange(start, min(start + AT_ONCE, space.live)))
        sites.append(np.array(space.indices(faults)))
        sdc1.append([judge_faults(bench, image, faults)["sdc1"] for image in range(IMAGES)])
    index = np.concatenate(sites)
    order = np.argsort(index, kind="stable")
    return Truth(bench=bench, sites=index[order], sdc1=np.concatenate(sdc1, axis=1)[:, order])


Trials = list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64], float]]


def replayed(truth: Truth, sampler: Sampler, replays: int) -> Trials:
    """Outcomes, weights and their bound of each campaign of TRIALS trials."""
    if sampler.learns:
        return [looking_back(truth, sampler, seed) for seed in range(replays)]
    return [found for seed in range(-(-replays // MANY)) for found in many(truth, sampler, seed)][:replays]


def many(truth: Truth, sampler: Sampler, seed: int) -> Trials:
    """MANY campaigns in one draw: its trials are independent."""
    drawn = sampler.draw(truth.bench, rng_for(seed, 0), MANY * TRIALS, no_past())
    weight = np.split(np.exp(drawn.log_weight), MANY)
    return [(y, w, sampler.max_weight) for y, w in zip(np.split(truth.of(drawn), MANY), weight, strict=True)]


def looking_back(truth: Truth, sampler: Sampler, seed: int) -> Any:
    """TRIALS trials, the second half looking back at the first."""
    outcomes, weights = [], []
    past = no_past()
    for chunk in range(2):
        drawn = sampler.draw(truth.bench, rng_for(seed, chunk), TRIALS // 2, past)
        outcomes.append(truth.of(drawn))
        weights.append(np.exp(drawn.log_weight))
        past = Past(image=drawn.image, faults=drawn.faults, critical=outcomes[-1], weight=weights[-1])
    return np.concatenate(outcomes), np.concatenate(weights), sampler.max_weight


def figures(trials: Trials, rate: float) -> dict[str, Any]:
    """Of campaigns of TRIALS trials, and of TOGETHER of them, drawn from these: they have no bias of their own."""
    values = np.array([hansen_hurwitz(y, weight, max_weight=bound).value for y, weight, bound in trials])
    bias = float((values.mean() - rate) / (values.std(ddof=1) / np.sqrt(len(values))))
    chosen = np.random.default_rng(0).integers(0, len(trials), (len(trials), TOGETHER))
    return {
        "bias_z": bias,
        str(TRIALS): figures_of(trials, rate),
        str(TRIALS * TOGETHER): figures_of([joined([trials[i] for i in some]) for some in chosen], rate),
    }


def joined(trials: Trials) -> Any:
    y, weight, bound = zip(*trials, strict=True)
    return np.concatenate(y), np.concatenate(weight), bound[0]


def figures_of(trials: Trials, rate: float) -> dict[str, float]:
    """Coverage, mean width, and variance beside uniform sampling's."""
    found: list[Estimate] = [hansen_hurwitz(y, weight, max_weight=bound) for y, weight, bound in trials]
    values = np.array([estimate.value for estimate in found])
    uniform = rate * (1 - rate) / len(trials[0][0])
    return {
        "campaigns": len(found),
        "coverage": float(np.mean([estimate.low <= rate <= estimate.high for estimate in found])),
        "half_width": float(np.mean([estimate.half_width for estimate in found])),
        "variance_reduction": uniform / float(values.var(ddof=1)),
    }


if __name__ == "__main__":
    main()
