"""Rates from classes drawn without replacement: some for certain, the others by a coin of known probability each.

Sites come in classes of one outcome. Each class is drawn independently with inclusion probability pi in (0, 1]
(Poisson sampling), and one that is drawn stands for 1 / pi like it. Classes with pi = 1 are simply counted; where all
are, the estimate is the census. Sarndal, Swensson & Wretman, Model Assisted Survey Sampling, 1992, ch. 3.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.errors import BadData
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import census
from emulator.sampling.evidence import Evidence, unseen_sites
from emulator.sampling.intervals import check_confidence
from emulator.sampling.observations import Floats, Ints, checked_classes


def horvitz_thompson(
    y: npt.ArrayLike,
    sites: npt.ArrayLike,
    inclusion: npt.ArrayLike,
    *,
    population: int,
    per_site_floor: float,
    confidence: float = 0.95,
) -> Estimate:
    """The rate over `population` sites: theta = sum(sites y / pi) / population.

    y (classes,) bool or 0/1, sites (classes,) >= 1 and inclusion (classes,) in (0, 1], of the classes that were drawn;
    every class, drawn or not, had pi >= min(1, per_site_floor * sites). Var = sum((1 - pi) / pi^2 sites^2 y) /
    population^2, of the rarer of the two outcomes. n counts the classes drawn, or of a census the sites. Raises BadData
    for anything else, and for more sites of pi = 1 than the population has. Sarndal et al., eq. 3.2.3 and 3.2.4.
    """
    sample = HorvitzThompson(population, per_site_floor=per_site_floor, confidence=confidence)
    sample.add(y, sites, inclusion, covered=population)
    return sample.estimate()


class HorvitzThompson:
    """`horvitz_thompson` of a population that is drawn from in parts.

    As in a `Census` the interval has room for the sites of parts that are yet to come.
    """

    def __init__(self, population: int, *, per_site_floor: float, confidence: float = 0.95) -> None:
        check_confidence(confidence)
        self.population = population
        self.per_site_floor = per_site_floor
        self.confidence = confidence
        self.covered = 0
        self.classes = 0
        self._certain = 0
        self._certain_events = 0
        self._events = _Expanded()
        self._others = _Expanded()

    def add(self, y: npt.ArrayLike, sites: npt.ArrayLike, inclusion: npt.ArrayLike, *, covered: int) -> None:
        """The classes drawn from a part of `covered` sites; arguments and errors are those of `horvitz_thompson`."""
        events, counts, pi = checked_classes(y, sites, inclusion, self.per_site_floor)
        sure = pi == 1
        certain = int(counts[sure].sum())
        if certain > covered or self.covered + covered > self.population:
            raise BadData(
                f"horvitz_thompson: {certain} sites with inclusion 1 among {covered}, {self.covered + covered} of "
                f"{self.population} covered; allowed: no more than there are. Count each site once."
            )
        self.covered += covered
        self.classes += len(counts)
        self._certain += certain
        self._certain_events += int(counts[sure & events].sum())
        self._events.add(*expanded(events & ~sure, counts, pi))
        self._others.add(*expanded(~events & ~sure, counts, pi))

    def estimate(self) -> Estimate:
        """The rate of all so far, at least one site."""
        uncertain = self.covered - self._certain
        if not uncertain:
            others = self._certain - self._certain_events
            return census([True, False], [self._certain_events, others], self.population)
        # Of a rate above 1/2 it is what the others leave: the sites that classes stand for vary, their number does not.
        common = self._events.total > self._others.total
        rare = self._others if common else self._events
        drawn = evidence_of_classes(
            rare.total, rare.variance, uncertain, self.per_site_floor, self.confidence
        )
        low, high = drawn.interval(self.confidence)
        rate = drawn.rate
        if common:
            rate, low, high = 1 - rate, 1 - high, 1 - low
        value = (self._certain_events + uncertain * rate) / self.covered
        left = self.population - self.covered
        spread = drawn.spread * (uncertain / self.covered) ** 2
        return Estimate(
            value=value,
            low=(self._certain_events + uncertain * low) / self.population,
            high=(self._certain_events + uncertain * high + left) / self.population,
            confidence=self.confidence,
            n=self.classes,
            ess=value * (1 - value) / spread if 0 < value < 1 else self.per_site_floor * self.covered,
            method="horvitz-thompson",
        )


class _Expanded:
    """An estimated number of sites and its variance, summed over parts."""

    def __init__(self) -> None:
        self.total = 0.0
        self.variance = 0.0

    def add(self, total: float, variance: float) -> None:
        self.total += total
        self.variance += variance


def expanded(values: npt.NDArray[np.generic], sites: Ints, inclusion: Floats) -> tuple[float, float]:
    """(total, variance) of the estimated sum of values (classes,) x sites: sum(v sites / pi) and
    sum((1 - pi) / pi^2 (v sites)^2)."""
    share = values.astype(np.float64) * sites / inclusion
    return float(share.sum()), float(((1 - inclusion) * share**2).sum())


def evidence_of_classes(
    total: float, variance: float, sites: int, per_site_floor: float, confidence: float
) -> Evidence:
    """Of `sites` sites, all of classes that need not be drawn: `total` events, estimated with `variance`."""
    return Evidence(
        rate=min(1.0, total / sites),
        variance=variance / sites**2,
        # A class of T sites was drawn with pi >= per_site_floor T and stands for T / pi.
        heaviest=1 / (per_site_floor * sites),
        bound=min(1.0, unseen_sites(per_site_floor, confidence) / sites),
    )
