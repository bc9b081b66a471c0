"""Samplers as others have them, behind the same interface: what ours must beat.

Their preferences are theirs; the defensive share and the exact weights are ours, so that they are unbiased too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.faults.fault import FaultBatch
from emulator.faults.salvo import Salvo
from emulator.faults.space import FaultSpace
from emulator.sampling.cells import Cells, draw_cells
from emulator.sampling.mixture import Mixture
from emulator.sampling.past import Past
from emulator.sampling.resampling import resample
from emulator.sampling.sampler import SampledFaults
from emulator.sampling.workbench import Workbench
from emulator.sensitivity.first_order import first_order

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Preference for a site that the gradient says nothing of, beside 1 for the best.
FLOOR = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class BitOnly(Mixture):
    """Bit b of a word in proportion to 2^b, all else uniform."""

    alpha: float = 0.2

    name = "bit-only"
    learns = False

    def draw(self, bench: Workbench, rng: np.random.Generator, count: int, past: Past) -> SampledFaults:
        cells = Cells(image=_alike(bench.images), bit=powers_of_two(bench.space))
        return draw_cells(bench.space, rng, cells, count, alpha=self.alpha).single()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Mixture):
    """Of `candidates` sites of an image one is kept, by its score; what the others here differ in."""

    alpha: float = 0.2
    candidates: int = 16

    learns = False

    def draw(self, bench: Workbench, rng: np.random.Generator, count: int, past: Past) -> SampledFaults:
        draws = draw_cells(
            bench.space, rng, self.cells(bench), count, alpha=self.alpha, candidates=self.candidates
        )
        score = self.score(bench, draws.images, draws.faults).reshape(draws.over.shape)
        return resample(rng, draws, self.preference(score), score / draws.over, alpha=self.alpha)

    def cells(self, bench: Workbench) -> Cells:
        """Where candidates come from: everywhere alike."""
        return Cells(image=_alike(bench.images))

    def score(self, bench: Workbench, image: Ints, faults: FaultBatch) -> Floats:
        """(faults,) how much each is expected to harm its image."""
        raise TypeError("Scored is abstract: use ISimDL, Gradient or ProgressiveBitSearch")

    def preference(self, score: Floats) -> Floats:
        """(trials, candidates) of scores of that shape."""
        return score + FLOOR


@dataclass(frozen=True, slots=True, kw_only=True)
class ISimDL(Scored):
    """Layers alike, elements by |sensitivity| averaged over the images, bits by their weight (arXiv 2303.08035; on
    integers a bit weighs 2^b). candidates: sites of a layer among which the sensitivity chooses."""

    name = "isimdl"

    def cells(self, bench: Workbench) -> Cells:
        """Layers alike, bits by their weight."""
        stratum, bit = layers_alike(bench.space), powers_of_two(bench.space)
        return Cells(image=_alike(bench.images), stratum=stratum, bit=bit)

    def score(self, bench: Workbench, image: Ints, faults: FaultBatch) -> Floats:
        """(faults,) |sensitivity| of what each strikes, the bit left out."""
        return _first_order(bench, image, faults, average=True)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient(Scored):
    """|gradient x error| / margin on the fault's own image, as every first-order tool has it."""

    name = "gradient"

    def score(self, bench: Workbench, image: Ints, faults: FaultBatch) -> Floats:
        """(faults,) predicted change of the margin beside the margin, at most 1."""
        change = np.abs(_first_order(bench, image, faults, average=False)[0])
        score: Floats = np.minimum(change / np.maximum(bench.margins[image], 0.5), 1.0)
        return score


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressiveBitSearch(Scored):
    """Of `candidates` sites always the one whose flip, to first order, costs the answer most (Rakin et al., Bit-Flip
    Attack, ICCV'19, sec. 4.2; its exact evaluation of the winner is the trial)."""

    candidates: int = 64

    name = "bfa"

    def score(self, bench: Workbench, image: Ints, faults: FaultBatch) -> Floats:
        """(faults,) predicted loss of margin, in LSB; negative where the margin grows."""
        return -_first_order(bench, image, faults, average=False)[0]

    def preference(self, score: Floats) -> Floats:
        """The largest of each trial alone."""
        winner = np.arange(self.candidates) == score.argmax(axis=1)[:, np.newaxis]
        return np.where(winner, 1.0, 0.0)


def powers_of_two(space: FaultSpace) -> Floats:
    """(strata, bits) 2^b."""
    return np.repeat(2.0 ** np.arange(space.word_bits)[np.newaxis], len(space.strata), axis=0)


def layers_alike(space: FaultSpace) -> Floats:
    """(strata,) every layer with the same probability, within it in proportion to live sites."""
    live = np.array([float(s.live) for s in space.strata])
    layer = np.array([s.layer for s in space.strata])
    of_layer = np.bincount(layer, live)
    shares: Floats = live / np.maximum(of_layer[layer], 1.0) / (of_layer > 0).sum()
    return shares


def _alike(images: int) -> Floats:
    return np.full(images, 1 / images)


def _first_order(
    bench: Workbench, image: Ints, faults: FaultBatch, *, average: bool
) -> tuple[Floats, Floats]:
    """`first_order` of each on its image; average: with slopes averaged over all images, |slope|."""
    change, weight = np.zeros(len(faults)), np.zeros(len(faults))
    salvo = Salvo(bench.golden, bench.array, faults, image)
    for volley in salvo.volleys:
        strikes = salvo.strike(bench.inference(volley.image), volley, by_cycles=False)
        slopes = (
            bench.once(_average_slopes, lambda: _average_slopes(bench))
            if average
            else bench.slopes(volley.image)
        )
        found = first_order(bench.golden, faults.layer[volley.place], strikes, slopes)
        change[volley.place], weight[volley.place] = found
    return change, weight


def _average_slopes(bench: Workbench) -> dict[int, Floats]:
    """|d margin / d value| of each MAC layer's outputs, over all images."""
    total: dict[int, Floats] = {}
    for image in range(bench.images):
        for layer, slopes in bench.slopes(image).items():
            total[layer] = total.get(layer, 0.0) + np.abs(slopes) / bench.images
    return total
