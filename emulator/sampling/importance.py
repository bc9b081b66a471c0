"""Importance sampling by predicted criticality, with a defensive mixture: q = (1 - alpha) h + alpha p.

h draws an image by its golden margin, then `candidates` live sites of that image, scores them all, and keeps one
in proportion to its score. Nothing enumerates the space, the draws are independent, and the weight of the one
kept is exact given its rivals, so the estimate is unbiased whatever the scores are (resampled importance
sampling: Talbot et al., EGSR'05, eq. 6; defensive mixture: Owen & Zhou, JASA'00).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.faults.fault import FaultBatch
from emulator.faults.salvo import Salvo
from emulator.faults.strikes import UNSOLVED
from emulator.sampling.sampler import SampledFaults
from emulator.sampling.workbench import Workbench

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """alpha: share of plain uniform draws, bounds every weight by 1 / alpha. candidates: sites scored for each
    trial. lookahead: MAC layers propagated exactly before the Jacobian takes over. floor: score given to a site
    that is predicted harmless, so that its weight stays moderate. unsolved: score of a site that only the cycle
    engine could judge (about 1 % of the live ones)."""

    alpha: float = 0.5
    candidates: int = 8
    lookahead: int = 2
    floor: float = 1e-3
    unsolved: float = 0.02

    name = "importance"

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise BadConfig(f"Importance: alpha={self.alpha}; allowed: above 0, at most 1. Try 0.5.")
        if self.candidates < 1 or self.lookahead < 0 or self.floor <= 0:
            raise BadConfig(
                f"{self!r}; allowed: candidates from 1, lookahead from 0, floor above 0. Try Importance()."
            )

    @property
    def max_weight(self) -> float:
        return 1.0 / self.alpha

    def settings(self) -> dict[str, Any]:
        names = ("alpha", "candidates", "lookahead", "floor", "unsolved")
        return {"name": self.name, **{name: getattr(self, name) for name in names}}

    def draw(self, bench: Workbench, rng: np.random.Generator, count: int) -> SampledFaults:
        proposal = self.image_proposal(bench)
        image = rng.choice(bench.images, count, p=proposal)
        faults = bench.space.draw(rng, count * self.candidates)
        pick = rng.random(count)
        kept, log_weight = np.empty(count, np.int64), np.empty(count)
        scores = self.scores(bench, np.repeat(image, self.candidates), faults)
        for i in np.unique(image).tolist():
            trials = np.flatnonzero(image == i)
            rows = trials[:, np.newaxis] * self.candidates + np.arange(self.candidates)
            score = scores[rows]
            share = self._site_shares(score, 1.0 / (bench.images * proposal[i]))
            chosen = (np.cumsum(share, axis=1) < pick[trials, np.newaxis]).sum(axis=1)
            chosen = np.minimum(chosen, self.candidates - 1)
            kept[trials] = rows[np.arange(len(trials)), chosen]
            taken = share[np.arange(len(trials)), chosen]
            log_weight[trials] = -np.log(bench.images * proposal[i] * self.candidates * taken)
        return SampledFaults(image=image, faults=faults[kept], log_weight=log_weight)

    def scores(self, bench: Workbench, image: Ints, faults: FaultBatch) -> Floats:
        """(faults,) predicted harm of each on its image, in [0, 1]; `unsolved` where only the cycle engine could
        tell."""
        scores = np.empty(len(faults))
        salvo = Salvo(bench.golden, bench.array, faults, image)
        for volley in salvo.volleys:
            strikes = salvo.strike(bench.inference(volley.image), volley, by_cycles=False)
            scorer = bench.scorer(volley.image, self.lookahead)
            score = scorer.score(faults.layer[volley.place], strikes)
            scores[volley.place] = np.where(strikes.engine == UNSOLVED, self.unsolved, score)
        return scores

    def image_proposal(self, bench: Workbench) -> Floats:
        """(images,) probabilities: low-margin images first, every image at least alpha times uniform.

        The rate falls about as the square of the margin, and the best proposal follows the root of the rate.
        """
        preference = 1.0 / (1.0 + bench.margins)
        proposal: Floats = self.alpha / bench.images + (1 - self.alpha) * preference / preference.sum()
        return proposal

    def _site_shares(self, score: Floats, uniform_over_proposal: float) -> Floats:
        """(trials, candidates) probabilities. Of an image's draws the share alpha * p / q is the defensive,
        uniform one; so image and site together keep q >= alpha p."""
        plain = self.alpha * uniform_over_proposal
        weight = score + self.floor
        shares: Floats = plain / self.candidates + (1 - plain) * weight / weight.sum(axis=1, keepdims=True)
        return shares
