"""Faults in restricted networks: every engine has the same answer, and none beyond the bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from restricted_networks import CASES, Subject, subject_for, subject_of
from strikes import random_strikes
from test_delta import check_against_rerun

from emulator.array.cycle import replay_layer
from emulator.array.spec import ArraySpec
from emulator.campaign.check import check
from emulator.campaign.inputs import load_samples
from emulator.campaign.runner import Campaign
from emulator.faults.plan import plan_of
from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.faults.strike import operands, strike_by_cycles
from emulator.faults.strikes import CLOSED_FORM, ENGINES
from emulator.graph.golden import Golden
from emulator.graph.wide import as_stored
from emulator.propagate.propagator import Propagator
from emulator.sampling.importance import Importance
from emulator.sampling.stopping import max_trials
from emulator.sensitivity.backward import StraightThrough
from emulator.sensitivity.gradients import GradientSource

GEMMINI = ArraySpec.preset("gemmini-16")


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def subject(request: pytest.FixtureRequest) -> Subject:
    return subject_for(request)


def test_sparse_propagation_is_a_full_recomputation(subject: Subject) -> None:
    golden = Golden(subject.after.graph)
    propagator = Propagator(golden)
    for seed, sample in enumerate(subject.others[:5]):
        image = golden.run(sample)
        layer, strikes = random_strikes(golden, np.random.default_rng(seed), 200)
        check_against_rerun(golden, image, layer, strikes, propagator.run(image, layer, strikes.errors))


def test_the_closed_form_is_the_cycle_engine(subject: Subject) -> None:
    golden = Golden(subject.after.graph)
    image, space = golden.run(subject.others[0]), FaultSpace(subject.after, GEMMINI)
    faults = space.draw(np.random.default_rng(1), 300)
    closed = strike(golden, image, GEMMINI, faults, by_cycles=False)
    compared = 0
    for fault in np.flatnonzero(closed.engine == ENGINES.index(CLOSED_FORM))[:60].tolist():
        upsets = faults[np.array([fault])].upsets(GEMMINI)
        cycles = strike_by_cycles(golden, image, GEMMINI, int(faults.layer[fault]), [upsets])
        part = slice(closed.ptr[fault], closed.ptr[fault + 1])
        assert cycles.at_output.tolist() == [False]
        for name in ("m", "n", "delta"):
            np.testing.assert_array_equal(getattr(cycles, name), getattr(closed, name)[part])
        compared += 1
    assert compared == 60


def words_clipped(golden: Golden, sample: Any) -> int:
    """Compare the words of every layer; how many are beyond a bound tighter than int8."""
    image, clipped = golden.run(sample), 0
    for index, layer in enumerate(golden.graph.layers):
        rule = layer.requantisation
        replay = replay_layer(plan_of(GEMMINI, layer), operands(golden, image, index), (), rule)
        words = as_stored(layer, replay.output.astype(np.int8))
        np.testing.assert_array_equal(words, golden.tensor(image, layer.target))
        codes = rule.rounded(replay.accumulator) + rule.zero_point
        clipped += int((codes > rule.high).sum()) if rule.high < 127 else 0
        clipped += int((codes < rule.low).sum()) if rule.low > -128 else 0
    return clipped


def test_the_array_requantises_to_the_bounds(subject: Subject) -> None:
    """The words that the machine writes, clock by clock, of an input so strange that bounds are met."""
    golden = Golden(subject.after.graph)
    noise = np.random.default_rng(3).normal(0, 3, subject.others[0].shape).astype(np.float32)
    clipped = sum(words_clipped(golden, sample) for sample in (noise, 3 * subject.others[2]))
    assert clipped > 0 or len(subject.bounds[0].low) > 1


def test_the_checks_of_a_deployment_pass(subject: Subject) -> None:
    samples = load_samples(subject.others[:3], subject.after.graph)
    report = check(subject.after, GEMMINI, samples, cycle_images=1)
    assert report.ok, report.mismatches


def test_no_fault_of_an_accumulator_leaves_the_bounds(subject: Subject) -> None:
    graph = subject.after.graph
    golden = Golden(graph)
    image = golden.run(subject.others[1])
    by_layer, rng = {each.layer: each for each in subject.bounds}, np.random.default_rng(9)
    for index, layer in enumerate(graph.layers):
        m, n = rng.integers(0, layer.shape.m, 50), rng.integers(0, layer.columns, 50)
        bounds = by_layer[layer.name]
        for delta, limit in ((1 << 24, bounds.high), (-(1 << 24), bounds.low)):
            again = golden.rerun(image, index, m, n, np.full(50, delta))
            tensor = graph.index[bounds.tensor]
            found = graph.tensors[tensor].in_order(golden.tensor(again, tensor)[np.newaxis])[0]
            found = np.moveaxis(found, bounds.axis, -1).reshape(layer.shape.m, layer.columns)
            np.testing.assert_array_equal(found[m, n], np.broadcast_to(limit, layer.columns)[n])


@pytest.mark.parametrize("per", ["layer", "channel"])
def test_inside_the_bounds_gradients_are_those_of_the_network_before(digits: Any, per: str) -> None:
    inputs = digits.inputs[:30]
    found = subject_of(digits.network.original, inputs, inputs, per=per, margin=3)
    hard = StraightThrough(kind="hard")
    rows = []
    for network in (found.before, found.after):
        tensors = [layer.target for layer in network.graph.layers]
        source = GradientSource(network, tensors, straight_through=hard)
        image = Golden(network.graph).run(inputs[4])
        jacobians = source.jacobians(inputs[4], image, np.arange(network.graph.classes))
        rows.append([jacobians[tensor] for tensor in tensors])
    for before, after in zip(*rows, strict=True):
        assert np.abs(before).max() > 0
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_a_campaign_runs_on_a_restricted_file(digits: Any, tmp_path: Any) -> None:
    """Importance sampling, and fewer wrong answers than before."""
    rates = []
    found = subject_of(digits.network.original, digits.inputs[:200], digits.inputs[:20], per="channel")
    for network in (found.before, found.after):
        campaign = Campaign(
            network,
            GEMMINI,
            FaultSpace(network, GEMMINI, registers=["accumulator"]),
            inputs=digits.inputs[:20],
            sampler=Importance(),
            stop=max_trials(4000),
            seed=5,
        )
        rates.append(campaign.collect(tmp_path / str(len(rates)), workers=1).rate())
    before, after = rates
    assert after.high < before.low
