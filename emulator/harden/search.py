"""The search for faults that reach a predetermined accuracy drop (the use of ISimDL, arXiv 2303.08035).

A fault is a site, struck in every image; its drop is the clean accuracy minus that under the fault. Sites are drawn
from any proposal with known weights, so that the search also says how many such faults there are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

from emulator.errors import BadConfig
from emulator.faults.fault import Fault
from emulator.harden.answers import Answers
from emulator.harden.drop_importance import DropImportance
from emulator.harden.every_image import Injected, inject_everywhere
from emulator.harden.found import Found, FoundFault
from emulator.sampling.confidence_sequence import ConfidenceSequence
from emulator.sampling.estimators import Tally
from emulator.sampling.past import no_past
from emulator.sampling.registry import sampler_named
from emulator.sampling.rng import rng_for
from emulator.sampling.sampler import SampledFaults, Sampler
from emulator.sampling.stopping import Standing, StopRule
from emulator.sampling.workbench import Workbench

# Sites that are drawn and struck together; a search stops between them.
DRAWS = 500

# Others than importance are those of `sampling.registry`, to compare with.
SAMPLERS = ("importance", "uniform", "bit-only", "isimdl", "gradient")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """drop: of accuracy, a share of the images above 0. sampler: one that does not learn; the image of its draws means
    nothing here. stop: trials are draws, critical faults those that reach the drop."""

    drop: float
    sampler: Sampler
    stop: StopRule
    seed: int = 0

    def run(self, bench: Workbench, answers: Answers) -> Found:
        """To the end. Raises BadConfig for a drop that no fault can reach."""
        *_, found = self.steps(bench, answers)
        return found

    def steps(self, bench: Workbench, answers: Answers) -> Iterator[Found]:
        """What has been found after each DRAWS draws, until the stop rule is met; errors as of `run`."""
        needed, limit = self._needed(answers), self.stop.limit()
        ledger, start, chunk = _Ledger(self, bench), time.perf_counter(), 0
        while True:
            count = DRAWS if limit is None else min(DRAWS, limit - ledger.draws)
            drawn = self.sampler.draw(bench, rng_for(self.seed, chunk), count, no_past())
            ledger.enter(drawn, inject_everywhere(bench, answers, drawn.faults, needed))
            found = ledger.found(answers, needed, time.perf_counter() - start)
            yield found
            if self.stop.met(
                Standing(
                    trials=found.draws,
                    critical=len(found.faults),
                    seconds=found.seconds,
                    estimate=found.rate,
                )
            ):
                return
            chunk += 1

    def _needed(self, answers: Answers) -> int:
        """Answers that a fault must cost."""
        # A drop of .05 in 100 images is 5 answers, however .05 is stored.
        wanted = self.drop * len(answers) - 1e-9
        if not 0 < wanted <= int(answers.right.sum()):
            fix = "Choose a smaller one, or check the labels" if wanted > 0 else "Choose a larger one"
            raise BadConfig(
                f"drop={self.drop}; allowed: above 0, at most the clean accuracy, {answers.accuracy.value:g} on "
                f"{len(answers)} images. {fix}; one answer is {1 / len(answers):.2g}."
            )
        return ceil(wanted)


def sampler_for(name: str, answers: Answers) -> Sampler:
    """One of SAMPLERS, as it is without settings; raises BadConfig for another name."""
    if name not in SAMPLERS:
        raise BadConfig(f"sampler {name!r}; allowed in a search: {', '.join(SAMPLERS)}. Take one of them.")
    if name == "importance":
        return DropImportance(right=tuple(np.flatnonzero(answers.right).tolist()))
    sampler = sampler_named(name, {})
    assert isinstance(sampler, Sampler)
    return sampler


class _Ledger:
    """Of the draws so far. If the search may stop on what it finds, intervals hold at any time."""

    def __init__(self, search: Search, bench: Workbench) -> None:
        tally = ConfidenceSequence if search.stop.looks else Tally
        self.search = search
        self.space = bench.space
        self.draws = self.injections = 0
        self._hits, self._rate = tally(), tally(max_weight=search.sampler.max_weight)
        self._lost: dict[int, int] = {}
        self._times: dict[int, int] = {}

    def enter(self, drawn: SampledFaults, injected: Injected) -> None:
        """More draws and what became of them."""
        self.draws += len(drawn.faults)
        self.injections += injected.injections
        self._hits.add(injected.reached, np.ones(len(injected.reached)))
        self._rate.add(injected.reached, np.exp(drawn.log_weight))
        reached = np.flatnonzero(injected.reached)
        sites = self.space.indices(drawn.faults[reached])
        for site, lost in zip(sites, injected.lost[reached].tolist(), strict=True):
            self._lost[site] = lost
            self._times[site] = self._times.get(site, 0) + 1

    def found(self, answers: Answers, needed: int, seconds: float) -> Found:
        """All of it as a record."""
        sampler = self.search.sampler
        ranked = sorted(self._lost, key=lambda site: (-self._lost[site], site))
        return Found(
            drop=self.search.drop,
            needed=needed,
            images=len(answers),
            accuracy=answers.accuracy.value,
            sampler=sampler.settings(),
            seed=self.search.seed,
            draws=self.draws,
            hits=self._hits.estimate(),
            rate=self._rate.estimate(),
            live_share=self.space.live_share,
            injections=self.injections,
            predictions=self.draws * sampler.predictions if isinstance(sampler, DropImportance) else 0,
            seconds=seconds,
            faults=tuple(self._fault(site, len(answers)) for site in ranked),
        )

    def _fault(self, site: int, images: int) -> FoundFault:
        fault: Fault = self.space.site(site)
        lost = self._lost[site]
        return FoundFault(fault=fault, lost=lost, drop=lost / images, draws=self._times[site])
