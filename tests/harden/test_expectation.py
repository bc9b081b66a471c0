"""Expected contributions against sums by hand, and against a known truth that raw events miss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from known_truth import ARRAY, Truth

from emulator.array.registers import register
from emulator.harden.expectation import PRIOR_EVENTS_OF_ALL, expected


def test_two_units_by_hand() -> None:
    """Equal exposure; one of two units had both events, all of weight 1."""
    of, amount, weight = np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 0.0, 0.0]), np.ones(4)
    own = np.arange(2)
    found = expected(weight, amount, of, np.array([8.0, 8.0]), (own,), (own,))
    a = PRIOR_EVENTS_OF_ALL
    # Two trials each: exposure 2. A rate of 1/2 before, then 2 and 0 events.
    rate = [(a + 2) / (a / 0.5 + 2), a / (a / 0.5 + 2)]
    assert found == pytest.approx([2 * rate[0], 2 * rate[1]])


def test_what_was_never_struck_is_as_its_coarser_unit_and_less_than_those_that_were() -> None:
    of, amount = np.array([0, 0, 1]), np.array([1.0, 1.0, 0.0])
    alike = np.array([0, 0, 0, 1])
    own = np.arange(4)
    found = expected(np.ones(3), amount, of, np.full(4, 4.0), (alike, own), (alike, own))
    assert found[0] > found[1] > 0 and found[0] > found[2] > found[3] > 0


def test_what_no_trial_ever_reaches_is_not_in_use() -> None:
    """Of two rows with the same bits, one is struck throughout and one never: only the first is worth much."""
    of, amount = np.tile([0, 1, 2, 3], 10), np.zeros(40)
    amount[0] = 1
    row, bit = np.repeat([0, 1], 4), np.tile([0, 0, 1, 1], 2)
    own = np.arange(8)
    found = expected(np.ones(40), amount, of, np.ones(8), (row, own), (bit, own))
    assert found[1] > 5 * found[5] > 0
    assert found[1] > found[2]


def test_no_events_are_no_expectation() -> None:
    assert expected(np.ones(2), np.zeros(2), np.array([0, 1]), np.ones(2), (), ()).tolist() == [0, 0]


def test_many_light_events_of_a_unit_are_as_well_known_as_many_heavy_ones() -> None:
    """100 events of weight .01 beside 100 of weight 1: it was looked at there 100 times as often."""
    of, own = np.repeat([0, 1], 100), np.arange(3)
    weight = np.where(of == 0, 0.01, 1.0)
    found = expected(weight, np.ones(200), of, np.array([100.0, 100.0, 100.0]), (), (own,))
    assert found[:2] == pytest.approx([1, 100], rel=0.02)


def test_one_light_event_does_not_tell_that_others_of_its_unit_are() -> None:
    """Its unit is far nearer to the others than it would be if it were taken at its word."""
    of, own = np.repeat([0, 1, 2], [1, 50, 50]), np.arange(3)
    weight = np.where(of == 0, 1e-3, 1.0)
    found = expected(weight, np.ones(101), of, np.full(3, 50.0), (), (own,))
    assert 10 * weight[0] < found[0] < 5


def test_what_has_no_raw_rate_is_worth_exactly_nothing() -> None:
    """Of three registers alike but for their rate: 1, 0, .1; upsets of each are all events."""
    of, own = np.repeat([0, 1, 2], 20), np.arange(3)
    upset = np.array([1.0, 0.0, 0.1])
    found = expected(np.ones(60), upset[of], of, 20 * upset, (), (own,), upset[of])
    assert found[1] == 0
    assert found[[0, 2]] == pytest.approx([20, 2], rel=0.01)
    # Never struck: it is worth what its rate lets it be.
    some = of == 0
    found = expected(np.ones(20), upset[of[some]], of[some], 20 * upset, (own,), (own,), upset[of[some]])
    assert found[1] == 0
    assert 0 < found[2] < 0.2 * found[0]


def test_units_chosen_by_it_hold_more_than_those_chosen_by_their_events(
    truth: Callable[..., Truth],
) -> None:
    """Rates that go by significance, as they do: 10 % of the bits chosen after 600 trials, over 40 campaigns."""
    entry = register(ARRAY, "pe_b")
    *_, bit = entry.place(np.arange(entry.total_bits))
    known = Truth(name="pe_b", rate=0.3 / (1 + np.exp(12.0 - bit)))
    kept = entry.total_bits // 10
    held = {"shrunk": 0.0, "events": 0.0}
    for seed in range(40):
        run = known.campaign(seed, 600)
        of, amount = run.trials["drawn"].to_numpy(), run.trials["sdc1"].to_numpy(float)
        size, own = np.ones(entry.total_bits), np.arange(entry.total_bits)
        shrunk = expected(run.weight, amount, of, size, (own,), (np.zeros_like(bit), bit, own))
        raw = np.bincount(of, run.weight * amount, entry.total_bits)
        for name, worth in (("shrunk", shrunk), ("events", raw)):
            held[name] += known.rate[np.argsort(-worth, kind="stable")[:kept]].sum() / known.rate.sum() / 40
    assert held["shrunk"] > held["events"] + 0.04
