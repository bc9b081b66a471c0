"""Accuracy against the bit-error rate: many upsets in one inference, each bit of the struck registers in each cycle
with the same probability, as under a lowered supply voltage or in a strong beam.

An inference without any upset is known: its probability is exact, and only inferences with one or more are run. Upsets
are drawn from the whole population, dead sites included: together they may do what none does alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from emulator.array.upset import Upset
from emulator.campaign.executors import Opener, run_chunks
from emulator.campaign.inputs import Samples
from emulator.errors import BadConfig
from emulator.faults.fault import Fault
from emulator.faults.space import FaultSpace
from emulator.graph.golden import Golden
from emulator.graph.load import Network
from emulator.propagate.permanent import run_struck
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.past import Past, no_past
from emulator.sampling.rng import rng_for

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

BLOCK = 50
"""Inferences of a chunk: the unit of work and of randomness."""
MOST_UPSETS = 10_000
"""Expected in an inference; more would take minutes each, and nothing of the network is left long before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """At one bit-error rate, per bit and cycle. upsets: expected in an inference; sdc1: the answer differs from the
    fault-free one; due: a layer never completes; accuracy: None without labels, an inference that hangs is wrong."""

    rate: float
    upsets: float
    sdc1: Estimate
    due: Estimate
    accuracy: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


class Found(NamedTuple):
    """(inferences,) each: those of a chunk."""

    sdc1: Flags
    due: Flags
    right: Flags


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ErrorRates:
    """rates: probabilities that a bit flips in a cycle. trials: inferences with an upset at each, rounded up to whole
    blocks. Raises BadConfig for rates outside (0, 1), or so high that MOST_UPSETS are exceeded."""

    network: Network
    space: FaultSpace
    samples: Samples
    rates: tuple[float, ...]
    trials: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.space.size >= 1 << 62:
            raise BadConfig(f"{self.space.size} sites; allowed: below 2^62. Restrict layers or registers.")
        for rate in self.rates:
            if not 0 < rate < 1 or rate * self.space.size > MOST_UPSETS:
                raise BadConfig(
                    f"bit-error rate {rate:g}: {rate * self.space.size:.3g} upsets expected in an inference of "
                    f"{self.space.size:,} sites; allowed: above 0, up to {MOST_UPSETS / self.space.size:.2g}. Lower it."
                )

    @property
    def blocks(self) -> int:
        """Chunks of each rate."""
        return -(-self.trials // BLOCK)

    def points(self, opener: Opener | None) -> Iterator[Point]:
        """Each rate when it is done, in their order."""
        golden = Golden(self.network.graph)
        clean = np.array([golden.top1(golden.run(sample)) for sample in self.samples.inputs])
        waiting: dict[int, dict[int, Found]] = {}
        ready = 0
        chunks = range(self.blocks * len(self.rates))
        task = _Task(sweep=self, clean=clean)
        for chunk, found in run_chunks(task, chunks, opener, lambda _: 0, lambda _: no_past()):
            at, block = divmod(chunk, self.blocks)
            waiting.setdefault(at, {})[block] = found
            while len(waiting.get(ready, ())) == self.blocks:
                done = waiting.pop(ready)
                yield self._point(self.rates[ready], [done[block] for block in range(self.blocks)], clean)
                ready += 1

    def untouched(self, rate: float) -> float:
        """The probability that an inference has no upset."""
        return float(np.exp(self.space.size * np.log1p(-rate)))

    def _point(self, rate: float, parts: list[Found], clean: Ints) -> Point:
        sdc1, due, right = (np.concatenate(column) for column in zip(*parts, strict=True))
        struck = 1 - self.untouched(rate)
        accuracy = None
        if self.samples.labels is not None:
            # Without an upset those images are wrong that are wrong anyway.
            wrong = (1 - struck) * float(np.mean(clean != self.samples.labels))
            lost = _share(~right).scaled(struck)
            moved = {name: getattr(lost, name) + wrong for name in ("value", "low", "high")}
            accuracy = replace(lost, **moved).complement()
        return Point(
            rate=rate,
            upsets=rate * self.space.size,
            sdc1=_share(sdc1).scaled(struck),
            due=_share(due).scaled(struck),
            accuracy=accuracy,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Task:
    """clean (images,): the fault-free answers."""

    sweep: ErrorRates
    clean: Ints

    def open(self, shared: Path | None) -> Callable[[int, Past], Found]:
        inferences = _Inferences(self.sweep, self.clean)
        return lambda chunk, past: inferences.block(chunk)


class _Inferences:
    """Random images with one upset or more each."""

    def __init__(self, sweep: ErrorRates, clean: Ints) -> None:
        self.sweep = sweep
        self.space = sweep.space
        self.clean = clean
        self.golden = Golden(sweep.network.graph)

    def block(self, chunk: int) -> Found:
        """Those of a chunk."""
        rng, rate = rng_for(self.sweep.seed, chunk), self.sweep.rates[chunk // self.sweep.blocks]
        outcomes = [self._one(rng, rate) for _ in range(BLOCK)]
        return Found(*np.array(outcomes, np.bool_).T)

    def _one(self, rng: np.random.Generator, rate: float) -> tuple[bool, bool, bool]:
        samples = self.sweep.samples
        image = int(rng.integers(len(samples)))
        upsets = self._that_matter([self.space.site(index) for index in self._drawn(rng, rate)])
        answer, hang = int(self.clean[image]), False
        if upsets:
            run = run_struck(self.golden, samples.inputs[image], self.space.array, upsets)
            hang = run.hang is not None
            answer = answer if hang else self.golden.top1(run.inference)
        right = samples.labels is not None and not hang and answer == samples.labels[image]
        return answer != self.clean[image], hang, right

    def _drawn(self, rng: np.random.Generator, rate: float) -> list[int]:
        """Distinct sites, one or more, as many as are upset."""
        none = self.sweep.untouched(rate)
        count = max(1, int(binom.ppf(none + rng.random() * (1 - none), self.space.size, rate)))
        sites: set[int] = set()
        while len(sites) < min(count, self.space.size):
            sites.add(int(rng.integers(self.space.size)))
        return sorted(sites)

    def _that_matter(self, faults: list[Fault]) -> dict[int, list[Upset]]:
        """By layer: all of its upsets, unless it has one only, in a dead site."""
        by_layer: dict[int, list[Fault]] = {}
        for fault in faults:
            by_layer.setdefault(fault.layer, []).append(fault)
        return {
            layer: [fault.upset for fault in together]
            for layer, together in by_layer.items()
            if len(together) > 1 or self.space.is_live(together[0])
        }


def _share(event: Flags) -> Estimate:
    return hansen_hurwitz(event, np.ones(len(event)))
