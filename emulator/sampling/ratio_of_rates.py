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

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def ratio_of_rates(first: Estimate, second: Estimate) -> Ratio:
    """first / second of one confidence, as if they were independent; of rates on the same trials, which rise together,
    the interval is no narrower than it should be.

    On the logarithmic scale the distances to the ends combine as variances do (MOVER: Zou & Donner, Stat. Med. 27,
    2008, sec. 3). Where a rate is 0 there is no such scale: then the ends are those of the least favourable pair.
    """
    confidence = min(first.confidence, second.confidence)
    if first.high == second.high == 0:
        return Ratio(value=nan, low=0.0, high=inf, confidence=confidence, method="ends")
    if first.value == 0 or second.value == 0:
        value = inf if second.value == 0 else 0.0
        low = first.low / second.high if second.high > 0 else inf
        high = first.high / second.low if second.low > 0 else inf
        return Ratio(value=value, low=low, high=high, confidence=confidence, method="ends")
    ratio = log(first.value) - log(second.value)
    down = sqrt(_below(first) ** 2 + _above(second) ** 2)
    up = sqrt(_above(first) ** 2 + _below(second) ** 2)
    high = exp(ratio + up) if up < inf else inf
    return Ratio(value=exp(ratio), low=exp(ratio - down), high=high, confidence=confidence, method="mover")


def _below(rate: Estimate) -> float:
    return log(rate.value / rate.low) if rate.low > 0 else inf


def _above(rate: Estimate) -> float:
    return log(rate.high / rate.value)
