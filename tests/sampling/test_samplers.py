"""One test for every sampler: right on average against an exhaustive table, whatever its scores are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import isclose
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.campaign.trial import judge_faults
from emulator.errors import BadConfig
from emulator.faults.space import FaultSpace
from emulator.sampling.estimate import Estimate
from emulator.sampling.importance import Importance
from emulator.sampling.rng import rng_for
from emulator.sampling.sampler import SampledFaults, Sampler
from emulator.sampling.stopping import StopRule, ci_half_width, max_trials
from emulator.sampling.uniform import Uniform
from emulator.sampling.workbench import Workbench

IMAGES = 10
DRAWS = 10_000

SAMPLERS: list[Sampler] = [
    Uniform(),
    Importance(),
    Importance(alpha=0.02, candidates=8, lookahead=0),
    Importance(alpha=0.5, candidates=3, lookahead=1, floor=0.2),
    Importance(alpha=1.0, candidates=2),
    Importance(alpha=0.3, candidates=1),
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Every live site of every image: sites ascending by index, sdc1 (images, sites)."""

    bench: Workbench
    sites: npt.NDArray[np.int64]
    sdc1: npt.NDArray[np.bool_]

    def look_up(self, drawn: SampledFaults) -> npt.NDArray[np.bool_]:
        column = np.searchsorted(self.sites, np.array(self.bench.space.indices(drawn.faults)))
        found: npt.NDArray[np.bool_] = self.sdc1[drawn.image, column]
        return found


def new_bench(digits: Any) -> Workbench:
    space = FaultSpace(digits.network, digits.array, registers=["pe_a"], layers=["conv1"])
    return Workbench(digits.network, digits.array, space, digits.inputs[:IMAGES])


@pytest.fixture(scope="module")
def table(digits: Any) -> Table:
    bench = new_bench(digits)
    faults = bench.space.live_faults(np.arange(bench.space.live))
    order = np.argsort(np.array(bench.space.indices(faults)), kind="stable")
    sdc1 = np.stack([judge_faults(bench, image, faults)["sdc1"] for image in range(IMAGES)])
    sites = np.array(bench.space.indices(faults))[order]
    assert 0.001 < sdc1.mean() < 0.1
    return Table(bench=bench, sites=sites, sdc1=sdc1[:, order])


