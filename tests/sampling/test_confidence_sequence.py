"""The confidence sequence against a bet computed trial by trial, and against the worst moment to look."""

from __future__ import annotations

from math import log

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import BadConfig, BadData
from emulator.sampling.confidence_sequence import ConfidenceSequence, uniform_trials
from emulator.sampling.estimators import Tally, hansen_hurwitz
from emulator.sampling.intervals import wilson, wilson_size

Floats = npt.NDArray[np.float64]

RATE = 0.01
LAWS = {
    "uniform": (np.array([1.0]), np.array([1.0])),
    "light": (np.array([0.05, 5.0]), np.array([0.9, 0.1])),
    "heavy": (np.array([0.3, 10.0]), np.array([0.3, 0.7])),
    "mixed": (np.array([0.02, 0.1, 0.7, 2.0]), np.array([0.4, 0.3, 0.2, 0.1])),
}
"""Weights of the events, and the share of the rate that each holds."""


def trials(rng: np.random.Generator, law: str, shape: tuple[int, ...]) -> Floats:
    """w y of trials whose mean is RATE."""
    weights, shares = LAWS[law]
    chances = RATE * shares / weights
    outcomes = np.append(weights, 0.0)
    drawn: Floats = rng.choice(outcomes, shape, p=np.append(chances, 1 - chances.sum()))
    return drawn


def sequence(x: Floats, max_weight: float) -> ConfidenceSequence:
    found = ConfidenceSequence(max_weight=max_weight)
    add(found, x)
    return found


def add(to: Tally | ConfidenceSequence, x: Floats) -> None:
    to.add(x > 0, np.where(x > 0, x, min(1.0, x.max(initial=1.0))))


def log_capital(x: Floats, m: float, bets: Floats, shares: Floats) -> float:
    """Trial by trial, as Waudby-Smith & Ramdas write it: 1 + lambda (x - m), lambda = b / (1 + b m)."""
    fortunes = shares.copy()
    for value in x.tolist():
        fortunes *= 1 + bets / (1 + bets * m) * (value - m)
    return float(np.log(fortunes.sum()))


@pytest.mark.parametrize("law", LAWS)
def test_the_ends_are_where_the_stake_has_grown_forty_fold(law: str) -> None:
    x, top = trials(np.random.default_rng(4), law, (1500,)), float(LAWS[law][0].max())
    ends = sequence(x, top).estimate()
    new = ConfidenceSequence(max_weight=top)
    sides = ((new._higher, ends.low), (new._lower, ends.high))
    for stake, end in sides:
        shares = np.exp(stake.log_won)
        assert shares.sum() == pytest.approx(1)
        assert (1 + np.outer(stake.bets / (1 + stake.bets * end), np.array([0, top]) - end) >= 0).all()
        assert log_capital(x, end, stake.bets, shares) == pytest.approx(log(40), abs=1e-6)


@pytest.mark.parametrize("law", LAWS)
def test_it_covers_at_the_worst_of_all_moments(law: str) -> None:
    """As intervals for a number of trials fixed beforehand do not."""
    rng, replays, top = np.random.default_rng(5), 300, float(LAWS[law][0].max())
    missed = {"betting": 0, "fixed": 0}
    for _ in range(replays):
        looks: dict[str, Tally | ConfidenceSequence] = {
            "betting": ConfidenceSequence(max_weight=top),
            "fixed": Tally(max_weight=top),
        }
        right = dict.fromkeys(looks, True)
        for size in (100, 200, 400, 800, 1600, 3200, 6400):
            x = trials(rng, law, (size,))
            for name, growing in looks.items():
                add(growing, x)
                found = growing.estimate()
                right[name] &= found.low <= RATE <= found.high
        for name in missed:
            missed[name] += not right[name]
    assert missed["betting"] <= 0.05 * replays < missed["fixed"]


@pytest.mark.parametrize("law", LAWS)
def test_stopping_at_the_first_narrow_interval_keeps_the_promise(law: str) -> None:
    rng, replays, top = np.random.default_rng(6), 300, float(LAWS[law][0].max())
    missed = 0
    for _ in range(replays):
        growing = ConfidenceSequence(max_weight=top)
        while True:
            add(growing, trials(rng, law, (300,)))
            found = growing.estimate()
            if found.half_width <= 0.8 * RATE:
                break
        missed += not found.low <= RATE <= found.high
    assert missed <= 0.05 * replays


