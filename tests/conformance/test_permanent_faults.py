"""Stuck bits and dead columns through whole networks: the dense path and the cycle engine, layer by layer."""

import numpy as np
import onnx
import pytest
from onnx_models import resnet20

from emulator.array.groups import dead_column
from emulator.array.spec import ArraySpec
from emulator.array.upset import Upset
from emulator.bundled import fashion_mnist
from emulator.graph.golden import Golden
from emulator.graph.load import load
from emulator.propagate.permanent import run_permanent

GEMMINI = ArraySpec.preset("gemmini-16")
FAULTS = {
    "stuck weight bit": (Upset(register="pe_c1", row=3, col=5, bits=(6,), kind="stuck-at-1"),),
    "stuck activation": (Upset(register="pe_a", row=1, col=2, bits=(7,), kind="stuck-at-0"),),
    "stuck partial sum": (Upset(register="pe_b", row=9, col=0, bits=(14,), kind="stuck-at-1"),),
    "dead column": dead_column(GEMMINI, 7),
    "for a while": (
        Upset(register="pe_a", row=0, col=0, bits=(6, 7), kind="stuck-at-1", cycle=300, until_cycle=2000),
    ),
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Golden, np.ndarray]]:
    bundle = fashion_mnist()
    file = tmp_path_factory.mktemp("resnet") / "resnet20.onnx"
    model, picture = resnet20()
    onnx.save(model, file)
    return {
        "bundled CNN": (Golden(load(bundle.model).graph), np.load(bundle.inputs)["inputs"][0]),
        "ResNet-20": (Golden(load(file).graph), picture),
    }


@pytest.mark.parametrize("network", ["bundled CNN", "ResNet-20"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_dense_path_is_the_cycle_engine_in_every_layer(
    networks: dict[str, tuple[Golden, np.ndarray]], network: str, fault: str
) -> None:
    golden, image = networks[network]
    dense = run_permanent(golden, image, GEMMINI, FAULTS[fault])
    assert set(dense.engines) == {"closed-form"}
    cycles = run_permanent(golden, image, GEMMINI, FAULTS[fault], engine="cycle")
    assert set(cycles.engines) == {"cycle"} and len(cycles.engines) == len(golden.graph.layers)
    for layer in range(len(golden.graph.layers)):
        found = golden.accumulator(dense.inference, layer)
        assert np.array_equal(found, golden.accumulator(cycles.inference, layer)), layer
    assert np.array_equal(dense.inference.values, cycles.inference.values)
    # And it is a fault: the first layer already differs.
    right = golden.run(image)
    assert not np.array_equal(dense.inference.accumulators, right.accumulators)


def test_a_dead_column_leaves_only_the_bias() -> None:
    bundle = fashion_mnist()
    golden = Golden(load(bundle.model).graph)
    image = np.load(bundle.inputs)["inputs"][0]
    run = run_permanent(golden, image, GEMMINI, dead_column(GEMMINI, 7))
    bias = golden.bias(run.inference, 0).reshape(-1)
    assert (golden.accumulator(run.inference, 0)[:, 7] == bias[7]).all()


def test_a_stuck_valid_hangs() -> None:
    bundle = fashion_mnist()
    golden = Golden(load(bundle.model).graph)
    image = np.load(bundle.inputs)["inputs"][0]
    stuck = Upset(register="pe_valid", row=15, col=0, bits=(0,), kind="stuck-at-0")
    run = run_permanent(golden, image, GEMMINI, (stuck,))
    assert run.hang == 0 and run.engines == ("cycle",)
