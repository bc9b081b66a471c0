"""Ratios of rates of the same trials, of every small table of events kept, mended and broken."""

from __future__ import annotations

from itertools import product
from math import inf, isclose, isnan, log, sqrt

import numpy as np
import pytest

from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.intervals import wilson
from emulator.sampling.paired_ratio import paired_ratio
from emulator.sampling.ratio_of_rates import Ratio, ratio_of_rates

N = 1000
TABLES = [table for table in product((0, 1, 2, 5, 40, 300), repeat=3) if any(table)]


def rate(events: int, n: int = N) -> Estimate:
    return hansen_hurwitz(np.arange(n) < events, np.ones(n))


def ratio(kept: int, mended: int, broken: int) -> Ratio:
    only = {"first_only": rate(mended), "second_only": rate(broken)}
    return paired_ratio(rate(kept + mended), rate(kept + broken), **only)


def width(found: Ratio) -> float:
    return log(found.high / found.low) if found.low > 0 and found.high < inf else inf


@pytest.mark.parametrize(("kept", "mended", "broken"), TABLES)
def test_it_is_the_ratio_and_exchanged_its_inverse(kept: int, mended: int, broken: int) -> None:
    found, exchanged = ratio(kept, mended, broken), ratio(kept, broken, mended)
    first, second = kept + mended, kept + broken
    assert found.value == pytest.approx(first / second if second else inf)
    assert found.low < found.high and found.low <= found.value <= found.high
    assert isclose(found.low, 1 / exchanged.high) and isclose(exchanged.low, 1 / found.high)
    assert (found.high == inf) == (second == 0 or wilson(second, N)[0] == 0)


@pytest.mark.parametrize(("kept", "mended", "broken"), TABLES)
def test_it_is_no_wider_than_that_of_independent_rates_that_rise_together(
    kept: int, mended: int, broken: int
) -> None:
    """Those that exclude one another rather vary against each other: then it is the wider one, rightly."""
    first, second = kept + mended, kept + broken
    together = kept * N >= first * second
    apart = ratio_of_rates(rate(first), rate(second))
    if together:
        assert width(ratio(kept, mended, broken)) <= 1.001 * width(apart)
    elif width(apart) < inf:
        assert width(ratio(kept, mended, broken)) > width(apart)


def test_without_a_difference_it_is_narrow_but_no_point() -> None:
    """0 of n mended may be up to Wilson's upper end u: R - 1 = u / sqrt(low (2 rate - low))."""
    found = ratio(50, 0, 0)
    low, high = wilson(50, N)[0], wilson(0, N)[1]
    assert found.value == 1
    assert found.high == pytest.approx(1 + high / sqrt(low * (2 * 50 / N - low)))
    assert found.low == pytest.approx(1 / found.high)
    assert width(found) < 0.3 * width(ratio_of_rates(rate(50), rate(50)))
    assert not found.differs


def test_one_that_is_mended_of_many_is_no_proof_but_ten_are() -> None:
    assert not ratio(300, 1, 0).differs
    assert ratio(300, 10, 0).low > 1
    assert ratio(300, 0, 10).high < 1


def test_nothing_seen_says_nothing() -> None:
    found = ratio(0, 0, 0)
    assert isnan(found.value) and (found.low, found.high) == (0, inf)
    assert str(found) == "unknown" and not found.differs


def test_what_nobody_saw_weighs_in_it() -> None:
    """Of weighted draws a mended fault that was not seen may weigh as much as any."""
    weight, events = np.full(N, 0.2), np.arange(N) < 100

    def of(heaviest: float) -> Ratio:
        all_kept, none = (hansen_hurwitz(e, weight, max_weight=heaviest) for e in (events, events & False))
        return paired_ratio(all_kept, all_kept, first_only=none, second_only=none)

    assert 1 < of(0.5).high < of(2.0).high
