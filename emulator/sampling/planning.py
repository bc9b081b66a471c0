"""How many uniform trials a campaign needs, before any is made.

n = N / (1 + e^2 (N - 1) / (t^2 p (1 - p))) faults of N, for a margin of error e at a rate p, t the normal quantile;
p = 0.5 is the worst case. Leveugle, Calvez, Maistri & Vanhauwaert, Statistical fault injection, DATE'09.
"""

from __future__ import annotations

from math import ceil, sqrt
from statistics import NormalDist

from emulator.errors import BadConfig


def sample_size(population: int, *, error: float, p: float = 0.5, confidence: float = 0.95) -> int:
    """Trials, drawn without replacement, for a half-width of `error`; 1 to `population`, which may exceed 64 bits.

    Raises BadConfig unless population >= 1 and error, p and confidence are between 0 and 1.
    """
    _check(population, p=p, confidence=confidence, error=error)
    endless = _quantile(confidence) ** 2 * p * (1 - p) / error**2
    return min(population, max(1, ceil(endless / (1 + (endless - 1) / population))))


def margin_of_error(n: int, population: int, *, p: float = 0.5, confidence: float = 0.95) -> float:
    """The half-width after n trials, drawn without replacement: the inverse of `sample_size`; 0 where all are drawn.

    Raises BadConfig unless 1 <= n <= population, and like `sample_size`.
    """
    _check(population, p=p, confidence=confidence)
    if not 1 <= n <= population:
        raise BadConfig(f"margin_of_error: n={n}; allowed: 1 to {population}, the population.")
    if n == population:
        return 0.0
    return _quantile(confidence) * sqrt(p * (1 - p) / n * ((population - n) / (population - 1)))


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _check(population: int, **shares: float) -> None:
    if population < 1:
        raise BadConfig(f"population={population}; allowed: 1 or more.")
    for name, value in shares.items():
        if not 0 < value < 1:
            raise BadConfig(f"{name}={value!r}; allowed: between 0 and 1, both excluded. 0.01 is 1 %.")
