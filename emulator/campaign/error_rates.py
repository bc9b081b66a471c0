"""Accuracy against the bit-error rate: inferences with as many upsets as a rate brings, followed exactly.

Every site of a space, a bit in a cycle, is struck with the probability p, independently of all others (`BitErrors`).
With t the probability that an inference is struck at all, which is known,

    accuracy(p) = (1 - t) accuracy without upsets + t accuracy of struck inferences,

and only struck ones are run, the same number on every image. Intervals are of the images as a sample of all images and
of the upsets at once (`clustered`, an image is a cluster).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.campaign.executors import Opener, run_chunks
from emulator.campaign.inputs import Samples
from emulator.errors import BadConfig
from emulator.faults.bit_errors import BitErrors, Upsets
from emulator.faults.space import FaultSpace
from emulator.graph.golden import Golden
from emulator.graph.load import Network
from emulator.propagate.outcome import check_classifier
from emulator.propagate.permanent import run_struck
from emulator.sampling.clustered import clustered
from emulator.sampling.estimate import Estimate
from emulator.sampling.past import Past, no_past
from emulator.sampling.rng import rng_for

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

BLOCK = 50
"""Inferences of a chunk: the unit of work and of randomness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """At one bit-error rate, upsets a bit and cycle. upsets, live_upsets: expected in an inference, in all sites and in
    those that matter alone. accuracy: against the labels, without any against the fault-free answers; a layer that
    never completes is a wrong answer. sdc1: the answer differs from the fault-free one; due: there is none."""

    bit_error_rate: float
    upsets: float
    live_upsets: float
    accuracy: Estimate
    sdc1: Estimate
    due: Estimate

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Point:
        """The inverse of `to_json`."""
        estimates = {name: Estimate(**stored[name]) for name in ("accuracy", "sdc1", "due")}
        return cls(**{field.name: stored[field.name] for field in fields(cls)} | estimates)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """rates: bit-error rates, upsets a bit and cycle, of the sites of `space`."""

    name: str
    space: FaultSpace
    rates: tuple[float, ...]


