"""When a campaign may stop. Rules combine: `max_trials(100_000) | ci_half_width(0.002)`.

A rule is asked after each chunk, in chunk order, so the answer does not depend on who finished first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emulator.errors import BadConfig
from emulator.sampling.estimate import Estimate


@dataclass(frozen=True, slots=True)
class StopRule:
    """Base of every rule; `|` stops at the first rule met, `&` when all are met."""

    def met(self, trials: int, estimate: Estimate) -> bool:
        """Is the campaign done after this many trials with this estimate of SDC-1 over live sites?"""
        raise TypeError("StopRule is abstract: use max_trials or ci_half_width")

    def limit(self) -> int | None:
        """The trials after which the campaign stops whatever it finds; None: no such number."""
        return None

    def settings(self) -> dict[str, Any]:
        """The rule as JSON."""
        raise TypeError("StopRule is abstract: use max_trials or ci_half_width")

    def __or__(self, other: StopRule) -> StopRule:
        return AnyOf((self, other))

    def __and__(self, other: StopRule) -> StopRule:
        return AllOf((self, other))


@dataclass(frozen=True, slots=True)
class MaxTrials(StopRule):
    """Stop after exactly this many trials."""

    trials: int

    def met(self, trials: int, estimate: Estimate) -> bool:
        return trials >= self.trials

    def limit(self) -> int | None:
        return self.trials

    def settings(self) -> dict[str, Any]:
        return {"max_trials": self.trials}


@dataclass(frozen=True, slots=True)
class HalfWidth(StopRule):
    """Stop when the interval of SDC-1 over live sites is this narrow, with at least `floor` trials: an interval
    from a handful of trials without events is narrow for the wrong reason."""

    half_width: float
    floor: int = 2000

    def met(self, trials: int, estimate: Estimate) -> bool:
        return trials >= self.floor and estimate.half_width <= self.half_width

    def settings(self) -> dict[str, Any]:
        return {"ci_half_width": self.half_width, "floor": self.floor}


@dataclass(frozen=True, slots=True)
class AnyOf(StopRule):
    rules: tuple[StopRule, ...]

    def met(self, trials: int, estimate: Estimate) -> bool:
        return any(rule.met(trials, estimate) for rule in self.rules)

    def limit(self) -> int | None:
        limits = [limit for rule in self.rules if (limit := rule.limit()) is not None]
        return min(limits, default=None)

    def settings(self) -> dict[str, Any]:
        return {"any": [rule.settings() for rule in self.rules]}


@dataclass(frozen=True, slots=True)
class AllOf(StopRule):
    rules: tuple[StopRule, ...]

    def met(self, trials: int, estimate: Estimate) -> bool:
        return all(rule.met(trials, estimate) for rule in self.rules)

    def limit(self) -> int | None:
        limits = [rule.limit() for rule in self.rules]
        return None if None in limits else max(limit for limit in limits if limit is not None)

    def settings(self) -> dict[str, Any]:
        return {"all": [rule.settings() for rule in self.rules]}


@dataclass(frozen=True, slots=True)
class Exhausted(StopRule):
    """Never before the last site."""

    def met(self, trials: int, estimate: Estimate) -> bool:
        return False

    def settings(self) -> dict[str, Any]:
        return {"exhausted": True}


def max_trials(trials: int) -> StopRule:
    """Stop after `trials` trials, 1 or more."""
    if trials < 1:
        raise BadConfig(f"max_trials({trials}); allowed: 1 or more.")
    return MaxTrials(trials)


def ci_half_width(half_width: float) -> StopRule:
    """Stop when the 95 % interval of SDC-1 over live sites has this half-width, a fraction: 0.002 is 0.2 points."""
    if not 0 < half_width < 0.5:
        raise BadConfig(f"ci_half_width({half_width}); allowed: between 0 and 0.5. Try 0.002.")
    return HalfWidth(half_width)