def test_draws_that_adapt_to_what_was_seen_are_covered() -> None:
    """Half the sites hold all events; the sampler turns to them the more, the more events it saw."""
    rng, replays, rate, missed = np.random.default_rng(7), 200, 0.01, 0
    for _ in range(replays):
        growing, focus = ConfidenceSequence(max_weight=4.0), 0.5
        for _ in range(20):
            inside = rng.random(200) < focus
            weight = np.where(inside, 0.5 / focus, 0.5 / (1 - focus))
            y = inside & (rng.random(200) < 2 * rate)
            growing.add(y, weight)
            focus = min(0.875, focus + 0.02 * y.sum())
            found = growing.estimate()
            if not found.low <= rate <= found.high:
                missed += 1
                break
    assert missed <= 0.05 * replays


@pytest.mark.parametrize("law", ["uniform", "light"])
@pytest.mark.parametrize("n", [10_000, 100_000])
def test_any_time_costs_little_width(law: str, n: int) -> None:
    rng, top = np.random.default_rng(8), float(LAWS[law][0].max())
    ratios = []
    for _ in range(5):
        x = trials(rng, law, (n,))
        fixed = hansen_hurwitz(x > 0, np.where(x > 0, x, 1.0), max_weight=top)
        ratios.append(sequence(x, top).estimate().half_width / fixed.half_width)
    assert 1 < np.mean(ratios) < 1.8


@pytest.mark.parametrize("max_weight", [1.0, 2.0, 10.0])
@pytest.mark.parametrize("n", [500, 100_000])
def test_no_event_bounds_the_rate_within_twice_the_fixed_bound(max_weight: float, n: int) -> None:
    weight = np.full(n, 0.5)
    growing = ConfidenceSequence(max_weight=max_weight)
    growing.add(np.zeros(n), weight)
    found = growing.estimate()
    fixed = hansen_hurwitz(np.zeros(n), weight, max_weight=max_weight)
    assert (found.value, found.low, found.n) == (0.0, 0.0, n)
    assert fixed.high < found.high < 2 * fixed.high


def test_neither_order_nor_looks_nor_parts_matter() -> None:
    rng = np.random.default_rng(9)
    x = trials(rng, "mixed", (5000,))
    whole = sequence(x, 2.0).estimate()
    growing = ConfidenceSequence(max_weight=2.0)
    for part in np.array_split(rng.permutation(x), 9):
        add(growing, part)
        growing.estimate()
    found = growing.estimate()
    assert (found.low, found.high) == (pytest.approx(whole.low), pytest.approx(whole.high))


def test_intervals_hold_the_value_and_stay_inside_the_unit_interval() -> None:
    rng = np.random.default_rng(10)
    for _ in range(200):
        n = int(rng.integers(1, 60))
        growing = ConfidenceSequence(max_weight=5.0)
        growing.add(rng.random(n) < rng.random(), np.exp(rng.uniform(-12, log(5), n)))
        found = growing.estimate()
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert (found.method, found.n) == ("betting", n)


@pytest.mark.parametrize(("rate", "half_width"), [(0.5, 0.05), (0.5, 0.2), (0.02, 0.01)])
def test_so_many_uniform_trials_are_as_narrow_and_one_fewer_is_not(rate: float, half_width: float) -> None:
    def width_after(n: int) -> float:
        sequence = ConfidenceSequence()
        sequence.add(np.arange(n) < round(n * rate), np.ones(n))
        return sequence.estimate().half_width

    found = uniform_trials(half_width, rate=rate)
    assert width_after(round(0.97 * found)) > half_width >= width_after(round(1.03 * found))


@pytest.mark.parametrize("wrong", [{"half_width": 0.0}, {"half_width": 0.1, "rate": 1.0}])
def test_a_width_that_none_is_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadConfig, match="allowed: between 0 and 1"):
        uniform_trials(**wrong)


def test_weights_above_the_bound_are_refused() -> None:
    with pytest.raises(BadData, match="max_weight=2"):
        ConfidenceSequence(max_weight=2.0).add([1], [2.5])


@given(events=st.integers(0, 300), n=st.integers(301, 100_000))
def test_its_size_is_that_of_a_wilson_interval_as_wide(events: int, n: int) -> None:
    sequence = ConfidenceSequence()
    sequence.add(np.arange(n) < events, np.ones(n))
    found = sequence.estimate()
    low, high = wilson(found.value * found.ess, found.ess)
    assert high - low == pytest.approx(found.high - found.low, rel=1e-6)
    assert found.ess < n


@given(events=st.integers(0, 50), n=st.integers(51, 10_000))
def test_the_size_of_a_wilson_interval_is_its_trials(events: int, n: int) -> None:
    assert wilson_size(events / n, *wilson(events, n)) == pytest.approx(n)
