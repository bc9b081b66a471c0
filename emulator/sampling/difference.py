"""Model-assisted rates: a prediction for every site, and a sample that says how wrong it is.

theta = mean of the predictions m + estimated mean of y - m, unbiased whatever m is, if m was fixed before the sample
was drawn; the better m, the narrower the interval. Sarndal, Swensson & Wretman 1992, ch. 6 (difference estimator);
Zrnic & Candes, Active Statistical Inference, ICML'24.

y - m is what the model missed, y (1 - m), less its false alarms, (1 - y) m: two rates, each with an interval of its
own, which combine by the variances that these imply (Zou & Donner, Stat. Med. 27, 2008). Only what is missed can hide
where nobody looked; a false alarm is where the model expects it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from emulator.errors import BadData
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import census, evidence_of_draws, sums_of
from emulator.sampling.evidence import Evidence
from emulator.sampling.horvitz_thompson import evidence_of_classes, expanded
from emulator.sampling.intervals import check_confidence
from emulator.sampling.observations import checked_classes, checked_predictions, checked_trials


def difference(
    y: npt.ArrayLike,
    sites: npt.ArrayLike,
    inclusion: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    predicted_total: float,
    population: int,
    per_site_floor: float,
    confidence: float = 0.95,
) -> Estimate:
    """The rate over `population` sites: theta = (predicted_total + sum(sites (y - predicted) / pi)) / population.

    predicted (classes,) in [0, 1] of the classes that were drawn, predicted_total the sum of sites x predicted over all
    classes; other arguments and errors are those of `horvitz_thompson`. Var = sum((1 - pi) / pi^2 sites^2
    (y - predicted)^2) / population^2. Where all sites are drawn for certain it is the census.
    """
    check_confidence(confidence)
    events, counts, pi = checked_classes(y, sites, inclusion, per_site_floor)
    m = checked_predictions(predicted, len(events))
    sure = pi == 1
    certain, certain_events = int(counts[sure].sum()), int(counts[sure & events].sum())
    if certain > population:
        raise BadData(
            f"difference: {certain} sites with inclusion 1; allowed: {population}, the population. Count each once."
        )
    uncertain = population - certain
    if not uncertain:
        return census(events, counts, population)
    missed, alarms = (
        evidence_of_classes(
            *expanded(np.where(sure, 0.0, part), counts, pi), uncertain, per_site_floor, confidence
        )
        for part in (events * (1 - m), ~events * m)
    )
    return _Correction(
        predicted=(predicted_total - float((counts * m)[sure].sum())) / uncertain,
        missed=missed,
        alarms=_known(alarms),
        correlation=0.0,  # of classes drawn independently, each in one of the two
    ).estimate(certain_events, uncertain, population, n=len(events), confidence=confidence)


def hansen_hurwitz_difference(
    y: npt.ArrayLike,
    weight: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    predicted_mean: float,
    max_weight: float = 1.0,
    confidence: float = 0.95,
) -> Estimate:
    """The rate from draws with replacement: theta = predicted_mean + mean(w (y - predicted)).

    predicted (n,) in [0, 1] of each draw, predicted_mean the mean over the population; other arguments and errors are
    those of `hansen_hurwitz`. Zrnic & Candes, eq. 3.
    """
    events, w = checked_trials(y, weight, max_weight, confidence)
    m, n = checked_predictions(predicted, len(events)), len(events)
    missed, alarms = (
        evidence_of_draws(sums_of(part[part > 0]), n, max_weight, confidence)
        for part in (w * events * (1 - m), w * ~events * m)
    )
    return _Correction(
        predicted=predicted_mean,
        missed=missed,
        alarms=_known(alarms),
        correlation=_correlation(missed, alarms, n),
    ).estimate(0, 1, 1, n=n, confidence=confidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Correction:
    """predicted + missed - alarms: the rate over the sites that are not known for certain."""

    predicted: float
    missed: Evidence
    alarms: Evidence
    correlation: float

    def estimate(
        self, certain_events: int, uncertain: int, population: int, *, n: int, confidence: float
    ) -> Estimate:
        """Over a population of which all but `uncertain` sites are counted."""
        rate = self.predicted + self.missed.rate - self.alarms.rate
        value, low, high = (
            (certain_events + uncertain * min(1.0, max(0.0, end))) / population
            for end in (rate, rate - self._margin(-1, confidence), rate + self._margin(1, confidence))
        )
        scale = uncertain / population
        spread = (self.missed.spread + self.alarms.spread) * scale**2
        ess = value * (1 - value) / spread if 0 < value < 1 else 1 / (scale * self.missed.heaviest)
        return Estimate(
            value=value, low=low, high=high, confidence=confidence, n=n, ess=ess, method="difference"
        )

    def _margin(self, side: int, confidence: float) -> float:
        """From the rate to the upper (1) or lower (-1) end."""
        missed = abs(self.missed.interval(confidence)[side > 0] - self.missed.rate)
        alarms = abs(self.alarms.interval(confidence)[side < 0] - self.alarms.rate)
        return sqrt(missed**2 + alarms**2 - 2 * self.correlation * missed * alarms)


def _known(alarms: Evidence) -> Evidence:
    """No false alarm hides."""
    return Evidence(rate=alarms.rate, variance=alarms.variance, heaviest=0.0, bound=0.0, cap=alarms.cap)


def _correlation(missed: Evidence, alarms: Evidence, n: int) -> float:
    """Of two means over n draws none of which counts in both."""
    product = missed.variance * alarms.variance
    return max(-1.0, -missed.rate * alarms.rate / n / sqrt(product)) if product > 0 else 0.0
