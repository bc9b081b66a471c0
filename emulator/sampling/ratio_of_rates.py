"""How many times as large one rate is as another."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, isfinite, log, nan, sqrt
from typing import Any

from emulator.sampling.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """first / second with its interval; inf where the second is 0, NaN where both are, in JSON null."""

    value: float
    low: float
    high: float
    confidence: float
    method: str

    def to_json(self) -> dict[str, Any]:
        """{"value", "low", "high", "confidence", "method"}"""
        ends = {name: getattr(self, name) for name in ("value", "low", "high")}
        plain = {name: end if isfinite(end) else None for name, end in ends.items()}
        return {**plain, "confidence": self.confidence, "method": self.method}

    @property
    def differs(self) -> bool:
        """Is 1 outside the interval?"""
        return self.low > 1 or self.high < 1

    def __str__(self) -> str:
        value, low, high = map(_three_digits, (self.value, self.low, self.high))
        ends = [f"at least {low}"] * (self.low > 0) + [f"at most {high}"] * isfinite(self.high)
        if len(ends) == 2:
            return f"{value} [{low}, {high}]"
        known = [value] * (isfinite(self.value) and self.value > 0)
        return ", ".join([*known, *ends]) if ends else "unknown"


def _three_digits(number: float) -> str:
    """Never in scientific notation from 0.001 on."""
    return f"{float(f'{number:.3g}'):,.0f}" if isfinite(number) and number >= 1000 else f"{number:.3g}"


def quotient(first: float, second: float) -> float:
    """first / second of rates; inf where the second is 0, NaN where both are."""
    if second == 0:
        return inf if first > 0 else nan
    return first / second


def ratio_of_rates(first: Estimate, second: Estimate) -> Ratio:
    """first / second of independent rates of one confidence; of the same trials it is wider than `paired_ratio`.

    On the logarithmic scale the distances to the ends combine as variances do (MOVER: Zou & Donner, Stat. Med. 27,
    2008, sec. 3). Where a rate is 0 there is no such scale: then the ends are those of the least favourable pair.
    """
    confidence = min(first.confidence, second.confidence)
    value = quotient(first.value, second.value)
    if first.high == second.high == 0:
        return Ratio(value=value, low=0.0, high=inf, confidence=confidence, method="ends")
    if first.value == 0 or second.value == 0:
        low = first.low / second.high if second.high > 0 else inf
        high = first.high / second.low if second.low > 0 else inf
        return Ratio(value=value, low=low, high=high, confidence=confidence, method="ends")
    down = sqrt(_below(first) ** 2 + _above(second) ** 2)
    up = sqrt(_above(first) ** 2 + _below(second) ** 2)
    return Ratio(
        value=value, low=value * exp(-down), high=value * exp(up), confidence=confidence, method="mover"
    )


def _below(rate: Estimate) -> float:
    return log(rate.value / rate.low) if rate.low > 0 else inf


def _above(rate: Estimate) -> float:
    return log(rate.high / rate.value)
