"""A narrower answer: the same network with finer logits, by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from oracle import check_every_tensor
from restricted_networks import qoperator, subject_of

from emulator.errors import BadConfig, UnsupportedModel
from emulator.graph.answer_range import with_answer_range
from emulator.graph.golden import Golden
from emulator.graph.load import Network, network_of


def answers(network: Network, inputs: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """(images, classes) logits as stored and as reals, and the step of the latter."""
    golden = Golden(network.graph)
    tensor = network.graph.tensors[network.graph.output]
    stored = np.stack([golden.logits(golden.run(image)) for image in inputs])
    return stored, tensor.real(stored), float(tensor.scale)


def check_finer(model: onnx.ModelProto, inputs: Any, share: float) -> None:
    before = network_of(model, Path("before.onnx"))
    made = with_answer_range(model, before.graph.output_name, share)
    onnx.checker.check_model(made, full_check=True)
    after = network_of(made, Path("after.onnx"))
    check_every_tensor(after, inputs[:5])
    _, coarse, step = answers(before, inputs)
    stored, fine, finer = answers(after, inputs)
    assert finer == pytest.approx(share * step)
    # The same reals, to half a step of each, where the finer ones don't saturate.
    inside = np.abs(stored.astype(int)) < 126
    assert 0.3 < inside.mean() < 1
    assert np.abs(coarse - fine)[inside].max() <= 0.51 * (step + finer)
    assert np.unique(fine[inside]).size > np.unique(coarse[inside]).size


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_operators_of_integers_write_finer_logits(kind: Any) -> None:
    model, inputs = qoperator(kind)
    before = network_of(model, Path("before.onnx"))
    made = with_answer_range(model, before.graph.output_name, 0.5)
    after = network_of(made, Path("after.onnx"))
    check_every_tensor(after, inputs[:5])
    assert after.graph.tensors[after.graph.output].scale == pytest.approx(
        0.5 * before.graph.tensors[before.graph.output].scale
    )


def test_logits_of_a_qdq_file_are_finer(digits: Any) -> None:
    check_finer(digits.network.original, digits.inputs[:60], 0.5)


def test_bounds_in_between_keep_their_real_values(digits: Any) -> None:
    subject = subject_of(digits.network.original, digits.inputs[:40], digits.inputs[40:60], per="channel")
    check_finer(subject.after.original, digits.inputs[40:90], 0.6)


def test_another_tensor_of_the_same_scale_keeps_it(digits: Any) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(digits.network.original)
    answer = digits.network.graph.output_name
    maker = {name: node for node in model.graph.node for name in node.output}
    scale = maker[answer].input[1]
    other = next(
        node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[1] != scale
    )
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[1] == other.input[1]:
            node.input[1] = scale
    made = with_answer_range(model, answer, 0.5)
    uses = [node.input[1] for node in made.graph.node if node.op_type == "QuantizeLinear"]
    assert scale in uses and f"{scale}/answer_range" in uses


def test_all_of_the_range_is_the_file_as_it_was(digits: Any) -> None:
    original = digits.network.original
    assert with_answer_range(original, digits.network.graph.output_name, 1.0) == original


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_impossible_shares_are_refused(digits: Any, share: float) -> None:
    with pytest.raises(BadConfig, match="allowed: above 0, up to 1"):
        with_answer_range(digits.network.original, digits.network.graph.output_name, share)


def test_answers_that_are_no_product_are_refused(digits: Any) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(digits.network.original)
    old = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Softmax", [old], ["shares"]))
    with pytest.raises(UnsupportedModel, match="is not dequantised"):
        with_answer_range(model, "shares", 0.5)
    for name, value in (("s", np.float32(0.01)), ("z", np.int8(0))):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    model.graph.node.append(helper.make_node("QuantizeLinear", ["shares", "s", "z"], ["q"]))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["real"]))
    with pytest.raises(UnsupportedModel, match="is the result of Softmax"):
        with_answer_range(model, "real", 0.5)
