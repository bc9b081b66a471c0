"""Importance sampling without replacement: every class of effect is scored, the most critical are judged for certain,
of the others a random part.

A class of S sites is judged with probability pi = min(1, k S (alpha + (1 - alpha) h)), h its preference beside the mean
of all sites: independent (Poisson) draws, one a class and register, and Horvitz and Thompson's estimate (Sarndal,
Swensson & Wretman, Model Assisted Survey Sampling, 1992, ch. 3). A chunk that has more trials than rows judges all of
them, and what it has left over is not spent; with enough for the poorest chunk every pi is 1, and the campaign is the
exhaustive one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.sampling.counted import Judged
from emulator.sampling.foreseeing import Foreseeing
from emulator.sampling.site_classes import SiteClasses
from emulator.sampling.workbench import Workbench

Floats = npt.NDArray[np.float64]

# What the mean preference is estimated from: so many images, and sites of each.
PILOT_IMAGES, PILOT_SITES = 48, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(Foreseeing):
    """trials: rows that are judged, about; alpha: the share of them that goes to all sites alike. The others are those
    of `Foreseeing`."""

    trials: int = 100_000
    alpha: float = 0.1

    name = "sweep"

    def __post_init__(self) -> None:
        Foreseeing.__post_init__(self)
        if self.trials < 1:
            raise BadConfig(f"Sweep: trials={self.trials}; allowed: 1 or more. Try 100000.")

    def per_site_floor(self, sites: int) -> float:
        return min(1.0, self.alpha * self.trials / sites)

    def choose(self, bench: Workbench, found: SiteClasses, rng: np.random.Generator) -> Judged:
        predictor = bench.predictor(found.image, self.lookahead, self.sensitivity)
        chance = self.chance(predictor.outlook_of_classes(found.changes))[found.of]
        mean = bench.once((self, "mean preference"), lambda: _mean_preference(self, bench))
        density = self.trials / (bench.images * bench.space.live)
        beside_mean = self.preference(chance) / mean
        inclusion = with_certainty(density * found.sites * (self.alpha + (1 - self.alpha) * beside_mean))
        rows = np.flatnonzero(rng.random(len(inclusion)) < inclusion)
        return Judged(rows, inclusion[rows], chance[rows])


def with_certainty(expected: Floats) -> Floats:
    """(rows,) probabilities in proportion to `expected` > 0, 1 at most, that add up to as many (or to all rows there
    are): what is certain leaves its surplus to the others."""
    target, scale = float(expected.sum()), 1.0
    if target >= len(expected):
        return np.ones(len(expected))
    while True:
        certain = scale * expected >= 1
        left = float(expected[~certain].sum())
        if left == 0 or np.isclose(wanted := (target - certain.sum()) / left, scale, rtol=1e-9):
            # Nearly certain is certain: rounding must not leave anything to chance.
            return np.where(scale * expected > 1 - 1e-9, 1.0, scale * expected)
        scale = max(scale, float(wanted))


def _mean_preference(sweep: Sweep, bench: Workbench) -> float:
    """Of all sites of all images, from a pilot; no more than a scale of the probabilities depends on it."""
    rng = np.random.default_rng(0)
    proposal = 0.5 / bench.images + 0.5 * bench.preference
    image = np.sort(rng.choice(bench.images, PILOT_IMAGES, p=proposal))
    faults = bench.space.draw(rng, PILOT_IMAGES * PILOT_SITES)
    chance = sweep.chance(sweep.outlook(bench, np.repeat(image, PILOT_SITES), faults))
    preference = sweep.preference(chance).reshape(PILOT_IMAGES, PILOT_SITES).mean(axis=1)
    return float(np.average(preference, weights=1 / proposal[image]))
