"""Estimates of what is left against plain sums, and who may judge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from test_units import struck_everywhere

from emulator.errors import BadConfig, BadData
from emulator.harden.held_out import Census, Drawn, split
from emulator.sampling.confidence_sequence import ConfidenceSequence
from emulator.sampling.estimators import hansen_hurwitz


def test_a_fraction_of_an_event_counts_as_one() -> None:
    rng = np.random.default_rng(0)
    weight, amount = rng.uniform(0.2, 2, 500), rng.choice([0, 0, 0, 0.1, 1.0], 500)
    found = Drawn(weight=weight, max_weight=2.0, doubt=0.05).rate(amount)
    assert found.rate.value == pytest.approx(np.mean(weight * amount))
    assert found.rate.low < found.rate.value < found.rate.high
    assert found.at_most > found.rate.value
    whole = Drawn(weight=weight, max_weight=2.0, doubt=0.05).rate(np.ceil(amount))
    assert whole.rate.value == pytest.approx(hansen_hurwitz(amount > 0, weight, max_weight=2.0).value)


def test_the_bound_is_a_confidence_sequence_all_on_one_side() -> None:
    """A doubt of 5 % above is a sequence of 90 %; an event that is left in part has a part of its weight."""
    rng = np.random.default_rng(3)
    weight, amount = rng.uniform(0.2, 2, 500), rng.choice([0.1, 1.0], 500)
    sequence = ConfidenceSequence(max_weight=2.0, confidence=0.9)
    sequence.add(np.ones(500, bool), weight * amount)
    found = Drawn(weight=weight, max_weight=2.0, doubt=0.05).rate(amount)
    assert found.at_most == max(found.rate.value, sequence.estimate().high)
    rare = np.where(np.arange(500) < 5, amount, 0.0)
    sequence = ConfidenceSequence(max_weight=2.0, confidence=0.9)
    sequence.add(rare > 0, np.where(rare > 0, weight * rare, 2.0))
    assert Drawn(weight=weight, max_weight=2.0, doubt=0.05).rate(rare).at_most == sequence.estimate().high


def test_what_nearly_always_happens_is_judged_by_what_does_not() -> None:
    """The weights spread far more than what is missed."""
    rng = np.random.default_rng(2)
    weight = np.where(rng.random(4000) < 0.5, 0.2, 1.8)
    amount = np.where(rng.random(4000) < 0.02, 0.5, 1.0)
    rate = Drawn(weight=weight, max_weight=2.0, doubt=0.05).rate(amount).rate
    assert rate.low < 0.99 < rate.high <= 1
    assert rate.high - rate.low < 0.01


@pytest.mark.parametrize("left", [0.03, 0.5, 0.97])
def test_a_share_is_the_part_of_the_events_either_way_round(left: float) -> None:
    rng = np.random.default_rng(1)
    weight, whole = rng.uniform(0.2, 2, 4000), (rng.random(4000) < 0.1).astype(float)
    part = whole * (rng.random(4000) < left)
    found = Drawn(weight=weight, max_weight=2.0, doubt=0.05).share(part, whole)
    assert found.value == pytest.approx((weight * part).sum() / (weight * whole).sum())
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.15
    assert found.n == int(whole.sum())


def test_events_removed_in_part_are_shared_out() -> None:
    weight, whole = np.full(50, 1.5), np.ones(50)
    found = Drawn(weight=weight, max_weight=2.0, doubt=0.05).share(0.9 * whole, whole)
    assert found.value == pytest.approx(0.9)


def test_a_census_leaves_no_doubt() -> None:
    judge = Census(sites=np.array([10.0, 30.0, 60.0]))
    found = judge.rate(np.array([1.0, 0.0, 0.5]))
    assert (found.rate.value, found.rate.low, found.at_most, found.rate.confidence) == (0.4, 0.4, 0.4, 1.0)
    assert judge.share(np.array([1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.5])).value == 0.25


def test_the_first_half_chooses_and_the_second_judges(truth: Callable) -> None:
    trials = split(truth().campaign(0, 1001))
    assert (trials.choosing.sum(), trials.choosing[:500].all(), trials.judging[500:].all()) == (
        500,
        True,
        True,
    )
    assert not (trials.choosing & trials.judging).any()


def test_a_campaign_that_looked_splits_where_its_end_has_no_say(truth: Callable) -> None:
    """2^k trials choose, whatever n is, and the doubt is split over all k."""
    known = truth(looked=True)
    for n, first in ((1000, 512), (1024, 512), (1025, 1024)):
        trials = split(known.campaign(0, n))
        assert trials.choosing.sum() == first
        k = first.bit_length() - 1
        assert trials.judge.doubt == pytest.approx(0.05 / ((k + 1) * (k + 2)))
    assert sum(1 / ((k + 1) * (k + 2)) for k in range(10_000)) == pytest.approx(1, abs=1e-3)


def test_sites_that_were_judged_in_part_are_refused(truth: Callable) -> None:
    with pytest.raises(BadConfig, match="Finish it with the sampler exhaustive, or run one with"):
        split(struck_everywhere(sampler={"name": "sweep", "trials": 10}))
    with pytest.raises(BadData, match="2 or more"):
        split(truth().campaign(0, 1))
