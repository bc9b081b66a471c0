"""How fast trials go here: some of them on one image, timed, before a campaign is begun."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.campaign.trial import run_chunk
from emulator.sampling.past import no_past
from emulator.sampling.sampler import Sampler
from emulator.sampling.workbench import Workbench

if TYPE_CHECKING:
    from emulator.campaign.runner import Campaign

# Trials of an image are struck together, and more of them cost less each: so many go about as fast as a campaign does
# (of four that were measured, on small networks, between half and 1.1 times as fast).
MOST_TRIALS = 64
_FIRST_TRIALS = 4
_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """trials: so many took `seconds`, in this process, with kernels compiled and the image known."""

    trials: int
    seconds: float

    @property
    def trials_per_second(self) -> float:
        return self.trials / self.seconds

    def seconds_for(self, trials: int, workers: int) -> float:
        """About, for so many trials, without what is done once for each worker and image."""
        return trials / self.trials_per_second / workers


def probe(campaign: Campaign) -> Probe | None:
    """Twice as many trials again and again, until they take a second or are enough. None for a sampler that does not
    draw: what its classes cost is not known before."""
    sampler = campaign.sampler
    if not isinstance(sampler, Sampler):
        return None
    bench = Workbench(campaign.network, campaign.array, campaign.space, campaign.samples.inputs[:1])
    count, seconds = _FIRST_TRIALS, 0.0
    for attempt in range(10):
        start = time.perf_counter()
        run_chunk(bench, sampler, no_past(), seed=campaign.seed, chunk=attempt, first=0, count=count)
        seconds = time.perf_counter() - start
        # The first has compiled kernels, and found out about the image.
        if attempt and (count == MOST_TRIALS or seconds > _SECONDS):
            break
        count = min(2 * count, MOST_TRIALS) if attempt else count
    return Probe(trials=count, seconds=seconds)
