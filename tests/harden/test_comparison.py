"""Before and after, against every fault judged one by one in both networks."""

from __future__ import annotations

from dataclasses import replace
from math import inf
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
    assert (fewer.method, found.fewer["fresh_faults"].method) == ("paired-mover", "mover")
    assert fewer.value == pytest.approx(rates["before"].value / rates["after_same_faults"].value)


def test_a_layer_has_as_many_times_fewer_as_its_rates_of_the_same_faults_say(
    pair: tuple[Results, Results], found: Comparison
) -> None:
    same = pair[0].rates_of("layer", found.again)
    groups = found.by("layer")
    assert len(groups) == 3
    for name, (before, after, fewer) in groups.items():
        assert after == same[(name,)]
        assert fewer.value == pytest.approx(before.value / after.value if after.value else inf)
        assert fewer.method == "paired-mover"


def test_those_that_differ_come_first_then_those_of_the_highest_rate_before(found: Comparison) -> None:
    """All faults are critical in the layer that had the lowest rate, and none others change."""
    before = found.before.rates_of("layer", found.before.column("sdc1"))
    ascending = sorted((str(group[0]) for group in before), key=lambda name: before[(name,)].low)
    broken = found.before.column("layer_name") == ascending[0]
    groups = replace(found, again=found.before.column("sdc1") | broken).by("layer")
    assert list(groups) == [ascending[0], *reversed(ascending[1:])]
    assert [group.fewer.differs for group in groups.values()] == [True, False, False]
    assert groups[ascending[0]].fewer.high < 1


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
    same, fresh = found.fewer["same_faults"], found.fewer["fresh_faults"]
    assert same.value == 1
    assert 1 < same.high / same.low < (fresh.high / fresh.low) ** 0.6
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
    with pytest.raises(BadConfig, match="registers: pe_b only before and accumulator only after; allowed"):
        compare(pair[0], unlike)


def changed(results: Results, **parts: Any) -> Results:
    return replace(results, manifest={**results.manifest, **parts})


def test_what_differs_is_named_with_its_values(pair: tuple[Results, Results]) -> None:
    before, after = pair
    old = after.manifest
    fewer = changed(after, inputs={**old["inputs"], "samples": 20, "sha256": "0"})
    with pytest.raises(BadConfig, match=r"images: 30 of test\.npz before and 20 of test\.npz after; allowed"):
        compare(before, fewer)
    with pytest.raises(BadConfig, match=r"images: 30 of test\.npz before and after, but not the same"):
        compare(before, changed(after, inputs={**old["inputs"], "sha256": "0"}))
    with pytest.raises(BadConfig, match=r"array\.acc_bits is 32 before and 24 after; allowed"):
        compare(before, changed(after, array={**old["array"], "acc_bits": 24}))
    with pytest.raises(BadConfig, match="layers: fc only before; allowed"):
        compare(before, changed(after, layers=old["layers"][:-1]))
    wider = [{**old["layers"][0], "n": 5}, *old["layers"][1:]]
    with pytest.raises(BadConfig, match=r"layers\.0\.n is 4 before and 5 after; allowed"):
        compare(before, changed(after, layers=wider))


def test_faults_of_the_same_seed_are_not_called_fresh(
    pair: tuple[Results, Results], found: Comparison
) -> None:
    assert found.fresh
    again = replace(found, after=changed(pair[1], seed=[pair[0].manifest["seed"], 7]))
    assert not again.fresh
    assert "after_fresh_faults" not in again.rates
    assert again.rates["after_own_faults"] == found.rates["after_fresh_faults"]
    assert again.fewer.keys() == {"same_faults", "own_faults"}
