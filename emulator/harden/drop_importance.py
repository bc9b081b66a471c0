"""Importance sampling of sites by the accuracy drop that is predicted of them.

Of many candidate sites one is kept, the likelier the larger its predicted drop. Drops are predicted in rounds, as in
successive halving (Jamieson & Talwalkar, AISTATS'16): on few pilot images of all candidates, on more of those that look
best. Whatever is predicted, the weight of what is kept is known exactly (`sampling.resampling`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.faults.fault import FaultBatch
from emulator.faults.salvo import Salvo
from emulator.harden.pilots import pilots_of
from emulator.sampling.cells import Cells, draw_cells
from emulator.sampling.foreseeing import Foreseeing
from emulator.sampling.past import Past
from emulator.sampling.resampling import resample
from emulator.sampling.sampler import SampledFaults
from emulator.sampling.workbench import Workbench

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropImportance(Foreseeing):
    """right: the images that count, those which the fault-free network answers rightly. alpha: share of uniform draws.
    rounds: for each draw, how many sites are scored on how many pilot images; the next round is for the best of them.
    power: of the predicted drop, the preference for a site. The others are those of `Foreseeing`."""

    right: tuple[int, ...]
    alpha: float = 0.2
    rounds: tuple[tuple[int, int], ...] = ((512, 2), (64, 8), (16, 32))
    power: float = 4.0
    floor: float = 1e-12

    name = "drop-importance"
    learns = False

    def __post_init__(self) -> None:
        Foreseeing.__post_init__(self)
        sites = [count for count, _ in self.rounds]
        ends = not sites or sites != sorted(sites, reverse=True)
        if ends or min(map(min, self.rounds)) < 1 or self.power <= 0 or not self.right:
            raise BadConfig(
                f"DropImportance: rounds={self.rounds}, power={self.power}, {len(self.right)} right images; allowed: "
                "rounds of (sites, pilots), 1 or more each, sites not growing; power above 0; an image. Leave them out."
            )

    def settings(self) -> dict[str, Any]:
        """What distinguishes this sampler; of the images their number."""
        return {"name": self.name, **asdict(self), "right": len(self.right)}

    @property
    def predictions(self) -> int:
        """For each draw: sites x pilot images on which the outcome is predicted."""
        return sum(sites * min(pilots, len(self.right)) for sites, pilots in self.rounds)

    def draw(self, bench: Workbench, rng: np.random.Generator, count: int, past: Past) -> SampledFaults:
        """Sites for all images alike: the image of each is drawn and means nothing."""
        cells = Cells(image=np.full(bench.images, 1 / bench.images))
        candidates = self.rounds[0][0]
        draws = draw_cells(bench.space, rng, cells, count, alpha=self.alpha, candidates=candidates)
        score = self.scores(bench, draws.faults).reshape(count, candidates)
        return resample(rng, draws, score**self.power + self.floor, score, alpha=self.alpha)

    def scores(self, bench: Workbench, faults: FaultBatch) -> Floats:
        """(faults,) the drop predicted of each in the last round it came to; candidates of a draw lie together."""
        candidates = self.rounds[0][0]
        score = np.zeros((len(faults) // candidates, candidates))
        rivals = np.broadcast_to(np.arange(candidates), score.shape)
        for sites, pilots in self.rounds:
            rank = np.argsort(-np.take_along_axis(score, rivals, axis=1), axis=1, kind="stable")
            rivals = np.take_along_axis(rivals, rank[:, :sites], axis=1)
            which = (rivals + candidates * np.arange(len(score))[:, np.newaxis]).ravel()
            found = self.predicted_drop(bench, faults[which], pilots).reshape(rivals.shape)
            np.put_along_axis(score, rivals, found, axis=1)
        return score.ravel()

    def predicted_drop(self, bench: Workbench, faults: FaultBatch, pilots: int) -> Floats:
        """(faults,) expected loss of accuracy of each struck in every image, from so many pilots."""
        chosen = bench.once((self, pilots), lambda: pilots_of(bench, self.right, pilots))
        salvo = Salvo(bench.golden, bench.array, faults, np.zeros(len(faults), np.int64))
        drop = np.zeros(len(faults))
        for image, share in zip(chosen.image.tolist(), chosen.share.tolist(), strict=True):
            for volley in salvo.volleys:
                strikes = salvo.strike(bench.inference(image), volley, by_cycles=False)
                outlook = self.outlook_of(bench, image, faults.layer[volley.place], strikes)
                drop[volley.place] += share * self.chance(outlook)
        return drop
