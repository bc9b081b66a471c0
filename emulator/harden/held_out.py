"""What a choice leaves, from trials that had no say in it.

The first trials of a campaign choose, the later ones judge. Given all earlier trials the mean of w y is the rate, also
of samplers that learn, so to the later trials the choice is a fixed set of units, and their estimate is unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from emulator.campaign.results import Results
from emulator.errors import BadConfig, BadData
from emulator.sampling.confidence_sequence import ConfidenceSequence
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import evidence_of_draws, ratio, sums_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CONFIDENCE = 0.95


class Remaining(NamedTuple):
    """The rate over live sites of what is left, and what it is at most with probability CONFIDENCE."""

    rate: Estimate
    at_most: float


class Judge(Protocol):
    """amount (trials,) in [0, 1]: how much of an event each trial is."""

    def rate(self, amount: Floats) -> Remaining: ...

    def of_units(self, amount: Floats, of: Ints, units: int) -> list[Estimate]:
        """The rate over live sites of each unit's part; of (trials,) the unit that each struck."""
        ...

    def share(self, part: Floats, whole: Floats) -> Estimate:
        """The part of the whole, part <= whole (trials,) each, at least one of the whole above 0."""
        ...


class Split(NamedTuple):
    """choosing, judging: trials (a mask each). weight: of each, (trials,). judge: of those that judge."""

    choosing: Bools
    judging: Bools
    weight: Floats
    judge: Judge


def split(results: Results) -> Split:
    """The trials of a campaign that choose, and those that judge; of one that judged every site all of them do both.

    Raises BadConfig for a campaign that goes through all sites and has judged some.
    """
    if results.counted:
        return _everything(results)
    n = len(results)
    order = np.argsort(np.argsort(results.column("trial_id"), kind="stable"))
    first, doubt = _first(n, bool(results.manifest["looked"]))
    choosing = order < first
    judge = Drawn(weight=results.weight[~choosing], max_weight=results.max_weight, doubt=doubt)
    return Split(choosing, ~choosing, results.weight, judge)


def _first(n: int, looked: bool) -> tuple[int, float]:
    """How many of n trials choose, and the doubt that is left to those that judge.

    Where a campaign stopped on what it found, n itself depends on the trials that judge. Then it is the largest 2^k < n
    that choose, each k has a doubt of its own, and they add up to 1 - CONFIDENCE.
    """
    if n < 2:
        raise BadData(f"{n} trial; allowed: 2 or more, some to choose and some to judge. Run more.")
    if not looked:
        return n // 2, 1 - CONFIDENCE
    k = (n - 1).bit_length() - 1
    return 1 << k, (1 - CONFIDENCE) / ((k + 1) * (k + 2))


def _everything(results: Results) -> Split:
    if results.sampler != "exhaustive" or results.incomplete:
        raise BadConfig(
            f"{results.directory} goes through all sites by classes and has judged some; allowed here: all judged, or "
            "draws. Finish it with the sampler exhaustive, or run one with the sampler importance."
        )
    sites = results.column("class_size").astype(np.float64)
    every = np.ones(len(sites), bool)
    return Split(every, every, sites / sites.sum() * len(sites), Census(sites=sites))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """weight (trials,) in (0, max_weight] of independent draws, or draws that depend on earlier ones."""

    weight: Floats
    max_weight: float
    doubt: float

    def rate(self, amount: Floats) -> Remaining:
        """Hansen and Hurwitz's estimate, of the rarer of what is and is not there, and the upper end of a confidence
        sequence that is all on that side."""
        common = (self.weight * amount).sum() > (self.weight * (1 - amount)).sum()
        rate = self._rare(1 - amount).complement() if common else self._rare(amount)
        sequence = ConfidenceSequence(max_weight=self.max_weight, confidence=1 - 2 * self.doubt)
        # What is left of an event is one of a smaller weight; the sequence does not ask what the others weigh.
        sequence.add(amount > 0, np.where(amount > 0, self.weight * amount, self.max_weight))
        return Remaining(rate, max(rate.value, sequence.estimate().high))

    def of_units(self, amount: Floats, of: Ints, units: int) -> list[Estimate]:
        """Hansen and Hurwitz's, of each. Of hundreds of thousands only those with events differ."""
        event = np.flatnonzero(amount > 0)
        event = event[np.argsort(of[event], kind="stable")]
        # What is before the first unit is empty.
        struck, first = np.unique(of[event], return_index=True)
        found = [self._of_events(np.zeros(0))] * units
        for unit, trials in zip(struck.tolist(), np.split(event, first)[1:], strict=True):
            found[unit] = self._of_events(self.weight[trials] * amount[trials])
        return found

    def _rare(self, amount: Floats) -> Estimate:
        return self._of_events((self.weight * amount)[amount > 0])

    def _of_events(self, x: Floats) -> Estimate:
        n = len(self.weight)
        found = evidence_of_draws(sums_of(x), n, self.max_weight, CONFIDENCE)
        low, high = found.interval(CONFIDENCE)
        return Estimate(
            value=found.rate,
            low=low,
            high=high,
            confidence=CONFIDENCE,
            n=n,
            ess=found.ess,
            method="hansen-hurwitz",
        )

    def share(self, part: Floats, whole: Floats) -> Estimate:
        """`ratio` among the events, of the rarer of what is and is not the part. An event of both counts as two, whose
        variance is no smaller."""
        inside, outside = self.weight * part, self.weight * (whole - part)
        inside, outside = inside[part > 0], outside[whole - part > 1e-12]
        is_part = np.arange(len(inside) + len(outside)) < len(inside)
        weight = np.concatenate((inside, outside))
        common = inside.sum() > outside.sum()
        found = ratio(is_part != common, weight, max_weight=self.max_weight, confidence=CONFIDENCE)
        return replace(found.complement() if common else found, n=int((whole > 0).sum()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Census:
    """sites (classes,): every live site was judged, so there is no doubt left."""

    sites: Floats

    def rate(self, amount: Floats) -> Remaining:
        value = float((self.sites * amount).sum() / self.sites.sum())
        return Remaining(self._certain(value), value)

    def of_units(self, amount: Floats, of: Ints, units: int) -> list[Estimate]:
        sums = np.bincount(of, self.sites * amount, units) / self.sites.sum()
        return [self._certain(value) for value in sums.tolist()]

    def share(self, part: Floats, whole: Floats) -> Estimate:
        return self._certain(float((self.sites * part).sum() / (self.sites * whole).sum()))

    def _certain(self, value: float) -> Estimate:
        n = int(self.sites.sum())
        return Estimate(
            value=value, low=value, high=value, confidence=1.0, n=n, ess=float(n), method="census"
        )
