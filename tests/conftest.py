"""What every room's tests share: the bundled models, ready to run, and one hypothesis profile."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings

# Helpers that several rooms' tests import by name; test directories are no packages.
sys.path.insert(0, str(Path(__file__).parent / "array"))
sys.path.insert(0, str(Path(__file__).parent / "campaign"))
sys.path.insert(0, str(Path(__file__).parent / "graph"))
sys.path.insert(0, str(Path(__file__).parent / "propagate"))
sys.path.insert(0, str(Path(__file__).parent / "rtl"))
sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
sys.path.insert(0, str(Path(__file__).parent / "harden"))
sys.path.insert(0, str(Path(__file__).parent / "notebooks"))
sys.path.insert(0, str(Path(__file__).parent / "statistics"))

from emulator.array.spec import ArraySpec
from emulator.graph.golden import Golden, Inference
from emulator.graph.load import Network, load

# The same cases on every run: a red test is a change in the code, never in the dice.
settings.register_profile(
    "house",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.load_profile("house")

MODELS = Path(__file__).parents[1] / "models"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundled:
    """A bundled model with its test images and the default array."""

    path: Path
    data: Path
    network: Network
    golden: Golden
    inputs: npt.NDArray[np.float32]
    array: ArraySpec

    def inference(self, image: int) -> Inference:
        return self.golden.run(self.inputs[image])


def _bundled(folder: str, file: str) -> Bundled:
    path, data = MODELS / folder / file, MODELS / folder / "test.npz"
    network = load(path)
    with np.load(data) as arrays:
        inputs = arrays["inputs"]
    return Bundled(
        path=path,
        data=data,
        network=network,
        golden=Golden(network.graph),
        inputs=inputs,
        array=ArraySpec.preset("gemmini-16"),
    )


@pytest.fixture(scope="session")
def digits() -> Bundled:
    return _bundled("digits", "digits_cnn_int8.onnx")


@pytest.fixture(scope="session")
def fashion() -> Bundled:
    return _bundled("fashion_mnist", "fashion_cnn_int8.onnx")


@pytest.fixture(scope="session", params=["digits", "fashion"])
def bundled(request: pytest.FixtureRequest) -> Bundled:
    """Each bundled model in turn."""
    model: Bundled = request.getfixturevalue(request.param)
    return model
