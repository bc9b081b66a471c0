"""Random graphs in every form, and onnx's own node tests: the emulator's integers against ONNX Runtime's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from node_tests import PRODUCTS, QUANTISERS, NodeTest, node_tests
from random_graphs import Sample, random_graphs

from emulator.errors import UnsupportedModel
from emulator.graph.golden import Golden
from emulator.graph.load import load
from emulator.graph.reference import Reference

Feeds = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random") / "model.onnx"


def compare(model: onnx.ModelProto, feeds: Feeds, file: Path) -> Feeds:
    """Every tensor and accumulator equals ONNX Runtime's; returns them."""
    onnx.save(model, file)
    batched = any(array.ndim > 1 and array.shape[0] > 1 for array in feeds.values())
    network = load(file, shapes={name: array.shape for name, array in feeds.items()} if batched else None)
    golden = Golden(network.graph)
    inference = golden.run(feeds)
    found = {}
    for name, (want,) in Reference(network).tensors([feeds]).items():
        found[name] = golden.value(inference, name)
        assert found[name].dtype == want.dtype
        np.testing.assert_array_equal(found[name], want, err_msg=name)
    return found


@given(sample=random_graphs())
@settings(max_examples=200)
def test_every_tensor_of_a_random_graph_equals_onnx_runtime(file: Path, sample: Sample) -> None:
    try:
        compare(sample.model, sample.feeds, file)
    except UnsupportedModel as error:
        assert "no integer MAC layer" in str(error)


@pytest.mark.slow
@given(sample=random_graphs(most=14))
@settings(max_examples=2000)
def test_many_larger_random_graphs_equal_onnx_runtime(file: Path, sample: Sample) -> None:
    try:
        compare(sample.model, sample.feeds, file)
    except UnsupportedModel as error:
        assert "no integer MAC layer" in str(error)


def test_integer_operators_give_what_onnx_expects(file: Path) -> None:
    tests: list[NodeTest] = list(node_tests((*PRODUCTS, *QUANTISERS)))
    assert len(tests) > 15
    for test in tests:
        if "float16" in test.name:  # the array has no scales of that kind
            continue
        found = compare(test.model, test.feeds, file)
        for name, want in test.expected.items():
            if name in found:
                np.testing.assert_array_equal(found[name], want, err_msg=f"{test.name}: {name}")
