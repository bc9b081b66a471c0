"""Confidence intervals of a proportion. Wald is not among them: it covers 85 % at p = .0034, n = 1000."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from emulator.errors import BadData


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """(low, high), Wilson's score interval, always inside [0, 1]; (0, 1) for n = 0.

    successes and n may be effective, that is real, sizes. Raises BadData unless 0 <= successes <= n and
    0 < confidence < 1. Wilson, JASA 22, 1927.
    """
    _check("wilson", successes, n, confidence)
    if n == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    p = successes / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 / n * (p * (1 - p) + z2 / (4 * n))) / (1 + z2 / n)
    # Rounding must neither leave [0, 1] nor exclude the estimate itself.
    return max(0.0, min(p, centre - half)) if p > 0 else 0.0, min(
        1.0, max(p, centre + half)
    ) if p < 1 else 1.0


def wilson_size(rate: float, low: float, high: float, confidence: float = 0.95) -> float:
    """How many trials at this rate have a Wilson interval as wide as [low, high], which is wider than nothing.

    With z the normal quantile and w the width, n w^2 (1 + z^2 / n)^2 = z^2 (4 rate (1 - rate) + z^2 / n): a quadratic
    in n.
    """
    z2, w2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2, (high - low) ** 2
    # n^2 w^2 + n (2 z^2 w^2 - 4 z^2 rate (1 - rate)) + z^4 (w^2 - 1) = 0
    b, c = z2 * (2 * w2 - 4 * rate * (1 - rate)), z2**2 * (w2 - 1)
    return max(0.0, (-b + sqrt(b**2 - 4 * w2 * c)) / (2 * w2))


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """(low, high), the interval whose coverage is at least `confidence` at every rate, so wider than Wilson's on
    average; (0, 1) for n = 0.

    The ends are quantiles of beta distributions. Raises BadData like `wilson`. Clopper & Pearson, Biometrika 26, 1934.
    """
    from scipy.special import betaincinv

    _check("clopper_pearson", successes, n, confidence)
    tail, failures = (1 - confidence) / 2, n - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - tail)) if failures else 1.0
    return low, high


def check_confidence(confidence: float) -> None:
    """Raises BadData unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise BadData(
            f"confidence={confidence!r}; allowed: between 0 and 1, both excluded. Use for example 0.95."
        )


def _check(interval: str, successes: float, n: float, confidence: float) -> None:
    check_confidence(confidence)
    if not 0 <= successes <= n:
        raise BadData(f"{interval}: successes={successes!r} of n={n!r}; allowed: 0 <= successes <= n.")
