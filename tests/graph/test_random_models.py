"""Random small networks: the emulator's integers against ONNX Runtime's, tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import (
    Sample,
    convolution_models,
    cut_out,
    nearest,
    pooling_models,
    quantised_models,
    run_unoptimised,
)

from emulator.graph.golden import Golden
from emulator.graph.load import Network, load


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random") / "model.onnx"


def loaded(sample: Sample, file: Path) -> Network:
    onnx.save(sample.model, file)
    return load(file)


def emulated(network: Network, image: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
    golden = Golden(network.graph)
    inference = golden.run(image)
    return {
        tensor.name: tensor.to_onnx(golden.tensor(inference, index)[np.newaxis])[0]
        for index, tensor in enumerate(network.graph.tensors)
    }


def produced(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.output}


def only_bounded(model: onnx.ModelProto, name: str) -> bool:
    """Is a Clip all that reads it? That is folded into the layer, and what the layer gave before is gone."""
    readers = [node for node in model.graph.node if name in node.input]
    if [node.op_type for node in readers] == ["DequantizeLinear"]:
        return only_bounded(model, readers[0].output[0])
    return [node.op_type for node in readers] == ["Clip"]


def check_every_tensor(sample: Sample, file: Path) -> None:
    network = loaded(sample, file)
    found = emulated(network, sample.image)
    names = sorted(found.keys() & produced(network.reference))
    want = run_unoptimised(network.reference, names, {"input": sample.image[np.newaxis]})
    integers = {node.output[0] for node in network.reference.graph.node if node.op_type.startswith("Q")}
    assert all(only_bounded(network.reference, name) for name in integers - set(names))
    for name in names:
        assert found[name].dtype == want[name].dtype
        np.testing.assert_array_equal(found[name], want[name], err_msg=name)


def check_every_island(sample: Sample, file: Path) -> None:
    """Each operator of the file as it was, fed with the emulator's integers: no rewriting in between."""
    network = loaded(sample, file)
    found = emulated(network, sample.image)
    shapes = onnx.shape_inference.infer_shapes(sample.model)
    kept = [name for name in found if name in produced(sample.model)]
    known = {"input", *kept}
    for name in kept:
        sources = sorted(nearest(sample.model, name, known))
        part = cut_out(shapes, sources, name)
        feeds = {s: sample.image[np.newaxis] if s == "input" else found[s] for s in sources}
        want = run_unoptimised(part, [name], feeds)[name]
        difference = np.abs(want.astype(int) - found[name].astype(int))
        assert difference.max() <= 1, (name, difference.max())


@given(sample=quantised_models())
@settings(max_examples=150)
def test_every_tensor_of_a_random_network_equals_onnx_runtime(file: Path, sample: Sample) -> None:
    check_every_tensor(sample, file)


@given(sample=quantised_models(forms=("qdq",), most=4))
@settings(max_examples=50)
def test_no_operator_of_the_original_file_is_off_by_more_than_rounding(file: Path, sample: Sample) -> None:
    check_every_island(sample, file)


@given(sample=convolution_models())
@settings(max_examples=150)
def test_every_window_of_a_convolution_equals_onnx_runtime(file: Path, sample: Sample) -> None:
    check_every_tensor(sample, file)


@given(sample=pooling_models())
@settings(max_examples=150)
def test_average_pools_round_as_onnx_runtime_does(file: Path, sample: Sample) -> None:
    check_every_tensor(sample, file)


@pytest.mark.slow
@given(sample=quantised_models(most=7))
@settings(max_examples=1500)
def test_many_random_networks_equal_onnx_runtime(file: Path, sample: Sample) -> None:
    check_every_tensor(sample, file)


@given(sample=quantised_models(most=3), seed=st.integers(0, 1 << 20))
@settings(max_examples=30)
def test_accumulators_are_the_weighted_sums_of_the_streamed_values(
    file: Path, sample: Sample, seed: int
) -> None:
    network = loaded(sample, file)
    golden = Golden(network.graph)
    image = golden.run(sample.image)
    for index, layer in enumerate(network.graph.layers):
        streamed = golden.streamed(image, index).astype(np.int64)
        sums = (
            np.matmul(streamed, golden.stationary(image, index).astype(np.int64))
            + golden.bias(image, index)[:, np.newaxis]
        )
        want = sums.transpose(1, 0, 2).reshape(layer.shape.m, -1)
        np.testing.assert_array_equal(golden.accumulator(image, index), want)
