"""Training from its first epoch to the file that is kept."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from emulator.array.spec import ArraySpec
from emulator.campaign.inputs import load_samples
from emulator.campaign.manifest import SCHEMA, write_manifest
from emulator.campaign.one_writer import only_writer
from emulator.campaign.results import Results
from emulator.errors import BadConfig, BadData
from emulator.graph.load import load
from emulator.harden import checkpoint
from emulator.harden.fine_tuning import Told, Validation, fine_tune, train
from emulator.harden.optimisers import OPTIMISERS, Adam
from emulator.harden.schedule import TrainingSchedule
from emulator.harden.trainable import Trainable
from emulator.harden.training import AVERAGE, Training, labelled, parted
from emulator.harden.training_status import TrainingStatus
from emulator.sampling.importance import Importance
from emulator.sampling.uniform import Uniform

SHORT = TrainingSchedule(epochs=3, steps=4, batch=24, faults=60, images=20, tighten=0.7, rate=0.003)


def training_of(digits: Any, schedule: TrainingSchedule = SHORT) -> tuple[Training, Validation]:
    samples = load_samples(digits.data, digits.network.graph)
    samples, judging = parted(labelled(digits.network, samples), 0.5)
    training = Training(
        trainable=Trainable.of(digits.network),
        array=digits.array,
        samples=samples,
        sampler=Importance(),
        schedule=schedule,
        registers=["accumulator", "pe_b"],
    )
    return training, Validation(samples=judging, trials=400, max_loss=0.5)


class Interrupted(Exception):
    """As if the machine had gone."""


def test_a_run_that_was_interrupted_carries_on_to_the_same_file(digits: Any, tmp_path: Path) -> None:
    training, validation = training_of(digits)
    whole = fine_tune(training, validation, tmp_path / "whole")

    def interrupted(epoch: dict[str, Any]) -> None:
        if epoch["epoch"] == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        fine_tune(training, validation, tmp_path / "parts", told=Told(epoch=interrupted))
    assert not (tmp_path / "parts/hardened.onnx").exists()
    before = TrainingStatus.of(tmp_path / "parts")
    assert (before.done, before.epochs, before.model) == (1, 3, None)
    resumed: list[int] = []
    new: list[int] = []
    told = Told(resumed=resumed.append, epoch=lambda epoch: new.append(epoch["epoch"]))
    again = fine_tune(training, validation, tmp_path / "parts", told=told)
    assert (resumed, new) == ([1], [2, 3])
    assert again.model.read_bytes() == whole.model.read_bytes()
    assert again.history == whole.history
    last = [checkpoint.read(tmp_path / name) for name in ("whole", "parts")]
    assert last[0] is not None and last[1] is not None
    for name, real in last[0].course.state.real.items():
        np.testing.assert_array_equal(last[1].course.state.real[name], real)


def test_the_file_is_the_epoch_that_was_kept(digits: Any, tmp_path: Path) -> None:
    training, validation = training_of(digits)
    found = fine_tune(training, validation, tmp_path / "a")
    judged = validation.judge(training, load(found.model))
    assert judged.to_json() == {key: found.kept[key] for key in ("accuracy", "sdc1_live")}
    assert found.kept["epoch"] > 0
    rates = [e["sdc1_live"]["value"] for e in found.history if e["kept"]]
    assert rates == sorted(rates, reverse=True)
    assert {node.name for node in onnx.load(found.model).graph.node} == {
        node.name for node in onnx.load(digits.path).graph.node
    }


def test_where_no_epoch_is_accurate_enough_the_model_stays_as_it_was(digits: Any, tmp_path: Path) -> None:
    training, validation = training_of(digits, replace(SHORT, epochs=2, rate=0.5))
    found = fine_tune(training, replace(validation, max_loss=0.0), tmp_path / "a")
    assert found.kept["epoch"] == 0
    untouched = training.trainable.file(training.trainable.state())
    assert found.model.read_bytes() == untouched.SerializeToString()


def test_it_stops_when_patience_is_at_its_end(digits: Any, tmp_path: Path) -> None:
    training, validation = training_of(digits, replace(SHORT, epochs=20, steps=1, rate=0.5))
    found = fine_tune(training, replace(validation, max_loss=-1.0, patience=1), tmp_path / "a")
    assert found.history[-1]["epoch"] == training.schedule.settled + 1


def test_every_epoch_draws_other_faults_and_the_same_ones_again_on_the_same_seed(digits: Any) -> None:
    training, _ = training_of(digits)
    start = training.start()
    first, progress = training.epoch(start)
    again, _ = training.epoch(start)
    assert progress.struck > 10
    for name, real in first.state.real.items():
        np.testing.assert_array_equal(again.state.real[name], real)
    other = replace(training, schedule=replace(SHORT, seed=1))
    assert any(
        not np.array_equal(other.epoch(start)[0].state.real[name], real)
        for name, real in first.state.real.items()
    )
    # Nothing of the start was touched.
    for name, real in training.trainable.state().real.items():
        np.testing.assert_array_equal(start.state.real[name], real)
        np.testing.assert_array_equal(start.memory[AVERAGE][name], real)
        assert not any(kept[name].any() for kind, kept in start.memory.items() if kind != AVERAGE)


def test_what_is_kept_is_the_average_of_the_weights_of_all_steps(digits: Any) -> None:
    """The state after each of four steps, from four trainings that end there, and their average by its definition."""
    one = replace(SHORT, epochs=1, steps=4, tighten=1.0, average=0.5)
    training, _ = training_of(digits, one)
    name = training.trainable.weights[0].name
    course = training.start()
    expected, steps = course.state.real[name].astype(np.float64), []

    class Recorded(Adam):
        def step(self, *args: Any, **more: Any) -> Any:
            steps.append(super().step(*args, **more))
            return steps[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPTIMISERS, "adam", Recorded())  # type: ignore[arg-type]
        after, _ = training.epoch(course)
    size = training.sizes[name]
    for count, step in enumerate(steps[:: len(training.trainable.parameters)], start=1):
        new = max(0.5, 9 / (10 + count))
        expected += new * (step * size - expected)
    answer = training.answer(after)
    np.testing.assert_allclose(answer.real[name], expected, rtol=1e-5, atol=1e-7)
    assert not np.array_equal(answer.real[name], after.state.real[name])
    # Scales hold the averaged weights, not the last ones.
    weight = training.trainable.weights[0]
    largest = np.abs(weight.integers(answer.real[name], answer.scale[weight.scale])).max()
    assert largest == 127
    training, _ = training_of(digits, replace(one, average=0.0))
    after, _ = training.epoch(training.start())
    np.testing.assert_array_equal(training.answer(after).real[name], after.state.real[name])


def test_a_directory_holds_one_training(digits: Any, tmp_path: Path) -> None:
    training, validation = training_of(digits, replace(SHORT, epochs=1))
    fine_tune(training, validation, tmp_path / "a")
    other = replace(training, schedule=replace(SHORT, epochs=1, seed=5))
    with pytest.raises(BadConfig, match=r"holds another training.*\n  --seed: 0 there, 5 asked"):
        fine_tune(other, validation, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/mine.txt").write_text("keep me")
    with pytest.raises(BadConfig, match="is not empty and no training"):
        fine_tune(training, validation, tmp_path / "b")
    (tmp_path / "a/checkpoint.npz").write_bytes(b"PK damaged")
    with pytest.raises(BadData, match=r"checkpoint\.npz: unreadable"):
        fine_tune(training, validation, tmp_path / "a")


def test_all_that_differs_is_named_by_its_option(digits: Any, tmp_path: Path) -> None:
    training, validation = training_of(digits)
    checkpoint.open_directory(tmp_path, {**training.settings(), "validation": validation.settings()})
    other = replace(
        training,
        array=ArraySpec.preset("gemmini-8"),
        sampler=Uniform(),
        registers=["accumulator", "pe_c1"],
        samples=replace(training.samples, inputs=training.samples.inputs[:10], sha256="another"),
        schedule=replace(SHORT, epochs=5),
    )
    labels = validation.samples.labels
    assert labels is not None
    judging = replace(validation.samples, sha256="another", labels=labels[::-1].copy())
    stricter = replace(validation, max_loss=0.01, samples=judging)
    with pytest.raises(BadConfig) as error:
        checkpoint.open_directory(tmp_path, {**other.settings(), "validation": stricter.settings()})
    first, *lines = str(error.value).splitlines()
    assert first == f"{tmp_path} holds another training; nothing was written. Different:"
    assert sorted(lines[:-2]) == [
        '  --array: "gemmini-16" there, "gemmini-8" asked',
        "  --epochs: 3 there, 5 asked",
        "  --max-loss: 0.5 there, 0.01 asked",
        '  --registers: "pe_b" there, "pe_c1" asked',
        '  --sampler: "importance" there, "uniform" asked',
        "  samples that judge (--validation, else the last fifth of --inputs): other labels; other content",
        f"  samples to train on (--inputs, --limit, --validation): {len(training.samples)} there, 10 asked",
    ]
    assert f"{tmp_path / 'hardened.onnx'}, an ordinary model" in lines[-1]


def test_a_status_has_the_first_the_kept_and_the_last_epoch() -> None:
    history = [{"epoch": n, "kept": n in (0, 1, 2)} for n in range(5)]
    found = TrainingStatus(name="net", epochs=9, history=history, model=None)
    assert found.milestones == {"first": history[0], "kept": history[2], "last": history[4]}
    assert (found.done, found.to_json()["finished"]) == (4, False)


def test_copies_of_model_and_data_are_the_same_training(digits: Any, tmp_path: Path) -> None:
    given = {"array": digits.array, "max_loss": 0.5, "schedule": replace(SHORT, epochs=1)}
    for name, source in (("model.onnx", digits.path), ("x.npz", digits.data)):
        shutil.copy(source, tmp_path / name)
    found = train(digits.network, inputs=digits.data, output=tmp_path / "a", limit=40, **given)
    resumed: list[int] = []
    again = train(
        load(tmp_path / "model.onnx"),
        inputs=tmp_path / "x.npz",
        output=tmp_path / "a",
        limit=40,
        told=Told(resumed=resumed.append),
        **given,
    )
    assert resumed == [1] and again.history == found.history


def test_a_directory_has_one_writer_and_is_of_one_kind(digits: Any, tmp_path: Path) -> None:
    training, judge = training_of(digits, replace(SHORT, epochs=1))
    fine_tune(training, judge, tmp_path / "a")
    with only_writer(tmp_path / "a"), pytest.raises(BadConfig, match="another run is writing here"):
        fine_tune(training, judge, tmp_path / "a")
    with pytest.raises(BadConfig, match="is a training, not a campaign"):
        Results.open(tmp_path / "a")
    write_manifest(tmp_path / "b", {"schema": SCHEMA})
    with pytest.raises(BadConfig, match="holds no training"):
        fine_tune(training, judge, tmp_path / "b")


def test_labels_are_given_or_the_networks_own_answers(digits: Any) -> None:
    samples = load_samples(digits.data, digits.network.graph, 12)
    own = labelled(digits.network, replace(samples, labels=None)).labels
    answers = [digits.golden.logits(digits.inference(i)).argmax() for i in range(12)]
    assert own is not None and own.tolist() == answers
    with pytest.raises(BadData, match=r"label 10 in .*; allowed: 0 to 9"):
        labelled(digits.network, replace(samples, labels=np.full(12, 10)))
    with pytest.raises(BadData, match="1 samples, the last 0"):
        parted(load_samples(digits.data, digits.network.graph, 1), 0.2)


@pytest.mark.parametrize(
    ("wrong", "allowed"),
    [
        ({"epochs": 0}, "counts from 1"),
        ({"struck": 0.6}, "struck from 0 to 0.5"),
        ({"tighten": 0.0}, "tighten above 0"),
        ({"rate": 1.0}, "rate between 0 and 1"),
        ({"optimiser": "lion"}, "adam or sgd"),
        ({"own": 2.0}, "own from 0 to 1"),
        ({"average": 1.0}, "average from 0, below 1"),
    ],
)
def test_impossible_schedules_are_refused(wrong: dict[str, Any], allowed: str) -> None:
    with pytest.raises(BadConfig, match=f"allowed: .*{allowed}"):
        TrainingSchedule(**wrong)