HUNG = -1
"""In place of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ErrorRates:
    """trials: struck inferences at each rate, rounded up to the same number on every image. The random numbers are the
    same at every rate and on every curve: a point does not depend on which others are asked for.

    Raises BadConfig for no rates, or such that `BitErrors` does not take, curves of one name, or fewer than two images.
    """

    network: Network
    samples: Samples
    curves: Sequence[Curve]
    trials: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        names = [curve.name for curve in self.curves]
        if len(set(names)) < len(names):
            raise BadConfig(f"curves {', '.join(names)}; allowed: different ones. Leave one out.")
        if len(self.samples) < 2 or self.trials < 1:
            raise BadConfig(
                f"{self.trials} trials on {len(self.samples)} images; allowed: 1 trial, 2 images or more."
            )
        check_classifier(self.network.graph)
        for curve in self.curves:
            if not curve.rates:
                raise BadConfig(f"curve {curve.name!r}: no bit-error rates; allowed: one or more. Name some.")
            errors = BitErrors(curve.space)
            for rate in curve.rates:
                errors.check(rate)

    @property
    def passes(self) -> int:
        """Struck inferences of each image at each rate."""
        return -(-self.trials // len(self.samples))

    def answers(self) -> Ints:
        """(images,) those without upsets."""
        golden = Golden(self.network.graph)
        return golden.answers(map(golden.run, self.samples.inputs))

    def points(
        self, clean: Ints, opener: Opener | None, done: Collection[tuple[str, float]] = ()
    ) -> Generator[tuple[Curve, Point]]:
        """Each point when it is finished, curve by curve in the order of their rates, but for those that are done: name
        of the curve, rate. clean: what `answers` gives."""
        wanted = [(c, rate) for c in self.curves for rate in c.rates if (c.name, rate) not in done]
        if not wanted:
            return
        blocks = -(-self.passes * len(self.samples) // BLOCK)
        task = _Task(sweep=self, wanted=wanted, clean=clean, blocks=blocks)
        chunks = range(blocks * len(wanted))
        waiting: dict[int, dict[int, Ints]] = {}
        ready = 0
        with closing(run_chunks(task, chunks, opener, lambda _: 0, lambda _: no_past())) as finishing:
            for chunk, answers in finishing:
                at, block = divmod(chunk, blocks)
                waiting.setdefault(at, {})[block] = answers
                while len(waiting.get(ready, ())) == blocks:
                    parts = waiting.pop(ready)
                    curve, rate = wanted[ready]
                    yield (
                        curve,
                        self.point(curve, rate, np.concatenate([parts[b] for b in range(blocks)]), clean),
                    )
                    ready += 1

    def images(self, trials: range) -> Ints:
        """(trials,) the image of each: one after the other, `passes` times."""
        return np.array(trials) % len(self.samples)

    def without_upsets(self, clean: Ints) -> Estimate:
        """The accuracy at rate 0."""
        right = clean == self._labels(clean)
        return clustered(right, np.ones(len(right)), np.arange(len(right)), heaviest_unseen=0.0)

    def point(self, curve: Curve, rate: float, answers: Ints, clean: Ints) -> Point:
        """answers (passes * images,): of the struck inferences, HUNG where there is none."""
        image, due = self.images(range(len(answers))), answers == HUNG
        struck = BitErrors(curve.space).struck(rate)
        right = (answers == self._labels(clean)[image]) & ~due

        def share(event: Flags) -> Estimate:
            found = clustered(event, np.ones(len(event)), image, heaviest_unseen=1.0)
            return found.scaled(struck)

        return Point(
            bit_error_rate=rate,
            upsets=rate * curve.space.size,
            live_upsets=rate * curve.space.live,
            # Without labels no answer is wrong that is not struck, of any image.
            accuracy=share(~right).complement()
            if self.samples.labels is None
            else self._accuracy(right, image, struck, clean),
            sdc1=share((answers != clean[image]) & ~due),
            due=share(due),
        )

    def _accuracy(self, right: Flags, image: Ints, struck: float, clean: Ints) -> Estimate:
        """Every image counts once: `struck` of it shared by its inferences, the rest as it is without upsets."""
        each = struck / self.passes
        weight = np.full(len(right), each)
        if struck < 1:
            right = np.concatenate((right, clean == self._labels(clean)))
            weight = np.concatenate((weight, np.full(len(clean), 1 - struck)))
            image = np.concatenate((image, np.arange(len(clean))))
        found = clustered(right, weight, image, heaviest_unseen=each)
        return replace(found, n=self.passes * len(clean))

    def _labels(self, clean: Ints) -> Ints:
        return clean if self.samples.labels is None else self.samples.labels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Task:
    """wanted: curve and rate of each point, of `blocks` chunks; clean (images,): the fault-free answers."""

    sweep: ErrorRates
    wanted: Sequence[tuple[Curve, float]]
    clean: Ints
    blocks: int

    def open(self, shared: Path | None) -> Callable[[int, Past], Ints]:
        golden = Golden(self.sweep.network.graph)
        return lambda chunk, past: self._block(golden, *divmod(chunk, self.blocks))

    def _block(self, golden: Golden, at: int, block: int) -> Ints:
        """The answers of a chunk."""
        sweep, (curve, rate) = self.sweep, self.wanted[at]
        rng, errors = rng_for(sweep.seed, block), BitErrors(curve.space)
        last = min((block + 1) * BLOCK, sweep.passes * len(sweep.samples))
        images = sweep.images(range(block * BLOCK, last)).tolist()
        return np.array([self._answer(golden, errors, image, errors.draw(rate, rng)) for image in images])

    def _answer(self, golden: Golden, errors: BitErrors, image: int, upsets: Upsets) -> int:
        if not upsets:
            return int(self.clean[image])
        run = run_struck(golden, self.sweep.samples.inputs[image], errors.space.array, upsets)
        return HUNG if run.hang is not None else golden.top1(run.inference)
