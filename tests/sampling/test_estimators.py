"""Estimators against scipy's intervals and against brute-force replays of populations with a known rate."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest

from emulator.errors import BadData
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import Census, Tally, census, hansen_hurwitz, part, ratio
from emulator.sampling.intervals import clopper_pearson, wilson

REPLAYS = 1000


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (1, 1000), (37, 5000), (50, 100)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_equals_scipy(k: int, n: int, confidence: float) -> None:
    want = binomtest(k, n).proportion_ci(confidence_level=confidence, method="wilson")
    assert wilson(k, n, confidence) == pytest.approx((want.low, want.high), abs=1e-12)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (1, 1000), (37, 5000), (50, 100), (0, 5_000_000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_clopper_pearson_equals_scipy(k: int, n: int, confidence: float) -> None:
    want = binomtest(k, n).proportion_ci(confidence_level=confidence, method="exact")
    assert clopper_pearson(k, n, confidence) == pytest.approx((want.low, want.high), abs=1e-12)
    assert clopper_pearson(0, 0, confidence) == (0.0, 1.0)


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
@pytest.mark.parametrize(("k", "n", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_intervals_refuse_impossible_counts(interval: Any, k: int, n: int, confidence: float) -> None:
    with pytest.raises(BadData, match="allowed"):
        interval(k, n, confidence)


def test_clopper_pearson_is_to_be_had_for_equal_weights_alone() -> None:
    y, alike = np.arange(200) < 7, np.ones(200)
    got = hansen_hurwitz(y, alike, interval="clopper-pearson")
    assert (got.low, got.high) == clopper_pearson(7, 200)
    assert (got.value, got.method) == (7 / 200, "clopper-pearson")
    with pytest.raises(BadData, match=r"allowed: trials of equal weight"):
        hansen_hurwitz(y, alike / 2, interval="clopper-pearson")
    with pytest.raises(BadData, match=r"interval='wald'; allowed: wilson, clopper-pearson"):
        hansen_hurwitz(y, alike, interval="wald")  # type: ignore[arg-type]


@pytest.mark.parametrize("estimator", [hansen_hurwitz, ratio])
@pytest.mark.parametrize("k", [0, 1, 40, 200])
def test_uniform_weights_give_exactly_wilson(estimator, k: int) -> None:  # type: ignore[no-untyped-def]
    got = estimator(np.arange(200) < k, np.ones(200), max_weight=10.0)
    assert (got.low, got.high) == wilson(k, 200)
    assert (got.value, got.n, got.ess, got.method) == (k / 200, 200, 200.0, "wilson")


def test_uniform_coverage() -> None:
    rng, p, n = np.random.default_rng(1), 0.01, 5000
    got = [hansen_hurwitz(rng.random(n) < p, np.ones(n)) for _ in range(REPLAYS)]
    assert np.mean([e.low <= p <= e.high for e in got]) >= 0.93


class Population:
    """20,000 sites at a rate near 1 %, and a defensive proposal built on an imperfect score."""

    alpha = 0.3

    def __init__(self) -> None:
        rng, size = np.random.default_rng(2), 20_000
        probability = rng.beta(0.3, 30, size)
        self.y = rng.random(size) < probability
        score = np.sqrt(probability * np.exp(rng.normal(0, 0.5, size))) + 1e-3
        self.q = (1 - self.alpha) * score / score.sum() + self.alpha / size
        self.w = 1 / (size * self.q)
        self.part = rng.random(size) < 0.3
        self.rng = rng

    def replays(self, n: int) -> npt.NDArray[np.int64]:
        return self.rng.choice(len(self.y), (REPLAYS, n), p=self.q)


def test_importance_estimate_is_unbiased_narrower_and_covers() -> None:
    pop = Population()
    truth = float(pop.y.mean())
    got = [hansen_hurwitz(pop.y[i], pop.w[i], max_weight=1 / pop.alpha) for i in pop.replays(4000)]
    value = np.array([e.value for e in got])
    assert abs(value.mean() - truth) < 3 * value.std() / REPLAYS**0.5
    assert np.mean([e.low <= truth <= e.high for e in got]) >= 0.93
    assert np.median([e.ess for e in got]) > 1.2 * 4000
    # The effective size is what it says: a uniform campaign of that size would scatter as much as this one and
    # half an unseen event of the largest weight together.
    uniform_variance = truth * (1 - truth) / np.median([e.ess for e in got])
    assert value.var() + 0.5 / (pop.alpha * 4000) ** 2 == pytest.approx(uniform_variance, rel=0.2)


def test_ratio_covers_a_sub_population() -> None:
    pop = Population()
    truth = float(pop.y[pop.part].mean())
    draws = (i[pop.part[i]] for i in pop.replays(4000))
    got = [ratio(pop.y[i], pop.w[i], max_weight=1 / pop.alpha) for i in draws]
    value = np.array([e.value for e in got])
    assert abs(value.mean() - truth) < 3 * value.std() / REPLAYS**0.5 + 1e-4  # bias of order 1 / n
    assert np.mean([e.low <= truth <= e.high for e in got]) >= 0.93


def test_no_event_bounds_what_the_proposal_could_have_hidden() -> None:
    w = np.full(3000, 0.5)
    got = hansen_hurwitz(np.zeros(3000), w, max_weight=4.0)
    assert (got.value, got.low) == (0.0, 0.0)
    assert got.high == pytest.approx(4 * (1 - 0.05 ** (1 / 3000)))
    assert (1 - got.high / 4.0) ** 3000 == pytest.approx(0.05)
    assert ratio(np.zeros(3000), w, max_weight=4.0).high == pytest.approx(2 * got.high)
    assert hansen_hurwitz(np.zeros(2), np.array([0.5, 1.0]), max_weight=4.0).high == 1.0


def test_only_events_mirror_no_events() -> None:
    w = np.full(300, 0.5)
    none, only = ratio(np.zeros(300), w, max_weight=2.0), ratio(np.ones(300), w, max_weight=2.0)
    assert (only.value, only.low, only.high) == (1.0, pytest.approx(1 - none.high), 1.0)


def test_intervals_hold_the_value_and_stay_inside_the_unit_interval() -> None:
    rng = np.random.default_rng(3)
    for estimator in (hansen_hurwitz, ratio):
        for _ in range(300):
            n = int(rng.integers(1, 60))
            y, w = rng.random(n) < rng.random(), np.exp(rng.uniform(-9, np.log(5), n))
            got = estimator(y, w, max_weight=5.0)
            assert 0 <= got.low <= got.value <= got.high <= 1
            assert np.isfinite(got.ess) and got.ess >= 0 and got.n == n


@pytest.mark.parametrize(
    ("y", "w", "words"),
    [
        ([], [], "n >= 1"),
        ([0, 1], [1.0], "one weight a trial"),
        ([0, 2], [1.0, 1.0], "0 and 1"),
        ([0, 1], [1.0, np.nan], "not finite"),
        ([0, 1], [1.0, 0.0], "zero"),
        ([0, 1], [1.0, 3.0], "max_weight=2"),
    ],
)
def test_bad_trials_are_refused(y: list[int], w: list[float], words: str) -> None:
    for estimator in (hansen_hurwitz, ratio):
        with pytest.raises(BadData, match=words):
            estimator(y, w, max_weight=2.0)


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.031, 0.028, 0.034, "3.1 % [2.8, 3.4]"),
        (0.000034, 0.00003, 0.000038, "0.0034 % [0.0030, 0.0038]"),
        (0.0, 0.0, 0.0006, "0.00 % [0.00, 0.06]"),
        (0.5, 0.488, 0.512, "50.0 % [48.8, 51.2]"),
        (1.0, 0.2, 1.0, "100 % [20, 100]"),
        (0.0001, 0.00001, 0.3, "0.01 % [0.00, 30.00]"),
    ],
)
def test_an_estimate_prints_the_digits_it_has(value: float, low: float, high: float, text: str) -> None:
    got = Estimate(value=value, low=low, high=high, confidence=0.95, n=52_000, ess=31_423.7, method="ratio")
    assert str(got) == f"{text}, n = 52 000, ESS = 31 400"


def test_an_estimate_scales_and_serialises() -> None:
    got = Estimate(value=0.5, low=0.4, high=0.6, confidence=0.95, n=96, ess=96.0, method="wilson").scaled(0.5)
    assert (got.value, got.low, got.high, got.n) == (0.25, 0.2, 0.3, 96)
    assert got.half_width == pytest.approx(0.05)
    assert list(got.to_json()) == ["value", "low", "high", "confidence", "n", "ess", "method"]
    assert eval(repr(got)) == got
    assert str(Estimate.exact(0.7834)) == "78.34 % (exact)"


def test_parts_of_known_share_are_unbiased_and_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(3)
    sites = 4000
    group = rng.integers(0, 5, sites) ** 2 % 5  # uneven groups, some rare
    critical = rng.random(sites) < np.where(group == 4, 0.2, 0.01)
    proposal = 0.3 / sites + 0.7 * (critical + 0.02) / (critical + 0.02).sum()
    weight = 1 / (sites * proposal)
    shares = np.bincount(group, minlength=5) / sites
    seen = {g: [] for g in np.unique(group).tolist()}
    for _ in range(600):
        draw = rng.choice(sites, 300, p=proposal / proposal.sum())
        y, w = critical[draw], weight[draw]
        parts = {g: part(y, w, group[draw] == g, shares[g], max_weight=1 / 0.3) for g in seen}
        for g, estimate in parts.items():
            seen[g].append(estimate.value)
        whole = hansen_hurwitz(y, w, max_weight=1 / 0.3).value
        assert sum(shares[g] * estimate.value for g, estimate in parts.items()) == pytest.approx(whole)
    for g, values in seen.items():
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - critical[group == g].mean()) < 4 * error + 1e-12, g


def test_a_part_that_is_nearly_always_critical_is_not_certain() -> None:
    """mean(w 1[inside]) / share is 1 in the mean only: cut off there it would be a point, right or wrong."""
    rng, share, truth, n = np.random.default_rng(8), 0.1, 0.97, 4000
    found = []
    for _ in range(400):
        heavy = rng.random(n) < 0.25
        inside = rng.random(n) < share
        y = inside & (rng.random(n) < truth)
        found.append(part(y, np.where(heavy, 2.0, 2 / 3), inside, share, max_weight=2))
    assert np.mean([e.low <= truth <= e.high for e in found]) >= 0.93
    assert abs(np.mean([e.value for e in found]) - truth) < 4 * np.std([e.value for e in found]) / 20
    assert np.std([e.value for e in found]) < 0.02


def test_a_score_blind_to_a_tenth_of_the_sites_does_not_fool_the_interval() -> None:
    rng = np.random.default_rng(11)
    sites, n, alpha = 40_000, 1000, 0.5
    critical = rng.random(sites) < 0.004
    seen = critical & (rng.random(sites) >= 0.1)
    proposal = alpha / sites + (1 - alpha) * (seen + 1e-3) / (seen + 1e-3).sum()
    weight = 1 / (sites * proposal)
    truth = critical.mean()
    covered = []
    for _ in range(400):
        draw = rng.choice(sites, n, p=proposal / proposal.sum())
        found = hansen_hurwitz(critical[draw], weight[draw], max_weight=1 / alpha)
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) >= 0.93


def test_a_census_is_certain_of_what_it_has_seen_and_of_nothing_else() -> None:
    rng = np.random.default_rng(2)
    y, sites = rng.random(400) < 0.1, rng.integers(1, 1000, 400)
    population = int(sites.sum())
    truth = int(sites[y].sum()) / population
    counted = Census(population)
    for start in range(0, 400, 50):
        counted.add(y[start : start + 50], sites[start : start + 50])
        found = counted.estimate()
        assert found.low <= truth <= found.high
        left = population - int(sites[: start + 50].sum())
        assert found.high - found.low == pytest.approx(left / population)
    assert found == census(y, sites, population)
    assert found.value == found.low == found.high == truth and found.n == population
    with pytest.raises(BadData, match=rf"{population + 1} sites judged; allowed: {population}"):
        counted.add([True], [1])


def test_trials_in_parts_prove_what_they_prove_together() -> None:
    rng = np.random.default_rng(3)
    for alike in (True, False):
        y = rng.random(3000) < 0.02
        weight = np.ones(3000) if alike else rng.uniform(0.1, 2, 3000)
        tally = Tally(max_weight=2)
        for some in np.array_split(np.arange(3000), 7):
            tally.add(y[some], weight[some])
        assert tally.estimate() == hansen_hurwitz(y, weight, max_weight=2)


@pytest.mark.parametrize("rate", [1.0, 0.99, 0.9])
def test_what_nearly_always_happens_is_as_sure_as_its_opposite(rate: float) -> None:
    """Weights average 1 in the mean, not in a sample: a certain event must not be clipped, nor lie outside."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        weight = np.where(rng.random(2000) < 0.5, 2.0, rng.choice([2 / 3, 0.1], 2000, p=[0.001, 0.999]))
        weight *= rng.normal(1, 0.01) / weight.mean()
        found = hansen_hurwitz(rng.random(2000) < rate, weight, max_weight=3.0)
        covered += found.low <= rate <= found.high
        assert found.low > rate - 0.06 and found.ess > 0
    assert covered > 0.9 * 300
