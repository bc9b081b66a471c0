"""Ratios of rates against simulated pairs whose ratio is known."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.ratio_of_rates import Ratio, ratio_of_rates


def rate(events: int, n: int) -> Estimate:
    return hansen_hurwitz(np.arange(n) < events, np.ones(n))


@pytest.mark.parametrize(("first", "second"), [(0.2, 0.05), (0.01, 0.01), (0.02, 0.002)])
def test_the_interval_covers_the_ratio(first: float, second: float) -> None:
    rng, n = np.random.default_rng(0), 3000
    found = [
        ratio_of_rates(rate(rng.binomial(n, first), n), rate(rng.binomial(n, second), n)) for _ in range(800)
    ]
    coverage = np.mean([r.low <= first / second <= r.high for r in found])
    print(f"\n{first} / {second}: coverage {coverage:.3f}, {found[0]}")
    assert 0.93 <= coverage <= 0.985


def test_pairs_that_rise_together_are_no_narrower_than_they_should_be() -> None:
    rng, n, found = np.random.default_rng(1), 3000, []
    for _ in range(500):
        first = rng.random(n) < 0.05
        second = first & (rng.random(n) < 0.2)
        found.append(ratio_of_rates(rate(int(first.sum()), n), rate(int(second.sum()), n)))
    assert np.mean([r.low <= 5 <= r.high for r in found]) >= 0.95


def test_no_event_leaves_the_ends_of_the_least_favourable_pair() -> None:
    some, none = rate(50, 1000), rate(0, 1000)
    fewer, more, neither = ratio_of_rates(some, none), ratio_of_rates(none, some), ratio_of_rates(none, none)
    assert (fewer.value, fewer.low, fewer.high) == (inf, some.low / none.high, inf)
    assert fewer.to_json()["value"] is None
    assert (more.value, more.low, more.high) == (0, 0, none.high / some.low)
    assert (neither.low, neither.high) == (0, inf)


def test_an_interval_without_an_end_is_told_by_the_other() -> None:
    some, few, none = rate(50, 1000), rate(2, 1000), rate(0, 1000)
    known = ratio_of_rates(some, few)
    assert str(known) == f"25 [{known.low:.3g}, {known.high:.3g}]"
    assert str(ratio_of_rates(some, none)) == f"at least {some.low / none.high:.3g}"
    assert str(ratio_of_rates(none, some)) == f"at most {none.high / some.low:.3g}"
    assert str(ratio_of_rates(none, none)) == "unknown"
    unsure = Ratio(value=1.5, low=0.8, high=inf, confidence=0.95, method="mover")
    wide = Ratio(value=2.67, low=0.00396, high=3234, confidence=0.95, method="mover")
    assert str(wide) == "2.67 [0.00396, 3,230]"
    assert str(unsure) == "1.5, at least 0.8"
    assert not unsure.differs and known.differs


def test_nothing_before_and_nothing_after_says_nothing() -> None:
    nothing = Estimate.exact(0.0)
    found = ratio_of_rates(nothing, nothing)
    assert found.to_json() == {"value": None, "low": 0.0, "high": None, "confidence": 1.0, "method": "ends"}
