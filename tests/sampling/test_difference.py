"""Differences from draws with replacement against repeated draws from a population whose rate is known."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.errors import BadData
from emulator.sampling.difference import hansen_hurwitz_difference
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.intervals import wilson

REPLAYS = 600


@pytest.mark.parametrize("blind", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("n", [1000, 5000])
def test_the_estimate_is_unbiased_covers_and_is_no_worse_than_its_plain_sibling(blind: float, n: int) -> None:
    rng, sites, alpha = np.random.default_rng(1), 40_000, 0.5
    chance = np.minimum(0.98, rng.gamma(0.05, 0.2, sites))
    y = rng.random(sites) < chance
    predicted = np.clip(chance * np.exp(rng.normal(0, 0.3, sites)), 0, 1)
    predicted[rng.random(sites) < blind] = 0.0
    score = np.sqrt(predicted) + 1e-3
    q = alpha / sites + (1 - alpha) * score / score.sum()
    w = 1 / (sites * q)
    assisted, plain = [], []
    for _ in range(REPLAYS):
        i = rng.choice(sites, n, p=q / q.sum())
        mean = float(predicted.mean())
        assisted.append(
            hansen_hurwitz_difference(y[i], w[i], predicted[i], predicted_mean=mean, max_weight=1 / alpha)
        )
        plain.append(hansen_hurwitz(y[i], w[i], max_weight=1 / alpha))
    value, truth = np.array([e.value for e in assisted]), float(y.mean())
    bias = (value.mean() - truth) / (value.std() / REPLAYS**0.5)
    coverage = np.mean([e.low <= truth <= e.high for e in assisted])
    print(f"\nblind {blind} n {n}: bias z {bias:.2f}, coverage {coverage:.3f}, {assisted[0]} for {plain[0]}")
    assert abs(bias) < 3
    assert coverage >= 0.93
    assert value.std() < np.std([e.value for e in plain]) * (1.02 if blind else 1)


def test_the_estimate_is_the_formula_and_holds_its_interval() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        n = int(rng.integers(1, 80))
        y, w, m = rng.random(n) < rng.random(), rng.uniform(0.1, 3, n), rng.random(n)
        mean = float(rng.random())
        found = hansen_hurwitz_difference(y, w, m, predicted_mean=mean, max_weight=3.0)
        assert found.value == pytest.approx(np.clip(mean + np.mean(w * (y - m)), 0, 1))
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert (found.n, found.method) == (n, "difference") and found.ess > 0


def test_without_a_prediction_it_is_the_plain_estimate() -> None:
    rng = np.random.default_rng(3)
    y, w = rng.random(2000) < 0.02, rng.uniform(0.1, 2, 2000)
    got = hansen_hurwitz_difference(y, w, np.zeros(2000), predicted_mean=0.0, max_weight=2.0)
    want = hansen_hurwitz(y, w, max_weight=2.0)
    assert (got.value, got.low, got.high) == pytest.approx((want.value, want.low, want.high))


def test_a_perfect_prediction_leaves_what_nobody_saw() -> None:
    y = np.arange(1000) < 30
    found = hansen_hurwitz_difference(y, np.full(1000, 0.9), y.astype(float), predicted_mean=0.03)
    assert (found.value, found.low) == (0.03, 0.03)
    assert found.high - 0.03 == pytest.approx(1 - 0.05 ** (1 / 1000))


def test_misses_raise_the_upper_end_and_false_alarms_lower_the_lower_one() -> None:
    """Zou & Donner's combination, worked out by hand for ten misses and three false alarms in a thousand."""
    y = np.arange(1000) < 10
    predicted = np.where((np.arange(1000) >= 10) & (np.arange(1000) < 13), 1.0, 0.0)
    found = hansen_hurwitz_difference(y, np.ones(1000), predicted, predicted_mean=0.05)
    alarms = wilson(3, 1000)
    missed = hansen_hurwitz_difference(y, np.ones(1000), np.zeros(1000), predicted_mean=0.0)
    down, up = np.hypot(0.01 - missed.low, alarms[1] - 0.003), np.hypot(missed.high - 0.01, 0.003 - alarms[0])
    assert found.value == pytest.approx(0.05 + 0.01 - 0.003)
    assert found.value - found.low == pytest.approx(down, rel=0.01)  # they are almost independent
    assert found.high - found.value == pytest.approx(up, rel=0.01)


def test_predictions_that_are_none_are_refused() -> None:
    for wrong in ([0.5], [0.5, 1.5], [-0.1, 0.5]):
        with pytest.raises(BadData, match=r"predicted .*allowed: \(2,\)"):
            hansen_hurwitz_difference([0, 1], [1, 1], wrong, predicted_mean=0.5)
