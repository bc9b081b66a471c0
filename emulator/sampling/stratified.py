"""Stratified sampling by layer, register and bit, with Neyman's allocation from the trials so far.

Cochran, Sampling Techniques, ch. 5: n_c in proportion to p_c sd_c, sd_c = sqrt(r_c (1 - r_c)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.faults.space import FaultSpace
from emulator.sampling.cells import bit_population, cells_of, draw_cells
from emulator.sampling.mixture import Mixture
from emulator.sampling.past import Past
from emulator.sampling.sampler import SampledFaults
from emulator.sampling.workbench import Workbench

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratified(Mixture):
    """alpha: share of uniform draws. floor: a stratum's rate is shrunk to that of all as if so many of its trials had
    shown it, and until there are trials every stratum is drawn from alike."""

    alpha: float = 0.5
    floor: float = 25.0

    name = "stratified"
    learns = True

    def draw(self, bench: Workbench, rng: np.random.Generator, count: int, past: Past) -> SampledFaults:
        alike = np.full(bench.images, 1 / bench.images)
        cells = cells_of(alike, self._allocation(bench.space, past))
        return draw_cells(bench.space, rng, cells, count, alpha=self.alpha).single()

    def _allocation(self, space: FaultSpace, past: Past) -> Floats:
        """(strata, bits) share of the draws, 1 in all."""
        population = bit_population(space)
        if not len(past):
            alike: Floats = (population > 0) / (population > 0).sum()
            return alike
        trials, events = np.zeros_like(population), np.zeros_like(population)
        cell = space.stratum_of(past.faults), past.faults.bit
        np.add.at(trials, cell, 1)
        np.add.at(events, cell, past.critical)
        # Half an event: with none at all, every stratum's rate is as unknown as any other's.
        overall = float((past.weight * past.critical).sum() + 0.5) / (len(past) + 1)
        rate = np.clip((events + self.floor * overall) / (trials + self.floor), 0, 1 - 1e-9)
        share = population * np.sqrt(rate * (1 - rate))
        result: Floats = share / share.sum()
        return result
