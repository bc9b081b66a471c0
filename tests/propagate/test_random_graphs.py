"""Faults in random graphs of every operator and form: each has the answer that ONNX Runtime computes from the corrupted
value, and that of the whole inference again, bit for bit."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from random_graphs import FORMS, STEPS, Sample, conv_transpose, random_graphs
from test_steps import check_effects

from emulator.errors import UnsupportedModel
from emulator.graph.load import load

# ONNX Runtime rounds a ConvTranspose in float otherwise where its weights are constants, as they are in a host segment.
SCOPES = (
    {"forms": [form for form in FORMS if form != "dynamic"]},
    {"forms": ["dynamic"], "steps": [step for step in STEPS if step is not conv_transpose]},
)

# It has no kernel for some scales of a mean, and infers shapes of pools that its own kernels don't have (ceil_mode).
NOT_OURS = ("no integer MAC layer", "parameter out of computation range", "ShapeInferenceError")


def graphs(most: int) -> st.SearchStrategy[Sample]:
    return st.one_of([random_graphs(most=most, **scope) for scope in SCOPES])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("propagate") / "model.onnx"


def check(sample: Sample, file: Path, seed: int) -> None:
    onnx.save(sample.model, file)
    try:
        check_effects(load(file), sample.feeds, seed, faults=20)
    except UnsupportedModel as error:
        assert any(reason in str(error) for reason in NOT_OURS)
    except Fail as error:
        assert "Shape mismatch attempting to re-use buffer" in str(error)


@given(sample=graphs(9), seed=st.integers(0, 1 << 30))
@settings(max_examples=100)
def test_a_fault_in_a_random_graph_has_the_answer_onnx_runtime_computes_from_it(
    file: Path, sample: Sample, seed: int
) -> None:
    check(sample, file, seed)


@pytest.mark.slow
@given(sample=graphs(14), seed=st.integers(0, 1 << 30))
@settings(max_examples=1000)
def test_a_fault_in_many_larger_random_graphs_has_the_answer_onnx_runtime_computes_from_it(
    file: Path, sample: Sample, seed: int
) -> None:
    check(sample, file, seed)
