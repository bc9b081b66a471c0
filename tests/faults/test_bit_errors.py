"""Upsets at a bit-error rate against what independent flips of every bit in every cycle would be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, chisquare

from emulator.errors import BadConfig
from emulator.faults.bit_errors import MOST_UPSETS, BitErrors
from emulator.faults.fault import Fault
from emulator.faults.space import FaultSpace


def errors_of(digits: Any, *registers: str, layers: list[str] | None = None) -> BitErrors:
    return BitErrors(FaultSpace(digits.network, digits.array, registers=list(registers), layers=layers))


@pytest.mark.parametrize("expected", [0.02, 0.7, 5.0])
def test_upsets_are_those_of_independent_bits(digits: Any, expected: float) -> None:
    # One bit, always live, and one layer: as many sites as cycles.
    errors, draws = errors_of(digits, "seq_active", layers=["fc"]), 2500
    assert errors.sites == errors.space.live < 200
    rate = expected / errors.sites
    assert errors.struck(rate) == pytest.approx(1 - (1 - rate) ** errors.sites)
    rng = np.random.default_rng(0)
    found = [[upset.cycle for upset in errors.draw(rate, rng)[2]] for _ in range(draws)]
    assert all(len(set(cycles)) == len(cycles) for cycles in found)
    # How many: binomial, given that it is not 0.
    counts = np.bincount([min(len(cycles), 9) for cycles in found], minlength=10)[1:]
    chances = binom.pmf(np.arange(1, 10), errors.sites, rate)
    chances[-1] = binom.sf(8, errors.sites, rate)
    likely = draws * chances / errors.struck(rate) > 5
    assert counts[~likely].sum() <= 25
    share = chances[likely] / chances[likely].sum()
    assert likely.sum() == 1 or chisquare(counts[likely], counts[likely].sum() * share).pvalue > 1e-3
    # Where: anywhere alike.
    where = np.bincount([cycle for cycles in found for cycle in cycles], minlength=errors.sites)
    assert chisquare(where).pvalue > 1e-3


def test_at_the_smallest_rates_there_is_one_upset(digits: Any) -> None:
    errors, rng = errors_of(digits, "pe_b"), np.random.default_rng(1)
    for rate in (1e-18, 1e-300):
        assert errors.struck(rate) == pytest.approx(rate * errors.sites)
        drawn = [errors.draw(rate, rng) for _ in range(50)]
        assert all(sum(map(len, upsets.values())) == 1 for upsets in drawn)


def test_dead_sites_are_drawn_where_they_may_do_something(digits: Any) -> None:
    alone, mixed = errors_of(digits, "accumulator"), errors_of(digits, "accumulator", "pe_valid")
    assert alone.only_live and alone.sites == alone.space.live
    assert not mixed.only_live and mixed.sites == mixed.space.size
    rng, drawn = np.random.default_rng(2), 200
    for upsets in (mixed.draw(3 / mixed.sites, rng) for _ in range(drawn)):
        for layer, together in upsets.items():
            lives = [mixed.space.is_live(Fault(layer=layer, upset=upset)) for upset in together]
            assert any(lives) or len(lives) > 1
    # One upset in a dead site, and no other, is nothing.
    nothing = sum(not mixed.draw(1e-18, rng) for _ in range(drawn))
    dead = 1 - mixed.space.live_share
    assert abs(nothing - drawn * dead) < 4 * (drawn * dead * (1 - dead)) ** 0.5


def test_as_many_sites_are_drawn_as_the_rate_says(digits: Any) -> None:
    errors, rng = errors_of(digits, "pe_a", "pe_c1"), np.random.default_rng(3)
    counts = [sum(map(len, errors.draw(500 / errors.sites, rng).values())) for _ in range(40)]
    # Few are in a layer by themselves.
    assert np.mean(counts) == pytest.approx(500, abs=4 * (500 / 40) ** 0.5)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), 1.0, 0.1])
def test_rates_that_nothing_survives_are_refused(digits: Any, rate: float) -> None:
    errors = errors_of(digits, "accumulator")
    assert errors.highest_rate * errors.sites == pytest.approx(MOST_UPSETS)
    errors.check(errors.highest_rate)
    with pytest.raises(BadConfig, match="allowed: above 0, up to"):
        errors.check(rate)
