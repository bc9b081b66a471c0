"""The most critical faults by score alone, without injecting any."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emulator.faults.fault import FaultBatch
from emulator.sampling.importance import Importance
from emulator.sampling.past import no_past
from emulator.sampling.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """The best of `scored` candidates, each once, in falling order of score."""

    scored: int
    image: npt.NDArray[np.int64] = field(repr=False)
    faults: FaultBatch = field(repr=False)
    score: npt.NDArray[np.float64] = field(repr=False)


def rank(
    bench: Workbench,
    rng: np.random.Generator,
    *,
    candidates: int,
    top: int,
    proposal: Importance | None = None,
) -> Ranking:
    """Score `candidates` draws of live sites (images by margin, sites uniform) and keep the `top` with the highest
    score."""
    proposal = Importance() if proposal is None else proposal
    image = np.sort(rng.choice(bench.images, candidates, p=bench.preference))
    faults = bench.space.draw(rng, candidates)
    first: dict[tuple[int, int], int] = {}
    for draw, site in enumerate(zip(image.tolist(), bench.space.indices(faults), strict=True)):
        first.setdefault(site, draw)
    score, once = proposal.scores(bench, image, faults, no_past()), np.array(list(first.values()))
    best = once[np.argsort(-score[once], kind="stable")[:top]]
    return Ranking(scored=candidates, image=image[best], faults=faults[best], score=score[best])
