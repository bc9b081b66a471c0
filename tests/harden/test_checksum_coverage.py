"""A campaign under checksums, against every one of its trials done again by hand on whole matrices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_corrector import as_matrix, corrected, dense, strikes_at

from emulator.array.checkpoint import LayerOnCycles
from emulator.campaign.inputs import load_samples
from emulator.campaign.results import Results
from emulator.campaign.runner import Campaign
from emulator.campaign.trials import HeldTrials
from emulator.errors import BadConfig, BadData
from emulator.faults.fault import Fault
from emulator.faults.plan import plan_of
from emulator.faults.space import FaultSpace
from emulator.faults.strike import operands, strike_by_cycles
from emulator.harden.checksum_coverage import Coverage, coverage, coverage_of, reopened_for
from emulator.harden.syndrome import Verdict
from emulator.sampling.estimators import hansen_hurwitz, part, ratio
from emulator.sampling.importance import Importance
from emulator.sampling.intervals import wilson
from emulator.sampling.stopping import max_trials
from emulator.sampling.uniform import Uniform

# Those whose faults change most, and one out of reach; no more than a few bits each.
REGISTERS = [
    "pe_a",
    "pe_b",
    "pe_c1",
    "pe_propagate",
    "write_address",
    "requant_acc",
    "requant_scale",
    "seq_pc",
]
TRIALS = 240
# Those that spoil more than accumulators.
DRAIN = ["drain_block", "drain_row", "requant_row", "requant_valid"]


def run(digits: Any, folder: Path, sampler: Any, registers: list[str] = REGISTERS) -> Results:
    samples = load_samples(digits.data, digits.network.graph, 4)
    space = FaultSpace(digits.network, digits.array, registers=registers)
    campaign = Campaign(
        digits.network, digits.array, space, inputs=samples, seed=3, sampler=sampler, stop=max_trials(TRIALS)
    )
    return campaign.collect(folder, workers=1)


@pytest.fixture(scope="module")
def uniform(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(digits, tmp_path_factory.mktemp("uniform"), Uniform())


@pytest.fixture(scope="module")
def importance(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(digits, tmp_path_factory.mktemp("importance"), Importance())


@pytest.fixture(scope="module")
def drain(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(digits, tmp_path_factory.mktemp("drain"), Uniform(), DRAIN)


@pytest.mark.parametrize("check", ["rows", "columns", "both"])
@pytest.mark.parametrize("drawn", ["uniform", "importance"])
def test_every_trial_is_that_fault_done_by_hand(
    drawn: str, check: Any, digits: Any, request: pytest.FixtureRequest
) -> None:
    """By the cycle engine, matrices and a whole second inference."""
    results: Results = request.getfixturevalue(drawn)
    covered = coverage(results, check)
    verdicts, left = done_by_hand(results, covered, check)
    assert {"CLEAN", "MISSED", "CORRECTED" if check == "both" else "DETECTED"} <= verdicts
    if drawn == "importance":
        assert left


def test_what_spoils_more_than_accumulators_is_seen_in_the_words_that_are_drained(drain: Results) -> None:
    covered = coverage(drain, "both")
    verdicts, _ = done_by_hand(drain, covered, "both")
    assert verdicts == {"CLEAN", "MISSED", "DETECTED", "MISCORRECTED"}
    # A row or word of the layer is spoiled behind the accumulators, whatever the checksums mend.
    np.testing.assert_array_equal(
        covered.sdc1_left, covered.events["sdc1"] & (covered.verdict != Verdict.DETECTED)
    )


def done_by_hand(results: Results, covered: Coverage, check: str) -> tuple[set[str], int]:
    """The verdicts there are, and how many answers stay wrong; each trial must agree."""
    bench, verdicts, left = reopened_for(results), set(), 0
    for i, trial in enumerate(results.trials.itertuples()):
        name, wrong = by_hand(bench, trial, check)
        assert Verdict(int(covered.verdict[i])).name == name, trial.fault_id
        assert covered.sdc1_left[i] == wrong, trial.fault_id
        verdicts.add(name)
        left += wrong
    return verdicts, left


def by_hand(bench: Any, trial: Any, check: str) -> tuple[str, bool]:
    image, site = divmod(int(trial.fault_id, 16), bench.space.size)
    fault: Fault = bench.space.site(site)
    run, shape = bench.inference(image), bench.network.graph.layers[fault.layer].shape
    strikes = strike_by_cycles(bench.golden, run, bench.array, fault.layer, [(fault.upset,)])
    if strikes.hang[0]:
        return "HANG", False
    if strikes.at_output[0]:
        return more_is_wrong(bench, fault, run, check, bool(trial.sdc1))
    errors = dense(strikes, 0, shape.m, shape.n, shape.groups)
    name, still = corrected(errors, check)
    if name in ("DETECTED", "CORRECTED", "CLEAN"):
        return ("MISSED" if trial.register == "requant_acc" else name), False
    delta = as_matrix(errors if name == "MISSED" else still)
    m, n = np.nonzero(delta)
    again = bench.golden.rerun(run, fault.layer, m, n, delta[m, n].astype(np.int64))
    return name, bench.golden.logits(again).argmax() != bench.golden.logits(run).argmax()


def more_is_wrong(bench: Any, fault: Fault, run: Any, check: str, sdc1: bool) -> tuple[str, bool]:
    """What the drain reads is checked, and mending it mends nothing else."""
    layer = bench.network.graph.layers[fault.layer]
    engine = LayerOnCycles(
        plan_of(bench.array, layer), operands(bench.golden, run, fault.layer), layer.requantisation
    )
    response = engine.strike((fault.upset,))
    places = zip(response.m.tolist(), response.n.tolist(), response.delta.tolist(), strict=True)
    shape = layer.shape
    name, _ = corrected(dense(strikes_at([list(places)]), 0, shape.m, shape.n, shape.groups), check)
    if name == "DETECTED":
        return name, False
    return "MISSED" if name in ("CLEAN", "MISSED") else "MISCORRECTED", sdc1


def test_rates_are_the_campaigns_own(uniform: Results, importance: Results) -> None:
    counted = coverage(uniform)
    seen = counted.events["detected"]
    found = counted.rates()["detected"]
    assert (found.value, found.low, found.high) == (seen.mean(), *wilson(int(seen.sum()), TRIALS))
    of_register = counted.rates_by("register")["pe_a"]["corrected"]
    inside = (uniform.trials["register"] == "pe_a").to_numpy()
    assert of_register.n == inside.sum()
    assert of_register.value == counted.events["corrected"][inside].mean()

    weighted = coverage(importance)
    event, weight = weighted.events["detected"], importance.weight
    assert weighted.rates()["detected"] == hansen_hurwitz(event, weight, max_weight=importance.max_weight)
    (_, live), total = importance.population.sites_by(["register"])[("pe_b",)], importance.population.live
    pe_b = (importance.trials["register"] == "pe_b").to_numpy()
    expected = part(event, weight, pe_b, live / total, max_weight=importance.max_weight)
    assert weighted.rates_by("register")["pe_b"]["detected"] == expected
    critical = importance.trials["sdc1"].to_numpy(bool)
    share = ratio(event[critical], weight[critical], max_weight=importance.max_weight)
    assert weighted.share("detected", "sdc1") == share


def test_events_add_up(importance: Results) -> None:
    covered = coverage(importance)
    e = covered.events
    hang = covered.verdict == Verdict.HANG
    np.testing.assert_array_equal(e["wrong"], e["detected"] | e["missed"] | hang)
    assert e["detected"].sum() == sum((covered.verdict == v).sum() for v in (2, 3, 4))
    np.testing.assert_array_equal(e["due_with_detection"], e["due"] | e["detected"])
    np.testing.assert_array_equal(e["sdc1_with_detection"], e["sdc1"] & ~e["detected"])
    np.testing.assert_array_equal(e["due"], importance.trials["due"])
    assert e["sdc1"].sum() > e["sdc1_with_correction"].sum()
    assert not (e["sdc1_with_correction"] & e["corrected"]).any()
    assert covered.to_json().keys() == {"check", "trials", "rates", "by_register", "of_wrong", "of_critical"}


@pytest.mark.parametrize("drawn", ["importance", "drain"])
def test_what_is_miscorrected_is_judged_by_what_it_leaves(
    drawn: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corrector that takes nothing back miscorrects all that is seen, and leaves every critical fault critical."""
    from emulator.harden import syndrome

    def idle(rows: Any, columns: Any, shapes: Any) -> Any:
        return np.zeros((5, 0), np.int64), np.zeros(0, np.int64)

    monkeypatch.setattr(syndrome, "_correction", idle)
    covered = coverage(request.getfixturevalue(drawn))
    assert not covered.events["corrected"].any() and covered.events["miscorrected"].any()
    np.testing.assert_array_equal(covered.sdc1_left, covered.events["sdc1"])


def test_no_critical_fault_has_no_share(uniform: Results) -> None:
    harmless = replace(uniform, table=HeldTrials(uniform.trials.assign(sdc1=False)))
    covered: Coverage = coverage_of(harmless, reopened_for(uniform), "both")
    assert covered.share("detected", "sdc1") is None
    assert covered.to_json()["of_critical"] == {"detected": None, "corrected": None, "miscorrected": None}


@pytest.mark.parametrize("sampler", ["exhaustive", "sweep"])
def test_rows_that_are_classes_are_refused(sampler: str, uniform: Results) -> None:
    counted = replace(uniform, manifest={**uniform.manifest, "sampler": {"name": sampler}})
    with pytest.raises(BadConfig, match=f"sampler '{sampler}'.*draws faults one by one"):
        coverage(counted)


def test_other_data_is_refused(uniform: Results, digits: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", inputs=digits.inputs[4:8])
    with pytest.raises(BadData, match="inputs changed"):
        coverage(uniform, inputs=tmp_path / "other.npz")
