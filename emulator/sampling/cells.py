"""A proposal that prefers images, layers, registers and bits, and within them takes every site alike.

q = (1 - alpha) h + alpha p, exactly: h draws an image, a stratum (layer and register), a live site of it, and then
moves to a bit of the word that site is in, by preference. Nothing enumerates the space, and the density of every site
is known, that of the defensive draws included (Owen & Zhou, JASA'00).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from emulator.faults.fault import FaultBatch
from emulator.faults.space import FaultSpace
from emulator.sampling.sampler import SampledFaults

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """h. image (images,) probabilities. stratum (strata,) probabilities, None: those of the population; bit (strata,
    bits of the widest register): preference > 0 among the live bits of a word, None: alike."""

    image: Floats = field(repr=False)
    stratum: Floats | None = field(default=None, repr=False)
    bit: Floats | None = field(default=None, repr=False)


def cells_of(image: Floats, share: Floats) -> Cells:
    """From shares of the draws (strata, bits), up to a factor."""
    # Bits that no word of a stratum has get none; a word's live bits must have some.
    return Cells(image=image, stratum=share.sum(axis=1) / share.sum(), bit=np.maximum(share, 1e-12))


def bit_population(space: FaultSpace) -> Floats:
    """(strata, bits of the widest register) about the share of the live sites: the bits of a register alike."""
    bits = np.array([s.register.bits for s in space.strata])
    live = np.array([s.live / space.live for s in space.strata])
    shares: Floats = np.where(
        np.arange(space.word_bits) < bits[:, np.newaxis], (live / bits)[:, np.newaxis], 0.0
    )
    return shares


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellDraws:
    """image (trials,); faults (trials x candidates,); over (trials, candidates): population density over proposal
    density of each candidate, image included."""

    image: Ints
    faults: FaultBatch
    over: Floats = field(repr=False)

    @property
    def images(self) -> Ints:
        """(trials x candidates,) that of each candidate."""
        return np.repeat(self.image, self.over.shape[1])

    def single(self) -> SampledFaults:
        """Of one candidate a trial; ranked by how much more than its share a site is wanted."""
        over = self.over[:, 0]
        return SampledFaults(image=self.image, faults=self.faults, log_weight=np.log(over), score=1 / over)


def draw_cells(
    space: FaultSpace,
    rng: np.random.Generator,
    cells: Cells,
    count: int,
    *,
    alpha: float,
    candidates: int = 1,
) -> CellDraws:
    """`count` images, and for each that many sites, independent given the image. over is at most 1 / alpha."""
    uniform = 1 / len(cells.image)
    proposal = alpha * uniform + (1 - alpha) * cells.image
    image = rng.choice(len(cells.image), count, p=proposal)
    # Given the image, this share of its draws is the defensive one.
    plain = np.repeat(alpha * uniform / proposal[image], candidates)
    faults = space.draw(rng, count * candidates)
    preferred = np.flatnonzero(rng.random(count * candidates) >= plain)
    faults = _replaced(faults, preferred, _draw_preferred(space, rng, cells, faults[preferred]))
    density = density_over_population(space, cells, np.repeat(image, candidates), faults, alpha=alpha)
    return CellDraws(image=image, faults=faults, over=1 / density.reshape(count, candidates))


def density_over_population(
    space: FaultSpace, cells: Cells, image: Ints, faults: FaultBatch, *, alpha: float
) -> Floats:
    """(faults,) q / p of each on its image, at least alpha."""
    h: Floats = cells.image[image] * len(cells.image) * _preference(space, cells, faults)
    return alpha + (1 - alpha) * h


def _draw_preferred(
    space: FaultSpace, rng: np.random.Generator, cells: Cells, uniform: FaultBatch
) -> FaultBatch:
    """As many sites drawn from h, given uniform ones."""
    faults = uniform
    if cells.stratum is not None:
        faults = space.draw_in(rng, rng.choice(len(cells.stratum), len(faults), p=cells.stratum))
    if cells.bit is not None:
        share = np.cumsum(_bit_shares(space, cells.bit, faults), axis=1)
        bit = (share < rng.random(len(faults))[:, np.newaxis] * share[:, -1:]).sum(axis=1)
        faults = replace(faults, bit=bit)
    return faults


def _preference(space: FaultSpace, cells: Cells, faults: FaultBatch) -> Floats:
    """(faults,) density of h over that of the population, given the image."""
    density = np.ones(len(faults))
    if cells.stratum is not None:
        population = np.array([s.live / space.live for s in space.strata])
        stratum = space.stratum_of(faults)
        density *= cells.stratum[stratum] / population[stratum]
    if cells.bit is not None:
        share = _bit_shares(space, cells.bit, faults)
        density *= (share > 0).sum(axis=1) * share[np.arange(len(faults)), faults.bit]
    return density


def _bit_shares(space: FaultSpace, preference: Floats, faults: FaultBatch) -> Floats:
    """(faults, bits) the chance of each live bit of each one's word."""
    weight = np.where(space.live_bits(faults), preference[space.stratum_of(faults)], 0.0)
    shares: Floats = weight / weight.sum(axis=1, keepdims=True)
    return shares


def _replaced(faults: FaultBatch, at: npt.NDArray[np.intp], by: FaultBatch) -> FaultBatch:
    """The faults with some of them replaced."""
    columns = {name: getattr(faults, name).copy() for name in FaultBatch.__slots__}
    for name, column in columns.items():
        column[at] = getattr(by, name)
    return FaultBatch(**columns)
