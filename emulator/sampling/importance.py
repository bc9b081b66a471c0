"""Importance sampling by predicted criticality: images by their margin, sites by what is foreseen of them.

Of `candidates` sites of an image one is kept, in proportion to the root of its predicted chance to flip the top-1. The
chance is the soft crossing of the margin or, with `learn` and once enough trials have been judged, one fitted on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.faults.fault import FaultBatch
from emulator.sampling.cells import Cells, draw_cells
from emulator.sampling.foreseeing import Foreseeing
from emulator.sampling.past import Past
from emulator.sampling.resampling import resample
from emulator.sampling.sampler import SampledFaults
from emulator.sampling.workbench import Workbench
from emulator.sensitivity.fitted import Fitted, learnt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance(Foreseeing):
    """alpha: share of uniform draws. candidates: sites scored for each trial. learn: from the trials so far. The
    others are those of `Foreseeing`."""

    alpha: float = 0.5
    candidates: int = 16
    learn: bool = False

    name = "importance"

    def __post_init__(self) -> None:
        Foreseeing.__post_init__(self)
        if self.candidates < 1:
            raise BadConfig(f"Importance: candidates={self.candidates}; allowed: 1 or more. Try 16.")

    @property
    def learns(self) -> bool:
        return self.learn

    def draw(self, bench: Workbench, rng: np.random.Generator, count: int, past: Past) -> SampledFaults:
        cells = Cells(image=bench.preference)
        draws = draw_cells(bench.space, rng, cells, count, alpha=self.alpha, candidates=self.candidates)
        score = self.scores(bench, draws.images, draws.faults, past).reshape(count, self.candidates)
        return resample(rng, draws, self.preference(score), score, alpha=self.alpha)

    def scores(self, bench: Workbench, image: Ints, faults: FaultBatch, past: Past) -> Floats:
        """(faults,) the predicted chance that each is critical on its image."""
        outlook = self.outlook(bench, image, faults)
        fitted = self._fitted(bench, past) if self.learn else None
        if fitted is None:
            return self.chance(outlook)
        return np.where(outlook.foreseen, fitted.score(outlook), self.unsolved)

    def _fitted(self, bench: Workbench, past: Past) -> Fitted | None:
        """The model of these trials, None while there is none that is better than the crossing."""
        if not len(past):
            return None
        outlook = partial(self.outlook, bench, past.image, past.faults)
        return bench.once((self, past), lambda: learnt(outlook(), past.critical, past.weight))
