"""Do the intervals keep their promise? Against the exhaustive rate of a register class, over many seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emulator.campaign.results import Results
from emulator.campaign.runner import Campaign
from emulator.campaign.trial import judge_faults
from emulator.faults.space import FaultSpace
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.importance import Importance
from emulator.sampling.past import no_past
from emulator.sampling.rng import rng_for
from emulator.sampling.sampler import Sampler
from emulator.sampling.stopping import max_trials
from emulator.sampling.uniform import Uniform
from emulator.sampling.workbench import Workbench

pytestmark = pytest.mark.slow

SEEDS = 100
TRIALS = 2000
IMAGES = 6
AT_ONCE = 100_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """SDC-1 of every live accumulator flip of every image: sites ascending by index, sdc1 (images, sites)."""

    bench: Workbench
    sites: npt.NDArray[np.int64]
    sdc1: npt.NDArray[np.bool_]

    @property
    def rate(self) -> float:
        return float(self.sdc1.mean())


@pytest.fixture(scope="module")
def truth(digits: Any) -> Truth:
    space = FaultSpace(digits.network, digits.array, registers=["accumulator"])
    bench = Workbench(digits.network, digits.array, space, digits.inputs[:IMAGES])
    sites, sdc1 = [], []
    for start in range(0, space.live, AT_ONCE):
        faults = space.live_faults(np.arange(start, min(start + AT_ONCE, space.live)))
        sites.append(space.indices(faults))
        sdc1.append([judge_faults(bench, image, faults)["sdc1"] for image in range(IMAGES)])
    index = np.concatenate(sites)
    order = np.argsort(index, kind="stable")
    return Truth(bench=bench, sites=index[order], sdc1=np.concatenate(sdc1, axis=1)[:, order])


@pytest.mark.parametrize("sampler", [Uniform(), Importance()], ids=lambda s: s.name)
def test_intervals_contain_the_exhaustive_rate_for_nine_seeds_in_ten(truth: Truth, sampler: Sampler) -> None:
    contained, widths, estimates = 0, [], []
    for seed in range(SEEDS):
        drawn = sampler.draw(truth.bench, rng_for(seed, 0), TRIALS, no_past())
        column = np.searchsorted(truth.sites, np.array(truth.bench.space.indices(drawn.faults)))
        events = truth.sdc1[drawn.image, column]
        found = hansen_hurwitz(events, np.exp(drawn.log_weight), max_weight=sampler.max_weight)
        contained += found.low <= truth.rate <= found.high
        widths.append(found.half_width)
        estimates.append(found.value)
    bias = (np.mean(estimates) - truth.rate) / (np.std(estimates, ddof=1) / SEEDS**0.5)
    print(
        f"\n{sampler.name}: rate {truth.rate:.5f}, mean estimate {np.mean(estimates):.5f} (bias z {bias:.2f}), "
        f"{contained} of {SEEDS} intervals contain it, mean half width {np.mean(widths):.5f}"
    )
    assert contained >= 90
    assert abs(bias) < 3
    # An interval that is always right because it is endless proves nothing.
    assert np.mean(widths) < 4 * np.std(estimates)


def test_a_looked_up_outcome_is_the_judged_one(truth: Truth) -> None:
    """The table and a campaign's own judgement of a draw agree trial by trial."""
    drawn = Importance().draw(truth.bench, rng_for(0, 7), 300, no_past())
    column = np.searchsorted(truth.sites, np.array(truth.bench.space.indices(drawn.faults)))
    for image in range(IMAGES):
        chosen = np.flatnonzero(drawn.image == image)
        judged = judge_faults(truth.bench, image, drawn.faults[chosen])["sdc1"]
        np.testing.assert_array_equal(judged, truth.sdc1[image, column[chosen]])


def test_importance_needs_far_fewer_trials_on_fashion(fashion: Any, tmp_path: Any) -> None:
    """5,000 trials each over the 1,000 bundled images, PEs and accumulators: at most .7 of uniform's width.

    Over all registers, buffers included, the rate is so low (.1 %) that what could be unseen decides both widths.
    """
    classes = ["pe_a", "pe_b", "pe_d", "pe_c1", "pe_c2", "accumulator"]
    space = FaultSpace(fashion.network, fashion.array, registers=classes)
    found: dict[str, Results] = {}
    for sampler in (Uniform(), Importance()):
        campaign = Campaign(
            fashion.network, fashion.array, space, inputs=fashion.data, sampler=sampler, seed=1,
            stop=max_trials(5000),
        )  # fmt: skip
        found[sampler.name] = campaign.collect(tmp_path / sampler.name, workers=2)
    rates = {name: results.rate() for name, results in found.items()}
    for name, results in found.items():
        print(f"\n{name}: SDC-1 over live sites {rates[name]}; precision@100 {results.precision_at(100)}")
    uniform, importance = rates["uniform"], rates["importance"]
    assert (uniform.n, importance.n) == (5000, 5000)
    assert importance.half_width <= 0.7 * uniform.half_width
    assert max(uniform.low, importance.low) <= min(uniform.high, importance.high)
    assert found["importance"].precision_at(100).value > found["uniform"].precision_at(100).value
