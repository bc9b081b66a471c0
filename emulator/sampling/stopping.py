"""When a campaign may stop. Rules combine: `max_trials(100_000) | ci_half_width(0.002)`.

A rule is asked after each chunk, in chunk order, so that the answer does not depend on who finished first (but for
`max_time`: how much is done in a given time depends on the machine).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from emulator.errors import BadConfig
from emulator.sampling.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a campaign has reached: trials, distinct critical faults (SDC-1) among them (0 where no rule counts them),
    seconds of this run, and the estimate of SDC-1 over live sites."""

    trials: int
    critical: int
    seconds: float
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class StopRule:
    """Base of every rule; `|` stops at the first rule met, `&` when all are met."""

    def met(self, standing: Standing) -> bool:
        """Is the campaign done?"""
        raise TypeError("StopRule is abstract: use max_trials or ci_half_width")

    def limit(self) -> int | None:
        """The trials after which the campaign stops whatever it finds; None: no such number."""
        return None

    @property
    def looks(self) -> bool:
        """Does it depend on what the trials found? Then only an interval that holds at any time keeps its promise."""
        return _asks(self.settings(), "ci_half_width", "min_critical")

    @property
    def counts_critical(self) -> bool:
        """Does it ask for the number of distinct critical faults? No other rule needs their names."""
        return _asks(self.settings(), "min_critical")

    def ended_by(self, standing: Standing) -> StopRule:
        """Of a rule that is met the part that is: of several the first."""
        return self

    def settings(self) -> dict[str, Any]:
        """The rule as JSON."""
        raise TypeError("StopRule is abstract: use max_trials or ci_half_width")

    def __str__(self) -> str:
        return in_words(self.settings())

    def __or__(self, other: StopRule) -> StopRule:
        return AnyOf((self, other))

    def __and__(self, other: StopRule) -> StopRule:
        return AllOf((self, other))


@dataclass(frozen=True, slots=True)
class MaxTrials(StopRule):
    """Stop after exactly this many trials."""

    trials: int

    def met(self, standing: Standing) -> bool:
        return standing.trials >= self.trials

    def limit(self) -> int | None:
        return self.trials

    def settings(self) -> dict[str, Any]:
        return {"max_trials": self.trials}


@dataclass(frozen=True, slots=True)
class HalfWidth(StopRule):
    """Stop when the interval of SDC-1 over live sites is this narrow."""

    half_width: float

    def met(self, standing: Standing) -> bool:
        return standing.estimate.half_width <= self.half_width

    def settings(self) -> dict[str, Any]:
        return {"ci_half_width": self.half_width}


@dataclass(frozen=True, slots=True)
class MaxTime(StopRule):
    """Stop when this run has made trials for so long. A run that resumes has its time again."""

    seconds: float

    def met(self, standing: Standing) -> bool:
        return standing.seconds >= self.seconds

    def settings(self) -> dict[str, Any]:
        return {"max_time": self.seconds}


@dataclass(frozen=True, slots=True)
class MinCritical(StopRule):
    """Stop when so many distinct critical faults are found."""

    critical: int

    def met(self, standing: Standing) -> bool:
        return standing.critical >= self.critical

    def settings(self) -> dict[str, Any]:
        return {"min_critical": self.critical}


@dataclass(frozen=True, slots=True)
class AnyOf(StopRule):
    rules: tuple[StopRule, ...]

    def met(self, standing: Standing) -> bool:
        return any(rule.met(standing) for rule in self.rules)

    def ended_by(self, standing: Standing) -> StopRule:
        return next(rule.ended_by(standing) for rule in self.rules if rule.met(standing))

    def limit(self) -> int | None:
        limits = [limit for rule in self.rules if (limit := rule.limit()) is not None]
        return min(limits, default=None)

    def settings(self) -> dict[str, Any]:
        return {"any": [rule.settings() for rule in self.rules]}


@dataclass(frozen=True, slots=True)
class AllOf(StopRule):
    rules: tuple[StopRule, ...]

    def met(self, standing: Standing) -> bool:
        return all(rule.met(standing) for rule in self.rules)

    def limit(self) -> int | None:
        limits = [rule.limit() for rule in self.rules]
        return None if None in limits else max(limit for limit in limits if limit is not None)

    def settings(self) -> dict[str, Any]:
        return {"all": [rule.settings() for rule in self.rules]}


@dataclass(frozen=True, slots=True)
class Exhausted(StopRule):
    """Never before the last site."""

    def met(self, standing: Standing) -> bool:
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


def max_time(seconds: float) -> StopRule:
    """Stop after the first chunk that is done `seconds` seconds, more than 0, after the start of this run."""
    if not 0 < seconds < inf:
        raise BadConfig(f"max_time({seconds}); allowed: a number of seconds above 0. Try 600.")
    return MaxTime(seconds)


def min_critical(critical: int) -> StopRule:
    """Stop when `critical` distinct faults, 1 or more, were found that change the answer (SDC-1)."""
    if critical < 1:
        raise BadConfig(f"min_critical({critical}); allowed: 1 or more.")
    return MinCritical(critical)


def in_words(settings: dict[str, Any]) -> str:
    """A rule out of its settings: "20,000 trials or half-width 0.1 %"."""
    for key, word, other in (("any", " or ", "all"), ("all", " and ", "any")):
        if key in settings:
            parts = [(in_words(part), other in part) for part in settings[key]]
            return word.join(f"({text})" if inner else text for text, inner in parts)
    ((key, value),) = settings.items()
    return _WORDS[key](value)


_WORDS: dict[str, Callable[[Any], str]] = {
    "max_trials": "{:,} trials".format,
    "ci_half_width": lambda share: f"half-width {100 * share:g} %",
    "max_time": "max time {:g} s".format,
    "min_critical": "{:,} critical faults".format,
    "exhausted": lambda _: "gone through every live site",
}


def _asks(settings: dict[str, Any], *rules: str) -> bool:
    """Is one of these rules among those of the settings?"""
    parts = [*settings.get("any", []), *settings.get("all", [])]
    return any(name in settings for name in rules) or any(_asks(part, *rules) for part in parts)
