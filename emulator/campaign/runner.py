"""A campaign: sampler, stop rule, seed and store around one workbench. Chunks of trials are the unit of work,
of storage and of resuming; the result is the same on any number of workers and after any interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.array.spec import ArraySpec
from emulator.campaign.chunk_task import ChunkTask
from emulator.campaign.chunks import Chunks, CountedChunks, DrawnChunks
from emulator.campaign.executors import Opener, counted_workers, opener_of, run_chunks
from emulator.campaign.footprint import Footprint, footprint
from emulator.campaign.in_order import ChunkSummary, InOrder
from emulator.campaign.inputs import Samples, samples_of
from emulator.campaign.looking_back import read_past
from emulator.campaign.manifest import SCHEMA, campaign_digest, check_manifest, write_manifest
from emulator.campaign.memory import MemoryPlan, bytes_of, share_out
from emulator.campaign.one_writer import only_writer
from emulator.campaign.parts import complete_chunks, end_with, read_part, stored_trials, write_part
from emulator.campaign.results import Results
from emulator.campaign.trial import Columns, count_chunk, run_chunk
from emulator.campaign.versions import library_versions, package_version
from emulator.errors import BadConfig
from emulator.faults.plan import plan_of
from emulator.faults.space import FaultSpace
from emulator.graph.load import Network
from emulator.propagate.outcome import check_classifier
from emulator.sampling.confidence_sequence import ConfidenceSequence
from emulator.sampling.counted import Counted, count_chunks, sites_of_chunk
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import Tally
from emulator.sampling.horvitz_thompson import HorvitzThompson
from emulator.sampling.importance import Importance
from emulator.sampling.past import Past
from emulator.sampling.sampler import Sampler
from emulator.sampling.stopping import Exhausted, StopRule, max_trials
from emulator.sampling.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """After a chunk: trials in order so far, the estimate from them, trials reused from an earlier run."""

    trials: int
    reused: int
    limit: int | None
    estimate: Estimate


_SUMMARISED = ("sdc1", "log_weight", "class_size", "fault_id")


class Campaign:
    """Faults drawn by `sampler` from `space` over `inputs`, until `stop`.

    inputs: an npz path or a float32 array (samples, ...). memory: '4GB', or bytes, for all processes of this machine
    together, on a cluster for each worker; None: half of what is free, on a cluster 4 GB. What is found does not depend
    on it. collect() runs it into a directory, or resumes it.
    """

    def __init__(
        self,
        network: Network,
        array: ArraySpec,
        space: FaultSpace,
        *,
        inputs: str | Path | npt.NDArray[Any] | Samples,
        sampler: Sampler | Counted | None = None,
        stop: StopRule | None = None,
        seed: int = 0,
        limit: int | None = None,
        memory: str | int | None = None,
    ) -> None:
        self.network = network
        self.array = array
        self.space = space
        graph = network.graph
        if space.graph is not graph or space.array != array:
            raise BadConfig(
                f"the fault space is that of {space.graph.name!r} on {space.array.name!r}, the campaign that of "
                f"{graph.name!r} on {array.name!r}; allowed: the same objects. Build FaultSpace(network, array)."
            )
        if not isinstance(seed, int) or not 0 <= seed < 1 << 63:
            raise BadConfig(f"seed={seed!r}; allowed: a whole number from 0, below 2^63.")
        check_classifier(graph)
        self.samples = samples_of(inputs, graph, limit)
        self.sampler: Sampler | Counted = Importance() if sampler is None else sampler
        self.stop = self._stop(stop)
        self.chunks = self._chunks()
        self.seed = seed
        self.memory = None if memory is None else bytes_of(memory)

    def manifest(self) -> dict[str, Any]:
        """What identifies this campaign; a directory holds one."""
        return {
            "schema": SCHEMA,
            "version": package_version(),
            "model": self.network.settings(),
            "inputs": self.samples.settings(),
            "array": asdict(self.array),
            "fault": {"kind": "flip", "bits": 1},
            "registers": list(dict.fromkeys(s.register.name for s in self.space.strata)),
            "layers": [self._layer(index) for index in dict.fromkeys(s.layer for s in self.space.strata)],
            "sampler": self.sampler.settings(),
            "seed": self.seed,
            "chunks": self.chunks.settings(),
            "stop": self.stop.settings(),
            "looked": self.stop.looks,
            "space": {
                "size": self.space.size,
                "live": self.space.live,
                "breakdown": self.space.breakdown(),
            },
            "versions": library_versions(),
        }

    def memory_plan(self, workers: Any = "auto") -> MemoryPlan:
        """How the memory is shared out among these workers. Raises BadConfig where it is too little."""
        return share_out(self._footprint, self.memory, counted_workers(workers))

    @cached_property
    def _footprint(self) -> Footprint:
        return footprint(self.network, self.space, self.samples, self.sampler)

    def collect(
        self,
        directory: str | Path,
        *,
        workers: Any = "auto",
        progress: Callable[[Progress], None] | None = None,
    ) -> Results:
        """Run, or resume, into `directory` and return its results. Raises BadConfig if it holds another
        campaign, another run writes there, or memory is too little; an interrupted run keeps every finished chunk.

        workers: a number of processes, 'auto' for one a core or as many as there is memory for, 'dask://HOST:PORT',
        'dask-local' or a `distributed.Client`. What is found does not depend on them.
        """
        plan, target, manifest = self.memory_plan(workers), Path(directory), self.manifest()
        opener = opener_of(plan.workers, workers)
        # Before there is a lock: nothing is written where another campaign is.
        check_manifest(target, manifest)
        with only_writer(target):
            return self._collect(target, manifest, opener, plan, progress)

    def _collect(
        self,
        target: Path,
        manifest: dict[str, Any],
        opener: Opener | None,
        plan: MemoryPlan,
        progress: Callable[[Progress], None] | None,
    ) -> Results:
        stored = check_manifest(target, manifest)
        # Was this campaign ever to stop on what it found? More trials don't undo that.
        looked = self.stop.looks or (stored is not None and bool(stored["looked"]))
        # The same run again is no other one: what lies beyond its end is what a killed worker was ahead.
        if stored is not None and stored["stop"] != manifest["stop"]:
            self._refuse_to_shrink(target, looked)
        begun = {**manifest, "looked": looked}
        write_manifest(target, begun)
        done, in_order = complete_chunks(target, self.chunks.rows), self._in_order(looked)
        task = ChunkTask(campaign=self, plan=plan, digest=campaign_digest(target))
        # Closed here, not by the garbage collector: what is wrong with workers then is told.
        with closing(self._summaries(target, task, done, opener)) as summaries:
            last, by = self._take(summaries, set(done), in_order, progress)
        # Chunks finished ahead of the one that ended the campaign are not part of it.
        end_with(target, last)
        # Last of all: parts that are lost from now on are missed.
        write_manifest(target, {**begun, "finished_trials": in_order.trials, "stopped_by": by.settings()})
        # The lock is still ours: nobody else is at work.
        return replace(Results.open(target), running=False)

    def _take(
        self,
        summaries: Iterator[tuple[int, ChunkSummary]],
        stored: set[int],
        in_order: InOrder,
        progress: Callable[[Progress], None] | None,
    ) -> tuple[int, StopRule]:
        """Until the stop rule is met, or there are no more; the chunk that ends the campaign, and the rule that did."""
        trials, reused, last = 0, 0, -1
        started = time.monotonic()
        for chunk, summary in summaries:
            for last, estimate in in_order.add(chunk, summary):
                reused += in_order.trials - trials if last in stored else 0
                trials = in_order.trials
                if progress is not None:
                    progress(
                        Progress(trials=trials, reused=reused, limit=self.stop.limit(), estimate=estimate)
                    )
                # Trials that are there already cost no time: no rule on time may throw them away.
                seconds = 0.0 if last in stored else time.monotonic() - started
                standing = in_order.standing(estimate, seconds)
                if self.stop.met(standing):
                    return last, self.stop.ended_by(standing)
        return last, self.stop

    def _refuse_to_shrink(self, target: Path, looked: bool) -> None:
        """Trials are expensive: a rerun may ask for more of them, never silently throw some away."""
        stored = stored_trials(target)
        enough = self._trials_enough(target, stored, looked)
        if enough is not None and enough < stored:
            raise BadConfig(
                f"{target} holds {stored} trials, {enough} are enough for '{self.stop}'; nothing was deleted. Ask for "
                "more trials or a stricter rule, or choose another -o."
            )

    def _trials_enough(self, target: Path, stored: int, looked: bool) -> int | None:
        """After how many of the stored trials the stop rule is met; None: they are not enough."""
        limit = self.stop.limit()
        if limit is not None and stored > limit:
            return limit
        in_order = self._in_order(looked)
        for chunk in complete_chunks(target, DrawnChunks(limit=None).rows):
            for _, estimate in in_order.add(chunk, self._stored_summary(target, chunk)):
                if self.stop.met(in_order.standing(estimate, seconds=0.0)):
                    return in_order.trials
        return None

    def _stop(self, stop: StopRule | None) -> StopRule:
        if isinstance(self.sampler, Sampler):
            return max_trials(10_000) if stop is None else stop
        if stop not in (None, Exhausted()):
            raise BadConfig(
                f"stop={stop}: a campaign with the sampler {self.sampler.name!r} goes through every site; allowed: no "
                "stop rule. Leave it out, or draw."
            )
        return Exhausted()

    def _chunks(self) -> Chunks:
        if isinstance(self.sampler, Sampler):
            return DrawnChunks(limit=self.stop.limit())
        return CountedChunks(count=count_chunks(self.space, len(self.samples)))

    def _in_order(self, looked: bool) -> InOrder:
        return InOrder(self._tally(looked), named=self.stop.counts_critical)

    def _tally(self, looked: bool) -> Tally | ConfidenceSequence | HorvitzThompson:
        if not isinstance(self.sampler, Sampler):
            sites = self.space.live * len(self.samples)
            return HorvitzThompson(sites, per_site_floor=self.sampler.per_site_floor(sites))
        if looked:
            return ConfidenceSequence(max_weight=self.sampler.max_weight)
        return Tally(max_weight=self.sampler.max_weight)

    def summary(self, chunk: int, columns: Columns) -> ChunkSummary:
        """Of the trials of a chunk."""
        sdc1, weight = columns["sdc1"], np.exp(columns["log_weight"])
        drawn = isinstance(self.sampler, Sampler)
        return ChunkSummary(
            sdc1=sdc1,
            weight=weight,
            sites=np.ones(len(sdc1), np.int64) if drawn else columns["class_size"],
            covered=len(sdc1) if drawn else sites_of_chunk(self.space, chunk),
            critical=columns["fault_id"][sdc1],
        )

    def _stored_summary(self, target: Path, chunk: int) -> ChunkSummary:
        return self.summary(chunk, read_part(target, chunk, _SUMMARISED))

    def judged(self, bench: Workbench, chunk: int, past: Past) -> Columns:
        """The trials of a chunk: every column of the schema. past: those that a sampler that learns looks back at."""
        first = self.chunks.first(chunk)
        if not isinstance(self.sampler, Sampler):
            return count_chunk(bench, self.sampler, seed=self.seed, chunk=chunk, first=first)
        count = self.chunks.rows(chunk)
        assert count is not None
        return run_chunk(bench, self.sampler, past, seed=self.seed, chunk=chunk, first=first, count=count)

    def looks_back(self, chunk: int) -> int:
        """How many chunks, from the first on, must be finished before this one."""
        learns = isinstance(self.sampler, Sampler) and self.sampler.learns
        return self.chunks.before(chunk) if learns else 0

    def _summaries(
        self, target: Path, task: ChunkTask, done: list[int], opener: Opener | None
    ) -> Generator[tuple[int, ChunkSummary]]:
        finished = set(done)
        for chunk in done:
            yield chunk, self._stored_summary(target, chunk)
        missing = (chunk for chunk in takewhile(self.chunks.exists, count()) if chunk not in finished)
        first = next(missing, None)
        if first is None:
            return  # no workers are started for nothing
        past = lru_cache(maxsize=1)(partial(read_past, target, self.array))
        with closing(run_chunks(task, chain([first], missing), opener, self.looks_back, past)) as finishing:
            for chunk, judged in finishing:
                write_part(target, chunk, judged.part)
                yield chunk, judged.summary

    def _layer(self, index: int) -> dict[str, Any]:
        layer = self.network.graph.layers[index]
        plan = plan_of(self.array, layer)
        return {
            "index": index,
            "name": layer.name,
            "op": layer.op,
            **asdict(layer.shape),
            "macs": layer.shape.macs,
            "cycles": plan.cycles,
            "window_cycles": plan.window_cycles,
        }
