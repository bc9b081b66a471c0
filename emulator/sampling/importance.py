"""Importance sampling by predicted criticality: images by their margin, sites by what is foreseen of them.

Of `candidates` sites of an image one is kept, in proportion to the root of its predicted chance to flip the top-1. The
chance is the soft crossing of the margin or, with `fit` and once enough trials have been judged, one fitted on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.faults.fault import FaultBatch
from emulator.faults.salvo import Salvo
from emulator.faults.strikes import UNSOLVED
from emulator.sampling.cells import Cells, draw_cells
from emulator.sampling.mixture import Mixture
from emulator.sampling.past import Past
from emulator.sampling.resampling import resample
from emulator.sampling.sampler import SampledFaults
from emulator.sampling.workbench import Workbench
from emulator.sensitivity.crossing import crossing, preference_of
from emulator.sensitivity.fitted import Fitted, learnt
from emulator.sensitivity.jacobian import Sensitivity
from emulator.sensitivity.outlook import Outlook, joined_outlooks, outlook_at

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance(Mixture):
    """alpha: share of uniform draws. candidates: sites scored for each trial. lookahead: MAC layers propagated exactly
    before the Jacobian takes over. floor: preference for a site that is predicted harmless, beside 1 for one that is
    surely critical. unsolved: chance of a site that only the cycle engine could judge (about 1 % of the live ones).
    sensitivity: what the Jacobian is made of, "gradient" or "finite-difference". fit: learn from the trials so far."""

    alpha: float = 0.5
    candidates: int = 8
    lookahead: int = 2
    floor: float = 1e-4
    unsolved: float = 0.001
    sensitivity: Sensitivity = "gradient"
    fit: bool = False

    name = "importance"

    def __post_init__(self) -> None:
        Mixture.__post_init__(self)
        if self.candidates < 1 or self.lookahead < 0 or self.floor <= 0:
            raise BadConfig(
                f"{self!r}; allowed: candidates from 1, lookahead from 0, floor above 0. Try Importance()."
            )
        if self.sensitivity not in get_args(Sensitivity):
            allowed = " or ".join(map(repr, get_args(Sensitivity)))
            raise BadConfig(
                f"Importance: sensitivity={self.sensitivity!r}; allowed: {allowed}. Take one of them."
            )

    @property
    def learns(self) -> bool:
        return self.fit

    def draw(self, bench: Workbench, rng: np.random.Generator, count: int, past: Past) -> SampledFaults:
        cells = Cells(image=bench.preference)
        draws = draw_cells(bench.space, rng, cells, count, alpha=self.alpha, candidates=self.candidates)
        score = self.scores(bench, draws.images, draws.faults, past).reshape(count, self.candidates)
        return resample(rng, draws, preference_of(score, self.floor), score, alpha=self.alpha)

    def scores(self, bench: Workbench, image: Ints, faults: FaultBatch, past: Past) -> Floats:
        """(faults,) the predicted chance that each is critical on its image."""
        outlook = self.outlook(bench, image, faults)
        fitted = self._fitted(bench, past) if self.fit else None
        score = crossing(outlook) if fitted is None else fitted.score(outlook)
        return np.where(outlook.foreseen, score, self.unsolved)

    def outlook(self, bench: Workbench, image: Ints, faults: FaultBatch) -> Outlook:
        """What is foreseen of each on its image; nothing of those that only the cycle engine could judge."""
        salvo = Salvo(bench.golden, bench.array, faults, image)
        parts = []
        for volley in salvo.volleys:
            strikes = salvo.strike(bench.inference(volley.image), volley, by_cycles=False)
            predictor = bench.predictor(volley.image, self.lookahead, self.sensitivity)
            found = predictor.outlook(faults.layer[volley.place], strikes)
            parts.append(found._replace(foreseen=found.foreseen & (strikes.engine != UNSOLVED)))
        order = np.concatenate([volley.place for volley in salvo.volleys])
        return outlook_at(joined_outlooks(parts), np.argsort(order))

    def _fitted(self, bench: Workbench, past: Past) -> Fitted | None:
        """The model of these trials, None while there is none that is better than the crossing."""
        if not len(past):
            return None
        outlook = partial(self.outlook, bench, past.image, past.faults)
        return bench.once((self, past), lambda: learnt(outlook(), past.critical, past.weight))
