"""A training from its first epoch to the file that is kept: judged after every epoch, resumable, stopped early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator.array.spec import ArraySpec
from emulator.campaign.files import write_atomically
from emulator.campaign.inputs import Samples, samples_of
from emulator.campaign.one_writer import only_writer
from emulator.campaign.trial import run_chunk
from emulator.faults.space import FaultSpace
from emulator.graph.feeds import Data
from emulator.graph.load import Network
from emulator.harden import checkpoint
from emulator.harden.answers import Answers
from emulator.harden.checkpoint import MODEL, Checkpoint, kept_of
from emulator.harden.schedule import TrainingSchedule
from emulator.harden.trainable import Trainable
from emulator.harden.training import Training, labelled, labelled_settings, parted
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.importance import Importance
from emulator.sampling.past import no_past
from emulator.sampling.sampler import Sampler
from emulator.sampling.workbench import Workbench

HELD_OUT = 0.2
"""Share of the samples that judge, where no others are given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Of the integers after an epoch, on images that are not trained on. accuracy: with the labels of the training's
    kind; sdc1: of live sites."""

    accuracy: Estimate
    sdc1: Estimate

    def to_json(self) -> dict[str, Any]:
        return {"accuracy": self.accuracy.to_json(), "sdc1_live": self.sdc1.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Validation:
    """samples: with labels; they give the accuracy and are struck by `trials` faults. max_loss: accuracy that may be
    lost. patience: epochs without a better one, after ranges have stopped shrinking, that end it.

    Most critical faults are in the few images whose answer is close: with a hundred images the rate is that of one or
    two of them.
    """

    samples: Samples
    trials: int = 6000
    max_loss: float = 0.005
    patience: int = 6

    def judge(self, training: Training, network: Network) -> Judgement:
        """Accuracy, and SDC-1 of the faults that it trains against."""
        space = FaultSpace(network, training.array, registers=training.registers, layers=training.layers)
        bench = Workbench(network, training.array, space, self.samples.inputs)
        sampler = Importance()
        # The same seed every time: epochs are compared on the same draws, as far as they can be.
        found = run_chunk(bench, sampler, no_past(), seed=0, chunk=0, first=0, count=self.trials)
        weight = np.exp(found["log_weight"])
        sdc1 = hansen_hurwitz(found["sdc1"], weight, max_weight=sampler.max_weight)
        return Judgement(accuracy=Answers.of(bench, self.samples.labels).accuracy, sdc1=sdc1)

    def settings(self) -> dict[str, Any]:
        """What identifies it in a manifest."""
        rest = {name: getattr(self, name) for name in ("trials", "max_loss", "patience")}
        return {"inputs": labelled_settings(self.samples), **rest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """epoch 0: before training. kept: the best so far."""

    epoch: int
    loss: float | None
    struck: int
    judgement: Judgement
    kept: bool

    def to_json(self) -> dict[str, Any]:
        found = {"epoch": self.epoch, "loss": self.loss, "struck": self.struck, "kept": self.kept}
        return {**found, **self.judgement.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hardened:
    """model: the file that was written. history: of each epoch, 0 before training, as JSON."""

    model: Path
    history: list[dict[str, Any]]

    @property
    def kept(self) -> dict[str, Any]:
        """The epoch whose weights were written."""
        return kept_of(self.history)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Who is told what. resumed: the number of epochs that earlier runs did, if any; epoch: each that this one does, as
    JSON, 0 before training."""

    resumed: Callable[[int], None] = lambda epochs: None
    epoch: Callable[[dict[str, Any]], None] = lambda epoch: None


