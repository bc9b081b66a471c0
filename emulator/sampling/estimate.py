"""A rate that never travels alone: the value, its interval, the trials behind it and how it was obtained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import floor, log10
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A rate in [0, 1] with its two-sided confidence interval.

    `n` counts the trials; `ess` is the number of uniform trials that would give the same interval. A counted
    quantity has method "exact", low = value = high and n = 0.
    """

    value: float
    low: float
    high: float
    confidence: float
    n: int
    ess: float
    method: str

    @classmethod
    def exact(cls, value: float) -> Estimate:
        """A share that was counted, not sampled."""
        return cls(value=value, low=value, high=value, confidence=1.0, n=0, ess=0.0, method="exact")

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2

    def scaled(self, factor: float) -> Estimate:
        """The same trials as a rate over a population `1 / factor` times as large; factor in [0, 1]."""
        return replace(self, value=self.value * factor, low=self.low * factor, high=self.high * factor)

    def complement(self) -> Estimate:
        """The rate of the opposite."""
        return replace(self, value=1 - self.value, low=1 - self.high, high=1 - self.low)

    def to_json(self) -> dict[str, Any]:
        """{"value", "low", "high", "confidence", "n", "ess", "method"}"""
        return asdict(self)

    def percent(self) -> tuple[str, str, str]:
        """Value, low, high in per cent with the digits the interval supports: ("3.1", "2.8", "3.4")."""
        return percents(self.value, self.low, self.high)

    def __str__(self) -> str:
        value, low, high = self.percent()
        if self.method == "exact":
            return f"{value} % (exact)"
        if self.method == "census" and self.low == self.high:
            return f"{value} % (all {grouped(self.n)} sites)"
        return f"{value} % [{low}, {high}], n = {grouped(self.n)}, ESS = {grouped(_rounded(self))}"


def percents(value: float, low: float, high: float) -> tuple[str, str, str]:
    """`Estimate.percent` of a rate and its interval."""
    digits = decimals(100 * value, 100 * (high - low) / 2)
    return f"{100 * value:.{digits}f}", f"{100 * low:.{digits}f}", f"{100 * high:.{digits}f}"


def grouped(number: float) -> str:
    """An integer in groups of three digits: 52 000."""
    return f"{round(number):,}".replace(",", " ")


def _rounded(estimate: Estimate) -> float:
    """The effective size is itself an estimate: three digits, unless it is just the number of trials."""
    return estimate.n if round(estimate.ess) == estimate.n else float(f"{estimate.ess:.3g}")


def decimals(value: float, half_width: float) -> int:
    """Digits behind the point that an interval supports: one significant digit of the half width (two when it starts
    with 1), and at least one of the value."""
    if half_width <= 0:
        return 2 if value <= 0 else max(0, 3 - floor(log10(value)))
    place = floor(log10(half_width))
    digits = -place + (half_width < 2 * 10.0**place)
    if value > 0:
        digits = max(digits, -floor(log10(value)))
    return min(max(0, digits), 15)
