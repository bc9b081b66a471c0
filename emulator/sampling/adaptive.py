"""The cross-entropy method: images, strata and bits are drawn as often as critical faults were found there.

Without gradients, from the trials so far alone. Of all proposals that are a product of these shares, the ones found by
the weighted frequencies of the critical faults are the nearest to the ideal proposal in Kullback and Leibler's sense
(Rubinstein & Kroese, The Cross-Entropy Method, sec. 2.3, eq. 2.32).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.sampling.cells import bit_population, cells_of, draw_cells
from emulator.sampling.mixture import Mixture
from emulator.sampling.past import Past
from emulator.sampling.sampler import SampledFaults
from emulator.sampling.workbench import Workbench

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive(Mixture):
    """alpha: share of uniform draws. prior: what was known before weighs as much as so many critical faults: images by
    their margin, the rest as the population has it."""

    alpha: float = 0.2
    prior: float = 20.0

    name = "adaptive"
    learns = True

    def draw(self, bench: Workbench, rng: np.random.Generator, count: int, past: Past) -> SampledFaults:
        stratum, population = bench.space.stratum_of(past.faults), bit_population(bench.space)
        bits = np.zeros_like(population)
        np.add.at(bits, (stratum, past.faults.bit), self._found(past))
        bits += self.prior * population
        cells = cells_of(self._image_shares(bench, past), bits)
        return draw_cells(bench.space, rng, cells, count, alpha=self.alpha).single()

    def _found(self, past: Past) -> Floats:
        """(trials,) the critical faults, weighted, as many in all as were found."""
        found = past.weight * past.critical
        total = found.sum()
        result: Floats = found * (past.critical.sum() / total) if total > 0 else found
        return result

    def _image_shares(self, bench: Workbench, past: Past) -> Floats:
        found = np.bincount(past.image, self._found(past), bench.images)
        shares = found + self.prior * bench.preference
        result: Floats = shares / shares.sum()
        return result
