"""What weighted trials prove: the rate of a yes/no outcome over a population, from draws of any proposal.

A trial drawn with density q from a population with density p carries the weight w = p / q. A defensive
mixture q >= alpha p bounds it, w <= max_weight = 1 / alpha: all that is known about events nobody saw.
Intervals are Wilson's at the effective sample size: the number of uniform trials with the same variance,
ess = theta (1 - theta) / Var. Uniform trials (all weights 1) give exactly Wilson's interval.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from emulator.errors import BadData
from emulator.sampling.estimate import Estimate
from emulator.sampling.intervals import check_confidence, wilson

Floats = npt.NDArray[np.float64]


def hansen_hurwitz(
    y: npt.ArrayLike, weight: npt.ArrayLike, *, max_weight: float = 1.0, confidence: float = 0.95
) -> Estimate:
    """The rate over the whole sampled population: theta = mean(w y), Var = (mean(w^2 y^2) - theta^2) / n.

    y (n,) bool or 0/1, weight (n,) > 0, n >= 1. Raises BadData for other shapes or values, or a weight above
    `max_weight`. Hansen & Hurwitz, Ann. Math. Stat. 14, 1943; Owen, Monte Carlo, ch. 9.
    """
    tally = Tally(max_weight=max_weight, confidence=confidence)
    tally.add(y, weight)
    return tally.estimate()


class Tally:
    """`hansen_hurwitz` of trials that come in parts: what is kept are the weights of the events."""

    def __init__(self, *, max_weight: float = 1.0, confidence: float = 0.95) -> None:
        self.max_weight = max_weight
        self.confidence = confidence
        self.n = 0
        self._alike = True
        self._events: list[Floats] = []

    def add(self, y: npt.ArrayLike, weight: npt.ArrayLike) -> None:
        """More trials; arguments and errors are those of `hansen_hurwitz`."""
        events, w = _checked(y, weight, self.max_weight, self.confidence)
        self.n += len(events)
        self._alike &= bool(np.all(w == 1))
        self._events.append(w[events])

    def estimate(self) -> Estimate:
        """The rate of all so far, at least one."""
        w, n = np.concatenate(self._events), self.n
        self._events = [w]
        if self._alike:
            return _plain(len(w), n, self.confidence)
        if not len(w):
            return _no_events(n, self.max_weight, self.confidence, "hansen-hurwitz")
        mean = float(w.sum()) / n
        variance = (float((w**2).sum()) / n - mean**2) / n
        # n / w is the effective size of rare events that all weigh w; equal weights must not prove more.
        cap = n / float(w.min())
        return _allowing_for_unseen(
            min(1.0, mean), variance, cap, n, self.max_weight, self.confidence, "hansen-hurwitz"
        )


class Census:
    """The rate over a population of `population` sites of which every one is judged, or will be.

    Sites come in classes of one outcome. The interval is certain: the sites that are left may all be events or none;
    with none left it is the value itself.
    """

    def __init__(self, population: int) -> None:
        self.population = population
        self.sites = 0
        self.events = 0

    def add(self, y: npt.ArrayLike, sites: npt.ArrayLike) -> None:
        """More classes: y (classes,) bool or 0/1, sites (classes,) how many are in each."""
        counts = np.asarray(sites, np.int64)
        self.sites += int(counts.sum())
        self.events += int(counts[np.asarray(y, bool)].sum())
        if self.sites > self.population:
            raise BadData(
                f"census: {self.sites} sites judged; allowed: {self.population}, the population. Count each once."
            )

    def estimate(self) -> Estimate:
        """The rate of all so far, at least one."""
        left = self.population - self.sites
        return Estimate(
            value=self.events / self.sites,
            low=self.events / self.population,
            high=(self.events + left) / self.population,
            confidence=1.0,
            n=self.sites,
            ess=float(self.sites),
            method="census",
        )


def census(y: npt.ArrayLike, sites: npt.ArrayLike, population: int) -> Estimate:
    """`Census` of classes that are all at hand."""
    count = Census(population)
    count.add(y, sites)
    return count.estimate()


def ratio(
    y: npt.ArrayLike, weight: npt.ArrayLike, *, max_weight: float = 1.0, confidence: float = 0.95
) -> Estimate:
    """The rate over a sub-population (a layer, a register, a bit) from the trials that fell into it.

    Hajek's theta = sum(w y) / sum(w), linearised Var = sum(w^2 (y - theta)^2) / sum(w)^2. Arguments and
    errors are those of `hansen_hurwitz`; `max_weight` bounds every weight of the campaign. Owen, ch. 9.
    """
    events, w = _checked(y, weight, max_weight, confidence)
    n = len(events)
    if np.all(w == 1):
        return _plain(int(events.sum()), n, confidence)
    # Within the sub-population the density ratio is w / mean(w).
    bound = max(1.0, max_weight / float(w.mean()))
    if not events.any():
        return _no_events(n, bound, confidence, "ratio")
    if events.all():
        return _complement(_no_events(n, bound, confidence, "ratio"))
    theta = float(w[events].sum() / w.sum())
    variance = float((w**2 * (events - theta) ** 2).sum() / w.sum() ** 2)
    return _allowing_for_unseen(theta, variance, n * bound, n, bound, confidence, "ratio")


def part(
    y: npt.ArrayLike,
    weight: npt.ArrayLike,
    inside: npt.ArrayLike,
    share: float,
    *,
    max_weight: float = 1.0,
    confidence: float = 0.95,
) -> Estimate:
    """The rate over a sub-population that is known to hold `share` of the population, 0 < share <= 1.

    theta = mean(w y 1[inside]) / share over all trials: unbiased however few fell inside, where `ratio` would
    make a single event a rate of 100 %, and the parts add up to the whole. n counts the trials inside. Equal
    weights carry no such danger: then it is the plain share among the trials inside. Owen, ch. 9.
    """
    events, w = _checked(y, weight, max_weight, confidence)
    within = np.asarray(inside, bool)
    n = int(within.sum())
    if np.all(w == 1) and n:
        return _plain(int(events[within].sum()), n, confidence)
    whole = hansen_hurwitz(events & within, w, max_weight=max_weight, confidence=confidence)
    value, low, high = (min(1.0, x / share) for x in (whole.value, whole.low, whole.high))
    return Estimate(
        value=value, low=low, high=high, confidence=confidence, n=n, ess=whole.ess * share, method="part"
    )


def _allowing_for_unseen(
    theta: float, variance: float, cap: float, n: int, max_weight: float, confidence: float, method: str
) -> Estimate:
    """The interval from the seen events, widened by half an event of the largest weight that nobody saw.

    The seen events alone know nothing of faults that the score is blind to: these come only from the defensive
    draws, rarely, and weigh most. Without this a score blind to 10 % of the sites brings the coverage of the
    95 % interval down to 54 %. Where events are so few that Wilson's interval would only restate its prior, the
    upper end is what was seen plus the bound for seeing nothing.
    """
    seen = _at_effective_size(theta, _effective_size(theta, variance, cap=cap), n, confidence, method)
    wider = variance + 0.5 * (max_weight / n) ** 2
    whole = _at_effective_size(theta, _effective_size(theta, wider, cap=cap), n, confidence, method)
    limit = seen.high + _no_events(n, max_weight, confidence, method).high
    return replace(whole, high=min(whole.high, limit))


def _plain(successes: int, n: int, confidence: float) -> Estimate:
    low, high = wilson(successes, n, confidence)
    return Estimate(
        value=successes / n, low=low, high=high, confidence=confidence, n=n, ess=float(n), method="wilson"
    )


def _effective_size(theta: float, variance: float, *, cap: float) -> float:
    uniform = theta * (1 - theta)
    return cap if uniform >= cap * variance else uniform / variance


def _at_effective_size(theta: float, ess: float, n: int, confidence: float, method: str) -> Estimate:
    low, high = wilson(theta * ess, ess, confidence)
    return Estimate(value=theta, low=low, high=high, confidence=confidence, n=n, ess=ess, method=method)


def _no_events(n: int, max_weight: float, confidence: float, method: str) -> Estimate:
    """A rate theta shows up in a draw with probability >= theta / max_weight, so in none of n with
    at most (1 - theta / max_weight)^n; the bound is where that is 1 - confidence, about 3 max_weight / n.
    """
    high = min(1.0, -max_weight * float(np.expm1(np.log1p(-confidence) / n)))
    return Estimate(
        value=0.0, low=0.0, high=high, confidence=confidence, n=n, ess=n / max_weight, method=method
    )


def _complement(none: Estimate) -> Estimate:
    return Estimate(
        value=1.0,
        low=1 - none.high,
        high=1.0,
        confidence=none.confidence,
        n=none.n,
        ess=none.ess,
        method=none.method,
    )


def _checked(
    y: npt.ArrayLike, weight: npt.ArrayLike, max_weight: float, confidence: float
) -> tuple[npt.NDArray[np.bool_], Floats]:
    check_confidence(confidence)
    outcome, w = np.asarray(y), np.asarray(weight, np.float64)
    if outcome.ndim != 1 or outcome.shape != w.shape or not len(w):
        raise BadData(
            f"estimator: y {outcome.shape} and weight {w.shape}; "
            "allowed: two (n,) arrays, n >= 1. Pass one y and one weight a trial."
        )
    if outcome.dtype != np.bool_ and not np.isin(outcome, (0, 1)).all():
        raise BadData("estimator: y holds values other than 0 and 1; allowed: a yes/no outcome a trial.")
    if not (np.isfinite(w).all() and (w > 0).all()):
        raise BadData("estimator: a weight is zero, negative or not finite; allowed: w = p / q > 0.")
    if w.max() > max_weight * (1 + 1e-6):
        raise BadData(
            f"estimator: a weight is {w.max():.6g}; allowed: up to max_weight={max_weight:.6g}, "
            "that is 1/alpha of the sampler. Pass the alpha these trials were drawn with."
        )
    return outcome.astype(bool), w
