"""Does the FIT of registers with several raw rates keep the promise of its interval? Against simulated rates."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_draws import ALIKE, DRAWS, FORESEEN, Draws, simulated

from emulator.array.fit import Fit, fit_of_parts, sdc_fit

pytestmark = pytest.mark.slow

SEEDS = 1500
CASES = [
    ((20.0, 20.0), (20, 34)),
    ((100.0, 5.0), (1, 20)),
    ((5.0, 5.0, 5.0), (10, 20, 30)),
    ((100.0, 50.0, 10.0, 5.0), (1, 3, 9, 30)),
    ((3.0, 0.0), (1, 5)),
]
"""Expected events of parts in 4,000 uniform draws, and their raw rates in FIT per Mbit."""


def parts(draws: Draws, raw: tuple[int, ...]) -> list[Fit]:
    rates = [draws.rate(kind) for kind in range(len(raw))]
    return [sdc_fit(10**6, fit, (r.value, r.low, r.high)) for fit, r in zip(raw, rates, strict=True)]


@pytest.mark.parametrize("weights", [ALIKE, FORESEEN], ids=["uniform", "importance"])
@pytest.mark.parametrize(("expected", "raw"), CASES)
def test_the_interval_covers_the_fit_and_is_narrower_than_the_sum_of_the_ends(
    expected: tuple[float, ...], raw: tuple[int, ...], weights: tuple[float, ...]
) -> None:
    true = sum(fit * events / DRAWS for fit, events in zip(raw, expected, strict=True))
    covered, widths = [], []
    for draws in simulated(expected, (weights,) * len(raw), SEEDS):
        found = parts(draws, raw)
        fit = fit_of_parts(found)
        covered.append(fit.low <= true <= fit.high)
        widths.append((fit.high - fit.low) / sum(part.high - part.low for part in found))
    print(f"\n{expected} {raw}: coverage {np.mean(covered):.3f}, {np.median(widths):.2f} as wide as the ends")
    assert np.mean(covered) >= 0.933
    assert np.median(widths) < 0.95
