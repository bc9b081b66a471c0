"""Chunks come as they are finished; what is estimated, and where a campaign stops, goes by their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.sampling.confidence_sequence import ConfidenceSequence
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import Tally
from emulator.sampling.horvitz_thompson import HorvitzThompson
from emulator.sampling.stopping import Standing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkSummary:
    """What the stop rule needs of a chunk. weight: of each trial; sites: how many it stands for before it is weighed;
    covered: the sites of the whole chunk; critical: the fault_id of each trial with SDC-1."""

    sdc1: npt.NDArray[np.bool_] = field(repr=False)
    weight: npt.NDArray[np.float64] = field(repr=False)
    sites: npt.NDArray[np.int64] = field(repr=False)
    covered: int
    critical: npt.NDArray[Any] = field(repr=False)


class InOrder:
    """Takes chunks as they come, gives estimates in chunk order. named: are critical faults to be told apart? The
    names are kept for that, and grow with the campaign."""

    def __init__(self, tally: Tally | ConfidenceSequence | HorvitzThompson, named: bool) -> None:
        self.tally = tally
        self.named = named
        self.waiting: dict[int, ChunkSummary] = {}
        self.next = 0
        self.trials = 0
        self.critical: set[str] = set()

    def add(self, chunk: int, summary: ChunkSummary) -> Iterator[tuple[int, Estimate]]:
        """(chunk, estimate over all chunks up to it) for each chunk now complete in order."""
        self.waiting[chunk] = summary
        while self.next in self.waiting:
            ready = self.waiting.pop(self.next)
            if isinstance(self.tally, HorvitzThompson):
                self.tally.add(ready.sdc1, ready.sites, 1 / ready.weight, covered=ready.covered)
            else:
                self.tally.add(ready.sdc1, ready.weight)
            self.trials += len(ready.sdc1)
            if self.named:
                self.critical.update(ready.critical)
            self.next += 1
            yield self.next - 1, self.tally.estimate()

    def standing(self, estimate: Estimate, seconds: float) -> Standing:
        """What the stop rule is asked about, after the chunk that gave the estimate."""
        return Standing(trials=self.trials, critical=len(self.critical), seconds=seconds, estimate=estimate)