def train(
    network: Network,
    array: ArraySpec,
    inputs: Data | Samples,
    output: str | Path,
    *,
    validation: Data | Samples | None = None,
    limit: int | None = None,
    registers: Sequence[str] | None = ("accumulator", "pe_b"),
    layers: Sequence[int | str] | None = None,
    sampler: Sampler = Importance(),
    schedule: TrainingSchedule = TrainingSchedule(),
    max_loss: float = 0.005,
    patience: int = 6,
    told: Told = Told(),
) -> Hardened:
    """Fine-tune a quantised network while faults strike it; the directory `output` then holds hardened.onnx, the same
    graph and names with other weights and scales. The same call again resumes.

    inputs, limit: as in `Campaign`; without labels the network's own answers are the labels. validation: what judges
    each epoch, None: the last fifth of the inputs. registers, layers: what may be struck, as in `FaultSpace`; sampler:
    draws it. max_loss, patience: as in `Validation`. Raises UnsupportedModel where no weight of a product is a stored
    integer, BadConfig if `output` holds something else, BadData for unfit inputs.
    """
    trainable = Trainable.of(network)
    samples = labelled(network, samples_of(inputs, network.graph, limit))
    if validation is None:
        samples, judging = parted(samples, HELD_OUT)
    else:
        judging = labelled(network, samples_of(validation, network.graph))
    training = Training(
        trainable=trainable,
        array=array,
        samples=samples,
        sampler=sampler,
        schedule=schedule,
        registers=registers,
        layers=layers,
    )
    judge = Validation(samples=judging, max_loss=max_loss, patience=patience)
    return fine_tune(training, judge, output, told=told)


def fine_tune(
    training: Training, validation: Validation, directory: str | Path, *, told: Told = Told()
) -> Hardened:
    """Train into `directory`, or carry on there, and write hardened.onnx: the epoch with the lowest SDC-1 among those
    that lose no more accuracy than they may. Raises BadConfig if the directory holds something else, or another
    run writes there."""
    target = Path(directory)
    checkpoint.open_directory(target, {**training.settings(), "validation": validation.settings()})
    with only_writer(target):
        return _carry_on(training, validation, target, told)


def _carry_on(training: Training, validation: Validation, target: Path, told: Told) -> Hardened:
    now = checkpoint.read(target)
    if now is None:
        now = _begun(training, validation)
        told.epoch(now.history[0])
    else:
        told.resumed(now.course.epoch)
    while now.course.epoch < training.schedule.epochs and not _exhausted(now, training, validation):
        now = _after_an_epoch(training, validation, now)
        checkpoint.save(target, now)
        told.epoch(now.history[-1])
    model = training.trainable.file(now.best)
    write_atomically(target / MODEL, model.SerializeToString())
    return Hardened(model=target / MODEL, history=now.history)


def _begun(training: Training, validation: Validation) -> Checkpoint:
    start = training.start()
    judged = validation.judge(training, training.trainable.network)
    first = Epoch(epoch=0, loss=None, struck=0, judgement=judged, kept=True)
    return Checkpoint(course=start, best=start.state, history=[first.to_json()])


def _after_an_epoch(training: Training, validation: Validation, now: Checkpoint) -> Checkpoint:
    course, progress = training.epoch(now.course)
    answer = training.answer(course)
    judged = validation.judge(training, training.network(answer))
    kept = _better(judged, now.history, validation)
    epoch = Epoch(epoch=course.epoch, loss=progress.loss, struck=progress.struck, judgement=judged, kept=kept)
    best = answer if kept else now.best
    return Checkpoint(course=course, best=best, history=[*now.history, epoch.to_json()])


def _better(judged: Judgement, history: list[dict[str, Any]], validation: Validation) -> bool:
    """Is it accurate enough, and less vulnerable than what is kept?"""
    best = kept_of(history)
    enough = history[0]["accuracy"]["value"] - validation.max_loss
    return bool(judged.accuracy.value >= enough and judged.sdc1.value < best["sdc1_live"]["value"])


def _exhausted(now: Checkpoint, training: Training, validation: Validation) -> bool:
    best = int(kept_of(now.history)["epoch"])
    return now.course.epoch - max(best, training.schedule.settled) >= validation.patience
