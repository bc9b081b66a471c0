"""Before and after, against every fault judged one by one in both networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from emulator.campaign.explain import explain
from emulator.campaign.inputs import load_samples
from emulator.campaign.replay import reopened
from emulator.campaign.results import Results
from emulator.campaign.runner import Campaign
from emulator.errors import BadConfig
from emulator.faults.space import FaultSpace
from emulator.graph.load import load
from emulator.harden.comparison import Comparison, compare
from emulator.harden.trainable import Trainable
from emulator.sampling.counted import Counted
from emulator.sampling.exhaustive import Exhaustive
from emulator.sampling.importance import Importance
from emulator.sampling.sampler import Sampler
from emulator.sampling.stopping import max_trials
from emulator.sampling.uniform import Uniform


@pytest.fixture(scope="module")
def other(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network with ranges a third as wide and weights moved a little."""
    trainable, rng = Trainable.of(digits.network), np.random.default_rng(3)
    state = trainable.state()
    real = {
        name: (array * rng.uniform(0.9, 1.1, array.shape)).astype(np.float32)
        for name, array in state.real.items()
    }
    path = tmp_path_factory.mktemp("other") / "other.onnx"
    onnx.save(trainable.file(trainable.rescaled(replace(state, real=real), 0.33)), path)
    return path


def campaign(
    digits: Any,
    model: Path,
    directory: Path,
    *,
    sampler: Sampler | Counted,
    seed: int,
    registers: tuple[str, ...] = ("pe_b",),
) -> Results:
    network = load(model)
    drawn = isinstance(sampler, Sampler)
    space = FaultSpace(network, digits.array, registers=registers, layers=None if drawn else ["fc"])
    inputs = load_samples(digits.data, network.graph, 30)
    stop = max_trials(600) if drawn else None
    return Campaign(
        network, digits.array, space, inputs=inputs, sampler=sampler, seed=seed, stop=stop
    ).collect(directory, workers=1)


@pytest.fixture(scope="module")
def pair(digits: Any, other: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    folder = tmp_path_factory.mktemp("pair")
    before = campaign(digits, digits.path, folder / "before", sampler=Importance(), seed=1)
    after = campaign(digits, other, folder / "after", sampler=Importance(), seed=2)
    return before, after


@pytest.fixture(scope="module")
def found(pair: tuple[Results, Results]) -> Comparison:
    return compare(*pair)


def test_the_same_faults_are_judged_as_a_replay_in_the_other_network_judges_them(
    digits: Any, other: Path, pair: tuple[Results, Results], found: Comparison
) -> None:
    before, after = pair
    bench = reopened(after.manifest)
    for row in range(0, 600, 40):
        fault = before.trials["fault_id"][row]
        image, site = divmod(int(fault, 16), bench.space.size)
        explained = explain(bench, image, bench.space.site(site))
        assert bool(found.again[row]) == explained.to_json()["sdc1"], fault
    both = before.trials["sdc1"].to_numpy(bool)
    assert found.again.any() and (both != found.again).any()


def test_rates_are_those_of_the_campaigns_and_add_up(
    pair: tuple[Results, Results], found: Comparison
) -> None:
    before, after = pair
    rates = found.rates
    assert rates["before"] == before.rate()
    assert rates["after_fresh_faults"] == after.rate()
    difference = rates["before"].value - rates["after_same_faults"].value
    assert difference == pytest.approx(rates["mended"].value - rates["broken"].value)
    fewer = found.fewer["same_faults"]
    assert fewer.low <= fewer.value <= fewer.high
    assert fewer.value == pytest.approx(rates["before"].value / rates["after_same_faults"].value)


def test_a_register_has_as_many_times_fewer_as_its_rates_say(found: Comparison) -> None:
    for before, after, fewer in found.by("register").values():
        if after.value:
            assert fewer.value == pytest.approx(before.value / after.value)


def test_accuracy_is_that_of_onnx_runtime(digits: Any, other: Path, found: Comparison) -> None:
    from emulator.graph.reference import Reference

    labels = load_samples(digits.data, digits.network.graph, 30).labels
    for path, accuracy in zip((digits.path, other), found.accuracy or (), strict=True):
        logits = Reference(load(path)).logits(digits.inputs[:30])
        assert accuracy.value == np.mean(logits.argmax(axis=1) == labels)
        assert accuracy.low < accuracy.value < accuracy.high


def test_a_network_against_itself_is_as_vulnerable_as_it_was(digits: Any, tmp_path: Path) -> None:
    before, after = (
        campaign(digits, digits.path, tmp_path / str(seed), sampler=Uniform(), seed=seed) for seed in (1, 2)
    )
    found = compare(before, after)
    assert found.again.tolist() == before.trials["sdc1"].tolist()
    assert found.fewer["same_faults"].value == 1
    assert found.rates["mended"].value == found.rates["broken"].value == 0
    assert found.fewer["fresh_faults"].low < 1 < found.fewer["fresh_faults"].high


def test_where_all_is_judged_there_is_no_doubt(
    digits: Any, other: Path, pair: tuple[Results, Results], tmp_path: Path
) -> None:
    before, after = (
        campaign(digits, path, tmp_path / path.stem, sampler=Exhaustive(), seed=0)
        for path in (digits.path, other)
    )
    found = compare(before, after)
    assert found.again is None
    assert found.rates == {"before": before.rate(), "after_all_faults": after.rate()}
    fewer = found.fewer["all_faults"]
    wrong = [(run.trials["class_size"] * run.trials["sdc1"]).sum() for run in (before, after)]
    assert min(wrong) > 0 and wrong[0] != wrong[1]
    assert fewer.value == pytest.approx(wrong[0] / wrong[1])
    assert fewer.low == pytest.approx(fewer.high)
    with pytest.raises(BadConfig, match="two of the sampler exhaustive"):
        compare(pair[0], after)


def test_campaigns_on_other_faults_are_refused(
    digits: Any, other: Path, pair: tuple[Results, Results], tmp_path: Path
) -> None:
    unlike = campaign(digits, other, tmp_path / "a", sampler=Uniform(), seed=1, registers=("accumulator",))
    with pytest.raises(BadConfig, match="another registers and another space"):
        compare(pair[0], unlike)
