"""Horvitz-Thompson and difference estimates against repeated draws from populations whose rate is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emulator.errors import BadData
from emulator.sampling.difference import difference
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import Census, census
from emulator.sampling.horvitz_thompson import HorvitzThompson, horvitz_thompson

Floats = npt.NDArray[np.float64]
REPLAYS = 800


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """Classes of sites with outcomes, predictions, and inclusion probabilities from a score of that quality."""

    y: npt.NDArray[np.bool_]
    sites: npt.NDArray[np.int64]
    predicted: Floats
    pi: Floats
    floor: float

    @property
    def population(self) -> int:
        return int(self.sites.sum())

    @property
    def rate(self) -> float:
        return float((self.sites * self.y).sum() / self.population)

    def draws(self, seed: int) -> Any:
        rng = np.random.default_rng(seed)
        return (np.flatnonzero(rng.random(len(self.pi)) < self.pi) for _ in range(REPLAYS))

    def horvitz_thompson(self, i: npt.NDArray[np.intp]) -> Estimate:
        return horvitz_thompson(
            self.y[i], self.sites[i], self.pi[i], population=self.population, per_site_floor=self.floor
        )

    def difference(self, i: npt.NDArray[np.intp], predicted: Floats | None = None) -> Estimate:
        m = self.predicted if predicted is None else predicted
        total = float((self.sites * m).sum())
        return difference(
            self.y[i], self.sites[i], self.pi[i], m[i],
            predicted_total=total, population=self.population, per_site_floor=self.floor,
        )  # fmt: skip


def design(blind: float = 0.0, floor: float = 0.01, expected: int = 1500, seed: int = 1) -> Design:
    """30,000 classes, a rate near 1 %, a `blind` share of the events where the score sees nothing."""
    rng, classes = np.random.default_rng(seed), 30_000
    sites = rng.geometric(0.2, classes)
    chance = np.minimum(0.98, rng.gamma(0.05, 0.2, classes))
    y = rng.random(classes) < chance
    predicted = np.clip(chance * np.exp(rng.normal(0, 0.4, classes)), 0, 1)
    predicted[rng.random(classes) < blind] = 0.0
    size = sites * np.sqrt(predicted)
    pi = np.clip(expected * size / size.sum(), np.minimum(1.0, floor * sites), 1.0)
    return Design(y=y, sites=sites, predicted=predicted, pi=pi, floor=floor)


def judged(found: list[Estimate], truth: float) -> tuple[float, float]:
    """z of the bias, and coverage."""
    value = np.array([e.value for e in found])
    bias = float((value.mean() - truth) / (value.std() / len(found) ** 0.5))
    return bias, float(np.mean([e.low <= truth <= e.high for e in found]))


@pytest.mark.parametrize("estimator", ["horvitz_thompson", "difference"])
@pytest.mark.parametrize("blind", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("floor", [0.003, 0.02])
def test_estimates_are_unbiased_and_cover(estimator: str, blind: float, floor: float) -> None:
    plan = design(blind, floor)
    found = [getattr(plan, estimator)(i) for i in plan.draws(3)]
    bias, coverage = judged(found, plan.rate)
    print(
        f"\n{estimator} blind {blind} floor {floor}: bias z {bias:.2f}, coverage {coverage:.3f}, {found[0]}"
    )
    assert abs(bias) < 3
    assert coverage >= 0.93
    # Always right because it is endless proves nothing.
    unseen = 1 / (floor * plan.population)
    assert np.mean([e.half_width for e in found]) < 3 * np.std([e.value for e in found]) + unseen


def test_a_rate_near_1_is_known_as_well_as_its_opposite() -> None:
    """How many sites a sample stands for varies; that they are critical does not."""
    plan = design(floor=0.02)
    near = replace(plan, y=~plan.y)
    for i in list(plan.draws(8))[:50]:
        found, opposite = near.horvitz_thompson(i), plan.horvitz_thompson(i).complement()
        assert (found.value, found.low, found.high) == pytest.approx(
            (opposite.value, opposite.low, opposite.high), abs=1e-12
        )


def test_the_variance_is_that_of_repeated_draws() -> None:
    plan = design(floor=0.05)
    found = [plan.horvitz_thompson(i) for i in plan.draws(4)]
    heaviest = 1 / (plan.floor * plan.population)
    spread = np.median([e.value * (1 - e.value) / e.ess for e in found])
    assert spread == pytest.approx(np.var([e.value for e in found]) + heaviest**2 / 2, rel=0.1)


def test_a_good_prediction_narrows_the_interval_and_none_changes_nothing() -> None:
    plan = design(floor=0.02, expected=4000)
    draws = list(plan.draws(5))[:200]
    plain = [plan.horvitz_thompson(i) for i in draws]
    assisted = [plan.difference(i, plan.y * 0.95) for i in draws]
    unassisted = [plan.difference(i, np.zeros(len(plan.y))) for i in draws]
    assert np.std([e.value for e in assisted]) < 0.2 * np.std([e.value for e in plain])
    assert np.mean([e.half_width for e in assisted]) < 0.8 * np.mean([e.half_width for e in plain])
    for with_none, without in zip(unassisted, plain, strict=True):
        assert (with_none.value, with_none.low, with_none.high) == pytest.approx(
            (without.value, without.low, without.high)
        )


@pytest.mark.parametrize("estimator", ["horvitz_thompson", "difference"])
def test_drawn_for_certain_it_is_the_census_bit_for_bit(estimator: str) -> None:
    plan = design(floor=1.0)
    assert (plan.pi == 1).all()
    everything = np.arange(len(plan.y))
    assert getattr(plan, estimator)(everything) == census(plan.y, plan.sites, plan.population)


def test_what_is_certain_only_shifts_the_interval() -> None:
    y, sites, pi = np.array([1, 0, 1, 0]), np.array([10, 20, 30, 40]), np.array([0.5, 0.5, 1.0, 1.0])
    some = horvitz_thompson(y, sites, pi, population=1070, per_site_floor=0.01)
    rest = horvitz_thompson(y[:2], sites[:2], pi[:2], population=1000, per_site_floor=0.01)
    for end in ("value", "low", "high"):
        assert getattr(some, end) * 1070 == pytest.approx(30 + 1000 * getattr(rest, end))


def test_no_uncertain_event_bounds_the_sites_that_could_have_gone_unseen() -> None:
    found = horvitz_thompson([0, 1], [7, 500], [0.1, 1.0], population=100_500, per_site_floor=0.01)
    assert (found.value, found.low) == (500 / 100_500, 500 / 100_500)
    unseen = found.high * 100_500 - 500
    assert np.exp(-0.01 * unseen) == pytest.approx(0.05)
    nothing = horvitz_thompson([], [], [], population=100_000, per_site_floor=0.01)
    assert (nothing.value, nothing.low, nothing.high) == (0.0, 0.0, pytest.approx(unseen / 100_000))


def test_parts_prove_what_they_prove_together_and_leave_room_for_what_is_to_come() -> None:
    plan = design()
    drawn = next(iter(plan.draws(6)))
    parts = np.array_split(np.arange(len(plan.y)), 5)
    sample = HorvitzThompson(plan.population, per_site_floor=plan.floor)
    for part in parts:
        i = np.intersect1d(part, drawn)
        covered = int(plan.sites[part].sum())
        sample.add(plan.y[i], plan.sites[i], plan.pi[i], covered=covered)
        found = sample.estimate()
        assert found.low <= plan.rate <= found.high
        left = plan.population - sample.covered
        assert found.high - found.low >= left / plan.population
    together = plan.horvitz_thompson(drawn)
    for name in ("value", "low", "high", "n", "ess"):
        assert getattr(found, name) == pytest.approx(getattr(together, name))


def test_a_census_in_parts_is_the_census_in_parts() -> None:
    plan = design(floor=1.0)
    sample = HorvitzThompson(plan.population, per_site_floor=1.0)
    counted = Census(plan.population)
    for part in np.array_split(np.arange(len(plan.y)), 4):
        sample.add(plan.y[part], plan.sites[part], plan.pi[part], covered=int(plan.sites[part].sum()))
        counted.add(plan.y[part], plan.sites[part])
        assert sample.estimate() == counted.estimate()


@pytest.mark.parametrize(
    ("y", "sites", "pi", "words"),
    [
        ([0, 1], [3], [1.0], "three"),
        ([2], [3], [1.0], "0 and 1"),
        ([1], [0], [1.0], "whole numbers from 1"),
        ([1], [1.5], [1.0], "whole numbers from 1"),
        ([1], [3], [1.1], "inclusion"),
        ([1], [3], [0.02], "floor"),
        ([1], [3], [np.nan], "inclusion"),
        ([1], [101], [1.0], "101 sites"),
    ],
)
def test_impossible_samples_are_refused(y: Any, sites: Any, pi: Any, words: str) -> None:
    with pytest.raises(BadData, match=rf"{words}.*") as caught:
        horvitz_thompson(y, sites, pi, population=100, per_site_floor=0.01)
    assert "allowed" in str(caught.value)
    with pytest.raises(BadData, match=words):
        difference(y, sites, pi, [0.0] * len(y), predicted_total=0, population=100, per_site_floor=0.01)


def test_a_floor_of_nothing_and_predictions_that_are_none_are_refused() -> None:
    with pytest.raises(BadData, match="per_site_floor=0"):
        horvitz_thompson([1], [1], [0.5], population=10, per_site_floor=0)
    for wrong in ([0.5, 0.5], [1.5], [np.nan]):
        with pytest.raises(BadData, match=r"predicted .*allowed"):
            difference([1], [1], [0.5], wrong, predicted_total=1, population=10, per_site_floor=0.1)
