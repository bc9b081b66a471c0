"""Fault-aware training: fine-tuning of a quantised network while faults strike it.

An epoch draws faults for the integers of the moment, as the hardware would make them, then takes its steps. A batch has
rows of random images, and pairs of rows of one image, one clean and one struck. Lowered are the cross entropy of all
rows and what the faults move the logits by. What an epoch does is a function of its number, the seed and the state it
starts from, so that a run that was killed carries on to the same weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.array.spec import ArraySpec
from emulator.campaign.inputs import Samples
from emulator.errors import BadConfig, BadData
from emulator.faults.space import FaultSpace
from emulator.graph.golden import Golden
from emulator.graph.load import Network, network_of
from emulator.harden.injection import Injections, injections
from emulator.harden.losses import cross_entropy, movement, softmax, spread_of
from emulator.harden.optimisers import OPTIMISERS, Arrays, cosine
from emulator.harden.schedule import TrainingSchedule
from emulator.harden.trainable import State, Trainable, error_name, trained_name
from emulator.sampling.rng import rng_for
from emulator.sampling.sampler import Sampler
from emulator.sampling.workbench import Workbench

AVERAGE = "average"

Floats = npt.NDArray[np.float32]
Reals = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Progress:
    """After an epoch: how many are done, the mean loss of its batches, how many faults struck rows."""

    epoch: int
    loss: float
    struck: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """Where a training stands: epochs done, weights and scales, and what is remembered of each parameter: what the
    optimiser needs, and AVERAGE, its mean over the last steps."""

    epoch: int
    state: State
    memory: dict[str, Arrays] = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """What is trained, on which images with labels (see `labelled`), against which faults. registers, layers: what may
    be struck, as in `FaultSpace`."""

    trainable: Trainable
    array: ArraySpec
    samples: Samples
    sampler: Sampler
    schedule: TrainingSchedule
    registers: Sequence[str] | None = None
    layers: Sequence[int | str] | None = None

    @cached_property
    def first_answers(self) -> Reals:
        """(samples, classes) logits of the network as it is, in real units."""
        golden = Golden(self.trainable.network.graph)
        return np.stack([golden.logits(golden.run(sample)) for sample in self.samples.inputs]).astype(
            np.float64
        )

    @cached_property
    def targets(self) -> Reals:
        """(samples, classes) shares that the answers are drawn to."""
        own, classes = self.schedule.own, self.first_answers.shape[1]
        return own * softmax(self.first_answers) + (1 - own) * np.eye(classes)[self.samples.labels]

    @cached_property
    def spread(self) -> float:
        """Of the first answers."""
        return spread_of(self.first_answers)

    @cached_property
    def sizes(self) -> Arrays:
        """The unit of each parameter."""
        return self.trainable.sizes()

    def start(self) -> Course:
        """Before the first epoch."""
        state = self.trainable.state()
        zeros = {name: np.zeros_like(real) for name, real in state.real.items()}
        memory = {
            name: {n: zero.copy() for n, zero in zeros.items()}
            for name in OPTIMISERS[self.schedule.optimiser].memory
        }
        memory[AVERAGE] = {name: real.copy() for name, real in state.real.items()}
        return Course(epoch=0, state=state, memory=memory)

    def epoch(self, course: Course) -> tuple[Course, Progress]:
        """One more; the course that was given stays as it is."""
        s = self.schedule
        state = self.trainable.rescaled(course.state, self._tightened(course.epoch + 1))
        rng = rng_for(s.seed, course.epoch)
        images = rng.permutation(len(self.samples))[: s.images]
        struck = self._strike(state, images, rng) if s.struck else None
        steps = _Steps(training=self, state=state, images=images, struck=struck, rng=rng)
        real, memory, loss = steps.taken(course)
        after = Course(epoch=course.epoch + 1, state=replace(state, real=real), memory=memory)
        return after, Progress(epoch=after.epoch, loss=loss, struck=0 if struck is None else len(struck))

    def answer(self, course: Course) -> State:
        """What the training has come to: the averaged weights, whose answers jitter less than those of the last step
        (Polyak & Juditsky, SIAM J. Control Optim. 30, 1992)."""
        averaged = replace(course.state, real=course.memory[AVERAGE])
        return self.trainable.rescaled(averaged, self._tightened(course.epoch))

    def feeds(self, chosen: Ints) -> dict[str, npt.NDArray[Any]]:
        """The images of a batch."""
        graph = self.trainable.network.graph
        rows = [graph.feeds(self.samples.inputs[i]) for i in chosen]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def settings(self) -> dict[str, Any]:
        """What identifies this training in a manifest."""
        return {
            "model": self.trainable.network.settings(),
            "inputs": labelled_settings(self.samples),
            "array": asdict(self.array),
            "registers": self.registers,
            "layers": self.layers,
            "sampler": self.sampler.settings(),
            "schedule": self.schedule.settings(),
        }

    def _tightened(self, epoch: int) -> float:
        """The share of their first width that ranges have in an epoch."""
        return float(self.schedule.tighten ** min(1.0, epoch / self.schedule.settled))

    def network(self, state: State) -> Network:
        """The integers of a state, loaded as the file will be."""
        known = self.trainable.network
        return network_of(
            self.trainable.file(state), Path(known.path), shapes=known.shapes, answer=known.answer
        )

    def _strike(self, state: State, images: Ints, rng: np.random.Generator) -> Injections:
        """Faults of the integers of the moment."""
        network = self.network(state)
        space = FaultSpace(network, self.array, registers=self.registers, layers=self.layers)
        bench = Workbench(network, self.array, space, [self.samples.inputs[i] for i in images])
        found = injections(bench, self.sampler, rng, self.schedule.faults)
        if not len(found):
            raise BadConfig(
                f"{self.schedule.faults} faults of {space!r}: all masked in their layer; allowed: some that are "
                "not. Draw more faults, or from other registers."
            )
        return found


def labelled(network: Network, samples: Samples) -> Samples:
    """Samples with labels: their own, else the answers of the network; raises BadData for labels without a logit."""
    if samples.labels is None:
        golden = Golden(network.graph)
        return replace(samples, labels=golden.answers(map(golden.run, samples.inputs)))
    wrong = samples.labels[(samples.labels < 0) | (samples.labels >= network.graph.classes)]
    if len(wrong):
        raise BadData(
            f"label {wrong[0]} in {samples.path}; allowed: 0 to {network.graph.classes - 1}. Correct it."
        )
    return samples


def labelled_settings(samples: Samples) -> dict[str, Any]:
    """What identifies samples and their labels in a manifest."""
    assert samples.labels is not None
    return {**samples.settings(), "labels": hashlib.sha256(samples.labels.tobytes()).hexdigest()}


def parted(samples: Samples, share: float) -> tuple[Samples, Samples]:
    """All but the last `share` of labelled samples, and these; raises BadData where one of them would be empty."""
    count = round(len(samples) * share)
    if not 0 < count < len(samples):
        raise BadData(
            f"{len(samples)} samples, the last {count} of them to judge; allowed: some to train and some to judge. "
            "Give more, or others to judge with --validation."
        )
    return _some(samples, slice(None, -count)), _some(samples, slice(-count, None))


def _some(samples: Samples, chosen: slice) -> Samples:
    labels = None if samples.labels is None else samples.labels[chosen]
    return replace(samples, inputs=samples.inputs[chosen], labels=labels)


class _Steps:
    """The batches of an epoch: random images, then the clean twins of struck rows, then those."""

    def __init__(
        self,
        training: Training,
        state: State,
        images: Ints,
        struck: Injections | None,
        rng: np.random.Generator,
    ) -> None:
        self.training, self.state, self.images, self.struck, self.rng = training, state, images, struck, rng
        trainable, s = training.trainable, training.schedule
        self.forward, self.backward = trainable.sessions(state)
        self.pairs = 0 if struck is None else round(s.batch * s.struck)
        tensors = {tensor.name: tensor for tensor in trainable.network.graph.tensors}
        self.errors = {
            name: np.zeros((s.batch, *tensors[name].shape[1:]), np.float32) for name in trainable.stored
        }

    def taken(self, course: Course) -> tuple[Arrays, dict[str, Arrays], float]:
        """All steps of the epoch: weights and biases, memory of the optimiser, mean loss."""
        s = self.training.schedule
        optimiser, total = OPTIMISERS[s.optimiser], s.epochs * s.steps
        real = dict(self.state.real)
        memory = {kind: {name: m.copy() for name, m in kept.items()} for kind, kept in course.memory.items()}
        losses, sizes = [], self.training.sizes
        for count in range(course.epoch * s.steps + 1, (course.epoch + 1) * s.steps + 1):
            loss, gradients = self._gradients(real)
            losses.append(loss)
            for name, gradient in gradients.items():
                kept = {kind: arrays[name] for kind, arrays in memory.items()}
                rate = cosine(s.rate, count / total)
                # Where normalisation is folded in, a fixed step is far too long for the weights of some channels.
                size = sizes[name]
                moved = optimiser.step(real[name] / size, gradient * size, kept, rate=rate, count=count)
                real[name] = moved * size
                # Of the first steps the mean is over fewer: the weights of the file are soon forgotten.
                new = np.float32(max(1 - s.average, 9 / (10 + count)))
                kept[AVERAGE] += new * (real[name] - kept[AVERAGE])
        return real, memory, float(np.mean(losses))

    def _gradients(self, real: Arrays) -> tuple[float, Arrays]:
        """Of the loss of a batch."""
        chosen, faults = self._chosen()
        rows = self._written(faults)
        feeds = {**self.training.feeds(chosen), **self._inputs(real)}
        answer = self.forward.run(None, feeds)[0]
        loss, seed = self._loss(answer.reshape(len(chosen), -1).astype(np.float64), chosen)
        found = self.backward.run(None, {**feeds, "seed": seed.astype(np.float32).reshape(answer.shape)})
        for row in rows:
            row[:] = 0
        return loss, dict(zip(self.training.trainable.parameters, found, strict=True))

    def _chosen(self) -> tuple[Ints, Ints]:
        """The images of the rows, and the faults of the last ones."""
        random = self.rng.integers(
            0, len(self.training.samples), self.training.schedule.batch - 2 * self.pairs
        )
        if self.struck is None:
            return random, np.zeros(0, np.int64)
        faults = self.rng.integers(0, len(self.struck), self.pairs)
        twins = self.images[self.struck.image[faults]]
        return np.concatenate((random, twins, twins)), faults

    def _loss(self, logits: Reals, chosen: Ints) -> tuple[float, Reals]:
        """Of a batch, and its gradient with respect to the logits."""
        loss, seed = cross_entropy(logits, self.training.targets[chosen])
        if self.pairs:
            clean, struck = slice(-2 * self.pairs, -self.pairs), slice(-self.pairs, None)
            steady = self.training.schedule.steady
            moved, gradient = movement(logits[clean], logits[struck], self.training.spread)
            loss += steady * moved
            seed[struck] += steady * gradient
            seed[clean] -= steady * gradient
        return loss, seed

    def _inputs(self, real: Arrays) -> Arrays:
        """Weights, biases and errors under the names of the gradient graph."""
        return {
            **{trained_name(name): array for name, array in real.items()},
            **{error_name(name): errors for name, errors in self.errors.items()},
        }

    def _written(self, faults: Ints) -> list[Floats]:
        """The rows of the stored tensors that faults make wrong, with their errors."""
        rows = []
        for row, fault in enumerate(faults.tolist(), start=-len(faults)):
            assert self.struck is not None
            name = self.training.trainable.network.graph.tensors[self.struck.tensor[fault]].name
            rows.append(self.errors[name][row].reshape(-1))
            self.struck.write(fault, rows[-1])
        return rows
