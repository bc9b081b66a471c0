"""What weighted trials prove: the rate of a yes/no outcome over a population, from draws of any proposal.

A trial drawn with density q from a population with density p carries the weight w = p / q. A defensive
mixture q >= alpha p bounds it, w <= max_weight = 1 / alpha: all that is known about events nobody saw.
Intervals are Wilson's at the effective sample size: the number of uniform trials with the same variance,
ess = theta (1 - theta) / Var. Uniform trials (all weights 1) give exactly Wilson's interval.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Literal

import numpy as np
import numpy.typing as npt

from emulator.errors import BadData
from emulator.sampling.estimate import Estimate
from emulator.sampling.evidence import Evidence, unseen_in_draws
from emulator.sampling.intervals import clopper_pearson, wilson
from emulator.sampling.observations import Floats, checked_trials

Interval = Literal["wilson", "clopper-pearson"]
_INTERVALS: dict[Interval, Callable[[int, int, float], tuple[float, float]]] = {
    "wilson": wilson,
    "clopper-pearson": clopper_pearson,
}


def hansen_hurwitz(
    y: npt.ArrayLike,
    weight: npt.ArrayLike,
    *,
    max_weight: float = 1.0,
    confidence: float = 0.95,
    interval: Interval = "wilson",
) -> Estimate:
    """The rate over the whole sampled population: theta = mean(w y), Var = (mean(w^2 y^2) - theta^2) / n.

    y (n,) bool or 0/1, weight (n,) > 0, n >= 1. interval: of trials that all weigh 1; "clopper-pearson" never covers
    less than it promises, and is not for other weights. Raises BadData for other shapes or values, or a weight above
    `max_weight`. Hansen & Hurwitz, Ann. Math. Stat. 14, 1943; Owen, Monte Carlo, ch. 9.
    """
    tally = Tally(max_weight=max_weight, confidence=confidence, interval=interval)
    tally.add(y, weight)
    return tally.estimate()


def proportion(y: npt.ArrayLike) -> Estimate:
    """The share of ones among things of equal weight: y (n,) bool or 0/1, n >= 1; Wilson's interval."""
    return hansen_hurwitz(y, np.ones(np.shape(y)))


class Tally:
    """`hansen_hurwitz` of trials that come in parts: kept are the weights of the events, and sums of the others'."""

    def __init__(
        self, *, max_weight: float = 1.0, confidence: float = 0.95, interval: Interval = "wilson"
    ) -> None:
        if interval not in _INTERVALS:
            raise BadData(f"interval={interval!r}; allowed: {', '.join(_INTERVALS)}.")
        self.max_weight = max_weight
        self.confidence = confidence
        self.interval = interval
        self.n = 0
        self._alike = True
        self._events: list[Floats] = []
        self._others = Sums()

    def add(self, y: npt.ArrayLike, weight: npt.ArrayLike) -> None:
        """More trials; arguments and errors are those of `hansen_hurwitz`."""
        events, w = checked_trials(y, weight, self.max_weight, self.confidence)
        self._alike &= bool(np.all(w == 1))
        if self.interval == "clopper-pearson" and not self._alike:
            raise BadData(
                "interval='clopper-pearson' and weights other than 1; allowed: trials of equal weight. Use 'wilson'."
            )
        self.n += len(events)
        self._events.append(w[events])
        self._others.add(w[~events])

    def estimate(self) -> Estimate:
        """The rate of all so far, at least one. Of a rate above 1/2 it is what the others leave: mean(w) is 1 in the
        mean, not in a sample, and of a certain event mean(w y) would be on either side of 1."""
        w = np.concatenate(self._events)
        self._events = [w]
        if self._alike:
            return _plain(len(w), self.n, self.confidence, self.interval)
        events = sums_of(w)
        common = events.total > self._others.total
        rare = self._others if common else events
        evidence = evidence_of_draws(rare, self.n, self.max_weight, self.confidence)
        found = _estimate(evidence, self.n, self.confidence, "hansen-hurwitz")
        return found.complement() if common else found


class Sums:
    """Of what events add to an estimate: their sum, that of the squares, and the smallest."""

    def __init__(self) -> None:
        self.total = 0.0
        self.squares = 0.0
        self.smallest = inf

    def add(self, x: Floats) -> None:
        """x (events,) > 0."""
        self.total += float(x.sum())
        self.squares += float((x**2).sum())
        self.smallest = min(self.smallest, float(x.min(initial=inf)))


def sums_of(x: Floats) -> Sums:
    """x (events,) > 0."""
    sums = Sums()
    sums.add(x)
    return sums


def evidence_of_draws(events: Sums, n: int, max_weight: float, confidence: float) -> Evidence:
    """Of n independent draws; events: of what each adds to the sum, w if it is a plain one."""
    mean = events.total / n
    return Evidence(
        rate=min(1.0, mean),
        variance=(events.squares / n - mean**2) / n,
        heaviest=max_weight / n,
        bound=unseen_in_draws(n, max_weight, confidence),
        # n / x is the effective size of rare events that all weigh x; equal weights must not prove more.
        cap=n / events.smallest,
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
    events, w = checked_trials(y, weight, max_weight, confidence)
    n = len(events)
    if np.all(w == 1):
        return _plain(int(events.sum()), n, confidence)
    if events.all():
        return ratio(~events, w, max_weight=max_weight, confidence=confidence).complement()
    # Within the sub-population the density ratio is w / mean(w).
    bound = max(1.0, max_weight / float(w.mean()))
    theta = float(w[events].sum() / w.sum())
    evidence = Evidence(
        rate=theta,
        variance=float((w**2 * (events - theta) ** 2).sum() / w.sum() ** 2),
        heaviest=bound / n,
        bound=unseen_in_draws(n, bound, confidence),
        cap=n * bound,
    )
    return _estimate(evidence, n, confidence, "ratio")


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
    make a single event a rate of 100 %, and the parts add up to the whole. Above 1/2 it is what the others
    leave, as in `hansen_hurwitz`. n counts the trials inside. Equal weights carry no such danger: then it is the plain
    share among the trials inside. Owen, ch. 9.
    """
    events, w = checked_trials(y, weight, max_weight, confidence)
    within = np.asarray(inside, bool)
    n = int(within.sum())
    if np.all(w == 1) and n:
        return _plain(int(events[within].sum()), n, confidence)
    if w[events & within].sum() > w[~events & within].sum():
        return part(~events, w, within, share, max_weight=max_weight, confidence=confidence).complement()
    whole = hansen_hurwitz(events & within, w, max_weight=max_weight, confidence=confidence)
    value, low, high = (min(1.0, x / share) for x in (whole.value, whole.low, whole.high))
    return Estimate(
        value=value, low=low, high=high, confidence=confidence, n=n, ess=whole.ess * share, method="part"
    )


def _plain(successes: int, n: int, confidence: float, interval: Interval = "wilson") -> Estimate:
    low, high = _INTERVALS[interval](successes, n, confidence)
    return Estimate(
        value=successes / n, low=low, high=high, confidence=confidence, n=n, ess=float(n), method=interval
    )


def _estimate(evidence: Evidence, n: int, confidence: float, method: str) -> Estimate:
    low, high = evidence.interval(confidence)
    return Estimate(
        value=evidence.rate,
        low=low,
        high=high,
        confidence=confidence,
        n=n,
        ess=evidence.ess,
        method=method,
    )
