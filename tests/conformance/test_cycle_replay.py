"""Whole networks on the array, clock by clock: preload, stream, drain, accumulate, requantise."""

from dataclasses import replace

import numpy as np
import pytest

from emulator.array.cycle import replay_layer
from emulator.array.spec import ArraySpec
from emulator.array.tiling import schedule
from emulator.bundled import Bundle, digits, fashion_mnist
from emulator.campaign.check import check
from emulator.campaign.inputs import load_samples
from emulator.faults.strike import operands
from emulator.graph.golden import Golden
from emulator.graph.load import load

GEMMINI = ArraySpec.preset("gemmini-16")


@pytest.mark.parametrize("bundle", [digits(), fashion_mnist()], ids=lambda bundle: bundle.model.stem)
@pytest.mark.parametrize(
    "array", [GEMMINI, ArraySpec(rows=5, cols=3, acc_rows=100)], ids=lambda a: f"{a.rows}x{a.cols}"
)
def test_every_layer_replayed_cycle_by_cycle_equals_golden(bundle: Bundle, array: ArraySpec) -> None:
    golden = Golden(load(bundle.model).graph)
    for image in np.load(bundle.inputs)["inputs"][:3]:
        run = golden.run(image)
        for index, layer in enumerate(golden.graph.layers):
            plan = schedule(array, layer.shape)
            replay = replay_layer(plan, operands(golden, run, index))
            assert np.array_equal(replay.accumulator, golden.accumulator(run, index)), layer.name
            requantised = layer.requantisation(replay.accumulator).reshape(-1)
            assert np.array_equal(requantised, golden.tensor(run, layer.target)), layer.name
            assert replay.cycles == _cycles(
                array, layer.shape.m, layer.shape.k, layer.shape.n, layer.shape.groups
            )


def _cycles(array: ArraySpec, m: int, k: int, n: int, groups: int) -> int:
    """The formula in words: one preload, every fold's rows in whole requests, then the drain."""
    requests = 0
    half = array.acc_rows // 2
    for block in range(0, m, half):
        rows = min(half, m - block)
        requests += -(-rows // array.rows) * -(-k // array.rows) * -(-n // array.cols) * groups
    return array.rows * (1 + requests) + array.rows + array.cols + 1


def test_one_changed_weight_fails_the_check() -> None:
    bundle = digits()
    network = load(bundle.model)
    samples = load_samples(bundle.inputs, network.graph, 20)
    assert check(network, GEMMINI, samples).ok
    layer = network.graph.layers[1]
    weight = layer.weight.copy()
    weight[0, 3, 2] ^= 0x10
    broken = tuple(replace(op, weight=weight) if op is layer else op for op in network.graph.ops)
    report = check(replace(network, graph=replace(network.graph, ops=broken)), GEMMINI, samples)
    assert not report.ok and "conv2_relu_QuantizeLinear_Output" in report.mismatches


def test_each_operator_of_the_original_file_is_within_one_lsb() -> None:
    for bundle in (digits(), fashion_mnist()):
        network = load(bundle.model)
        report = check(network, GEMMINI, load_samples(bundle.inputs, network.graph, 200), cycle_images=0)
        assert report.ok and report.original.operators
        assert max(difference.max_lsb for difference in report.original.operators.values()) <= 1
