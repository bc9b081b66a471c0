"""What a worker is given once, and what it gives back for each chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.campaign.in_order import ChunkSummary
from emulator.campaign.memory import MemoryPlan
from emulator.campaign.parts import encoded_part
from emulator.graph.golden_pool import PoolFile
from emulator.sampling.past import Past
from emulator.sampling.workbench import Workbench

if TYPE_CHECKING:
    from emulator.campaign.runner import Campaign


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedChunk:
    """A chunk that is done. part: the file that holds its trials."""

    part: bytes = field(repr=False)
    summary: ChunkSummary


@dataclass(frozen=True, kw_only=True, eq=False)
class ChunkTask:
    """What a worker needs; the workbench is built where the work is done. digest: that of the campaign's directory."""

    campaign: Campaign
    plan: MemoryPlan
    digest: str

    def open(self, shared: Path | None) -> Callable[[int, Past], JudgedChunk]:
        c = self.campaign
        pool = None if shared is None else PoolFile(shared, self.plan.pool)
        bench = Workbench(c.network, c.array, c.space, c.samples.inputs, room=self.plan.room, pool=pool)

        def work(chunk: int, past: Past) -> JudgedChunk:
            columns = c.judged(bench, chunk, past)
            part = encoded_part(chunk, columns, self.digest)
            return JudgedChunk(part=part, summary=c.summary(chunk, columns))

        return work
