"""Does the ratio of rates of the same trials keep its promise, and is it narrower? Against ratios of 1 to 20."""

from __future__ import annotations

from math import inf, log

import numpy as np
import pytest
from simulated_draws import ALIKE, FORESEEN, GUESSED, Draws, simulated

from emulator.sampling.paired_ratio import paired_ratio
from emulator.sampling.ratio_of_rates import Ratio, ratio_of_rates

pytestmark = pytest.mark.slow

SEEDS = 1500
KEPT, MENDED, BROKEN = range(3)

WIDTHS = {
    (300, 0, 0): 0.35,
    (300, 3, 0): 0.35,
    (300, 2, 2): 0.4,
    (300, 30, 30): 0.6,
    (100, 200, 10): 0.9,
    (20, 60, 0): 0.95,
    (10, 190, 1): 1.03,
    (3, 57, 0): 1.03,
    (10, 3, 3): 0.95,
    (0, 20, 20): 1.03,
    (100, 0, 100): 0.85,
}
"""Expected events kept, mended and broken in 4,000 uniform draws, and how wide the interval is at most, on the
logarithmic scale and in the median, when that of independent rates is 1."""


def ratios(draws: Draws) -> tuple[Ratio, Ratio]:
    before, after = draws.rate(KEPT, MENDED), draws.rate(KEPT, BROKEN)
    paired = paired_ratio(before, after, first_only=draws.rate(MENDED), second_only=draws.rate(BROKEN))
    return paired, ratio_of_rates(before, after)


def width(ratio: Ratio) -> float:
    return log(ratio.high / ratio.low) if ratio.low > 0 and ratio.high < inf else inf


@pytest.mark.parametrize(
    "weights", [(ALIKE,) * 3, (FORESEEN, FORESEEN, GUESSED)], ids=["uniform", "importance"]
)
@pytest.mark.parametrize("expected", WIDTHS, ids=str)
def test_the_interval_covers_the_ratio_and_is_narrower(
    expected: tuple[int, int, int], weights: tuple[tuple[float, ...], ...]
) -> None:
    kept, mended, broken = expected
    true = (kept + mended) / (kept + broken)
    found = [ratios(draws) for draws in simulated(expected, weights, SEEDS)]
    covered, independently = (
        np.mean([ratio[i].low <= true * (1 + 1e-9) and true <= ratio[i].high * (1 + 1e-9) for ratio in found])
        for i in (0, 1)
    )
    both = [(width(paired), width(apart)) for paired, apart in found]
    narrower = np.median([paired / apart for paired, apart in both if apart < inf])
    print(
        f"\n{expected}: ratio {true:.3g}, coverage {covered:.3f} (independent {independently:.3f}), "
        f"{narrower:.2f} as wide; {found[0][0]} for {found[0][1]}"
    )
    # Three standard errors below 95 %.
    assert covered >= 0.933
    assert narrower <= WIDTHS[expected]


@pytest.mark.parametrize("shares", [(0.3, 0.3, 0.05), (0.45, 0.1, 0.0), (0.1, 0.45, 0.3), (0.6, 0.2, 0.05)])
@pytest.mark.parametrize("weights", [ALIKE, (2 / 3, 2.0)], ids=["uniform", "weighted"])
def test_it_covers_ratios_of_rates_about_one_half(
    shares: tuple[float, ...], weights: tuple[float, ...]
) -> None:
    """Where weighted rates above 1/2 are estimated by their opposite, and those below are not."""
    rng, n, covered = np.random.default_rng(1), 500, []
    true = (shares[0] + shares[1]) / (shares[0] + shares[2])
    for _ in range(SEEDS):
        # Half of the sites weigh 2/3, and are drawn three times as often as those that weigh 2.
        weight = rng.choice(weights, n, p=[0.75, 0.25] if len(weights) > 1 else None)
        draws = Draws(kind=rng.choice(4, n, p=[*shares, 1 - sum(shares)]), weight=weight)
        paired, _ = ratios(draws)
        assert paired.low <= paired.value <= paired.high
        covered.append(paired.low <= true <= paired.high)
    print(f"\n{shares}: coverage {np.mean(covered):.3f}")
    assert np.mean(covered) >= 0.93