@pytest.fixture(scope="module", params=SAMPLERS, ids=repr)
def drawn(request: pytest.FixtureRequest, table: Table) -> tuple[Sampler, SampledFaults]:
    """Ten chunks of draws."""
    sampler = request.param
    chunks = [sampler.draw(table.bench, rng_for(99, chunk), DRAWS // 10) for chunk in range(10)]
    join = np.concatenate
    names = chunks[0].faults.__slots__
    faults = type(chunks[0].faults)(**{n: join([getattr(c.faults, n) for c in chunks]) for n in names})
    image, weight = join([c.image for c in chunks]), join([c.log_weight for c in chunks])
    return sampler, SampledFaults(image=image, faults=faults, log_weight=weight)


def z_score(values: npt.NDArray[Any], truth: float) -> float:
    return float((values.mean() - truth) / (values.std(ddof=1) / np.sqrt(len(values))))


def test_the_weighted_mean_is_the_exhaustive_rate(table: Table, drawn: tuple[Sampler, SampledFaults]) -> None:
    _, sample = drawn
    weighted = np.exp(sample.log_weight) * table.look_up(sample)
    assert weighted.any()
    assert abs(z_score(weighted, table.sdc1.mean())) < 3


def test_every_share_of_the_population_is_met(table: Table, drawn: tuple[Sampler, SampledFaults]) -> None:
    """Images, bits and a property no score knows: the weighted share is the share among all live sites."""
    _, sample = drawn
    weight = np.exp(sample.log_weight)
    for image in range(IMAGES):
        assert abs(z_score(weight * (sample.image == image), 1 / IMAGES)) < 3.5
    for bit in range(8):
        assert abs(z_score(weight * (sample.faults.bit == bit), 1 / 8)) < 3.5
    odd = np.array(table.bench.space.indices(sample.faults)) * 2654435761 % 1000 < 300
    truth = (table.sites * 2654435761 % 1000 < 300).mean()
    assert abs(z_score(weight * odd, float(truth))) < 3.5


def test_weights_average_one_and_are_bounded(drawn: tuple[Sampler, SampledFaults]) -> None:
    sampler, sample = drawn
    weight = np.exp(sample.log_weight)
    assert weight.max() <= sampler.max_weight * (1 + 1e-9)
    assert weight.min() > 0
    if weight.std() > 0:
        assert abs(z_score(weight, 1.0)) < 3
    else:
        np.testing.assert_allclose(weight, 1.0)


def test_only_live_sites_of_the_space_are_drawn(table: Table, drawn: tuple[Sampler, SampledFaults]) -> None:
    _, sample = drawn
    assert np.isin(table.bench.space.indices(sample.faults), table.sites).all()
    assert ((sample.image >= 0) & (sample.image < IMAGES)).all()


def test_the_alpha_of_a_mixture_bounds_its_weights() -> None:
    for sampler in SAMPLERS:
        alpha = sampler.settings().get("alpha", 1.0)
        assert isclose(sampler.max_weight, 1 / alpha)


def equal(a: SampledFaults, b: SampledFaults) -> bool:
    return (
        np.array_equal(a.image, b.image)
        and np.array_equal(a.log_weight, b.log_weight)
        and all(np.array_equal(getattr(a.faults, n), getattr(b.faults, n)) for n in a.faults.__slots__)
    )


@pytest.mark.parametrize("sampler", SAMPLERS[:3], ids=repr)
def test_draws_depend_on_seed_and_chunk_alone(digits: Any, sampler: Sampler) -> None:
    bench = new_bench(digits)
    first = sampler.draw(bench, rng_for(5, 2), 120)
    others = [sampler.draw(bench, rng_for(seed, chunk), 120) for seed, chunk in ((5, 3), (6, 2), (2, 5))]
    assert equal(first, sampler.draw(bench, rng_for(5, 2), 120))
    assert equal(first, sampler.draw(new_bench(digits), rng_for(5, 2), 120))
    assert not any(equal(first, other) for other in others)


def test_importance_finds_more_of_what_is_critical(table: Table) -> None:
    found = {
        sampler.name: table.look_up(sampler.draw(table.bench, rng_for(1, 0), 3000)).mean()
        for sampler in (Uniform(), Importance())
    }
    assert found["importance"] > 3 * found["uniform"]


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"alpha": 1.5}, {"candidates": 0}, {"lookahead": -1}, {"floor": 0.0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadConfig, match="allowed"):
        Importance(**wrong)  # type: ignore[arg-type]


# ---- stop rules

RULES = st.recursive(
    st.integers(1, 5000).map(max_trials) | st.floats(0.001, 0.3).map(ci_half_width),
    lambda inner: st.tuples(inner, inner, st.booleans()).map(lambda t: t[0] | t[1] if t[2] else t[0] & t[1]),
    max_leaves=6,
)


def estimate(half_width: float) -> Estimate:
    high = 2 * half_width
    return Estimate(value=0.0, low=0.0, high=high, confidence=0.95, n=10, ess=10.0, method="test")


@given(rules=st.lists(RULES, min_size=2, max_size=4), trials=st.integers(0, 6000), width=st.floats(0, 0.4))
def test_rules_combine_as_any_and_all(rules: list[StopRule], trials: int, width: float) -> None:
    found = [rule.met(trials, estimate(width)) for rule in rules]
    assert reduce(StopRule.__or__, rules).met(trials, estimate(width)) == any(found)
    assert reduce(StopRule.__and__, rules).met(trials, estimate(width)) == all(found)


@given(rule=RULES, width=st.floats(0, 0.4))
def test_a_limit_is_where_a_rule_stops_whatever_it_finds(rule: StopRule, width: float) -> None:
    limit = rule.limit()
    if limit is not None:
        assert rule.met(limit, estimate(width))
        assert rule.met(limit, estimate(0.5))
        assert not rule.met(limit - 1, estimate(0.5))
    else:
        assert not rule.met(10**12, estimate(0.5))


@given(rule=RULES, trials=st.integers(0, 6000), width=st.floats(0, 0.4))
def test_a_rule_once_met_stays_met(rule: StopRule, trials: int, width: float) -> None:
    if rule.met(trials, estimate(width)):
        assert rule.met(trials + 1, estimate(width))
        assert rule.met(trials, estimate(width / 2))


def test_a_narrow_interval_from_few_trials_does_not_stop() -> None:
    rule = ci_half_width(0.01)
    assert not rule.met(100, estimate(0.0))
    assert rule.met(2000, estimate(0.01))
    assert not rule.met(2000, estimate(0.0101))


@pytest.mark.parametrize(
    "wrong", [lambda: max_trials(0), lambda: ci_half_width(0.0), lambda: ci_half_width(0.5)]
)
def test_rules_that_never_or_always_stop_are_refused(wrong: Any) -> None:
    with pytest.raises(BadConfig, match="allowed"):
        wrong()
