"""Rates over live sites: of trials that were drawn, each weighed, or of classes of sites, each counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emulator.campaign.population import COUNTED_KEYS, Group, Population
from emulator.sampling.clustered import clustered
from emulator.sampling.confidence_sequence import ConfidenceSequence
from emulator.sampling.counted import Counted
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import hansen_hurwitz, part, ratio
from emulator.sampling.horvitz_thompson import HorvitzThompson

Event = npt.NDArray[np.bool_]
Groups = Mapping[Group, npt.NDArray[np.intp]]
"""The rows of each group."""


class Rates(Protocol):
    """event (rows,): did it happen?"""

    def of_all(self, event: Event) -> Estimate:
        """Over all live sites of these images."""
        ...

    def of_images_alike(self, event: Event, image: npt.NDArray[np.int32]) -> Estimate:
        """Of images of which those struck, image (rows,), are a random sample; BadData for one image."""
        ...

    def of_groups(self, event: Event, names: list[str], groups: Groups) -> dict[Group, Estimate]:
        """Of each group by the keys `names`, in no order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawnRates:
    """weight (trials,): population density over the sampler's, at most max_weight. looked: was the campaign ever to
    stop on what it found?"""

    population: Population
    weight: npt.NDArray[np.float64] = field(repr=False)
    max_weight: float
    looked: bool

    def of_all(self, event: Event) -> Estimate:
        if not self.looked:
            return hansen_hurwitz(event, self.weight, max_weight=self.max_weight)
        sequence = ConfidenceSequence(max_weight=self.max_weight)
        sequence.add(event, self.weight)
        return sequence.estimate()

    def of_images_alike(self, event: Event, image: npt.NDArray[np.int32]) -> Estimate:
        return clustered(event, self.weight, image, heaviest_unseen=self.max_weight)

    def of_groups(self, event: Event, names: list[str], groups: Groups) -> dict[Group, Estimate]:
        if not _counted_by(names):
            return {
                group: ratio(event[rows], self.weight[rows], max_weight=self.max_weight)
                for group, rows in groups.items()
            }
        live = {group: count for group, (_, count) in self.population.sites_by(names).items()}
        total = sum(live.values())
        return {group: self._part(event, rows, live[group] / total) for group, rows in groups.items()}

    def _part(self, event: Event, rows: npt.NDArray[np.intp], share: float) -> Estimate:
        inside = np.zeros(len(event), bool)
        inside[rows] = True
        return part(event, self.weight, inside, share, max_weight=self.max_weight)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountedRates:
    """sites, inclusion (rows,): of each class, and the probability with which it was judged. finished: has each live
    site been counted, and all been judged?"""

    population: Population
    sampler: Counted
    sites: npt.NDArray[np.int64] = field(repr=False)
    inclusion: npt.NDArray[np.float64] = field(repr=False)
    finished: bool

    def of_all(self, event: Event) -> Estimate:
        return self._of(event, np.arange(len(event)), [], ())

    def of_images_alike(self, event: Event, image: npt.NDArray[np.int32]) -> Estimate:
        # What a class may weigh that nobody drew; 0: every site is judged.
        floor = self._per_site_floor
        heaviest = 0.0 if floor == 1 else 1 / floor
        return clustered(event, self.sites / self.inclusion, image, heaviest_unseen=heaviest)

    def of_groups(self, event: Event, names: list[str], groups: Groups) -> dict[Group, Estimate]:
        """Also of those of which a chunk is done that needed no row."""
        found = {group: self._of(event, rows, names, group) for group, rows in groups.items()}
        if _counted_by(names):
            for group in self.population.sites_by(names):
                if group not in found and self.population.of_group(names, group)[1]:
                    found[group] = self._of(event, np.zeros(0, np.intp), names, group)
        return found

    def _of(self, event: Event, rows: npt.NDArray[np.intp], names: list[str], group: Group) -> Estimate:
        if self.finished:
            live = covered = int(self.sites[rows].sum())
        else:
            live, covered = self.population.of_group(names, group)
        sample = HorvitzThompson(live, per_site_floor=self._per_site_floor)
        sample.add(event[rows], self.sites[rows], self.inclusion[rows], covered=covered)
        return sample.estimate()

    @property
    def _per_site_floor(self) -> float:
        return self.sampler.per_site_floor(self.population.images * self.population.live)


def _counted_by(names: list[str]) -> bool:
    return set(names) <= set(COUNTED_KEYS)
