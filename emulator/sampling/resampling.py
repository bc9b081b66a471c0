"""One site of several is kept, by preference, with the exact weight that this gives it.

Given its rivals the kept site's weight is known whatever the preferences are, so the estimate is unbiased (resampled
importance sampling: Talbot et al., EGSR'05, eq. 6), and every weight stays below 1 / alpha (defensive mixture: Owen &
Zhou, JASA'00).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.sampling.cells import CellDraws
from emulator.sampling.sampler import SampledFaults

Floats = npt.NDArray[np.float64]


def resample(
    rng: np.random.Generator, draws: CellDraws, preference: Floats, score: Floats, *, alpha: float
) -> SampledFaults:
    """One of the candidates of each trial. preference (trials, candidates) >= 0, not all 0 in a trial: how much each
    is wanted beside its rivals, on top of the proposal they come from. score (trials, candidates): that of the result.
    """
    trials, candidates = draws.over.shape
    # Of each trial this share is left once every candidate has what bounds its weight.
    plain = alpha * draws.over / candidates
    wanted = preference / preference.sum(axis=1, keepdims=True)
    bound: Floats = plain.sum(axis=1, keepdims=True)
    share = plain + (1 - bound) * wanted
    ends = np.cumsum(share, axis=1)
    chosen = (ends < rng.random((trials, 1)) * ends[:, -1:]).sum(axis=1)
    kept = np.arange(trials), np.minimum(chosen, candidates - 1)
    return SampledFaults(
        image=draws.image,
        faults=draws.faults[kept[0] * candidates + kept[1]],
        log_weight=np.log(draws.over[kept]) - np.log(candidates * share[kept]),
        score=score[kept],
    )
