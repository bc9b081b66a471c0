"""Files as they are rarely written: the QLinear form gives what the file gives, and every value is ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from oracle import check_every_tensor, saved

from emulator.campaign.inputs import random_samples
from emulator.graph.load import Network, load
from emulator.graph.session import open_session

RNG = np.random.default_rng(5)
STEP, COARSE = np.float32(0.05), np.float32(0.3)
CONSTANTS = {
    "step": STEP, "coarse": COARSE, "zero": np.int8(3), "other": np.int8(-5),
    "kernel": RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
    "square": RNG.integers(-127, 128, (5, 5)).astype(np.int8),
    "stack": RNG.integers(-127, 128, (4, 5, 6)).astype(np.int8),
    "column": RNG.integers(-127, 128, 5).astype(np.int8),
    "steps5": np.float32([0.01, 0.02, 0.03, 0.04, 0.05]), "zeros5": np.zeros(5, np.int8),
    "steps6": np.float32([0.01, 0.02, 0.03, 0.04, 0.05, 0.06]), "zeros6": np.zeros(6, np.int8),
    "first": np.int64(0),
}  # fmt: skip


def node(op: str, inputs: str, output: str, domain: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], domain=domain, **attributes)


def conv(op: str = "Conv", domain: str = "", **attributes: Any) -> list[onnx.NodeProto]:
    """x (1, 3, 5, 5) to `out` (1, 4, 5, 5), real values of int8 `byte`."""
    return [
        node("QuantizeLinear", "x step zero", "x8"),
        node("DequantizeLinear", "x8 step zero", "real"),
        node("DequantizeLinear", "kernel step zero", "weight"),
        node(op, "real weight", "sum", domain, **attributes),
        node("QuantizeLinear", "sum coarse other", "byte"),
        node("DequantizeLinear", "byte coarse other", "out"),
    ]


def model_of(
    nodes: Sequence[onnx.NodeProto], *, output: str = "out", rank: int = 4, opset: int = 17, **more: Any
) -> onnx.ModelProto:
    free = [f"size{axis}" for axis in range(rank)]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 5])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, free)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in CONSTANTS.items()],
    )
    domains = [("", opset), ("com.microsoft", 1), ("own", 1)]
    sets = [helper.make_opsetid(*pair) for pair in domains]
    return helper.make_model(graph, opset_imports=sets, **{"ir_version": 8} | more)


def same(model: onnx.ModelProto, folder: Path, tolerance: float = 0.0) -> Network:
    """Answers of the file and of its QLinear form, and every value of the emulator."""
    network = load(saved(model, folder))
    samples = random_samples(network.graph, 3, 1).inputs
    file, form = open_session(model), open_session(network.reference)
    for sample in samples:
        feeds = network.graph.feeds(sample)
        given, found = file.run(None, feeds)[0], form.run(None, feeds)[0]
        np.testing.assert_allclose(found, given, rtol=0, atol=tolerance)
    check_every_tensor(network, samples)
    return network


def test_what_a_refused_layer_began_is_forgotten(tmp_path: Path) -> None:
    """A QLinearMatMul with a scale known at run time, its output joined with that of a convolution."""
    nodes = [
        node("QuantizeLinear", "x step zero", "x8"),
        node("ReduceMax", "x", "computed", keepdims=0),
        node("QLinearConv", "x8 step zero kernel step zero coarse other", "byte", pads=[1] * 4),
        node("QLinearMatMul", "byte computed other square step zero coarse other", "product"),
        node("QLinearAdd", "byte coarse other product coarse other coarse other", "added", "com.microsoft"),
        node("DequantizeLinear", "added coarse other", "out"),
    ]
    assert len(same(model_of(nodes), tmp_path).graph.layers) == 1


def test_the_shape_of_a_value_whose_shape_depends_on_the_data_is_no_constant(tmp_path: Path) -> None:
    more = [
        node("NonZero", "out", "places"),
        node("Shape", "places", "shape"),
        node("Cast", "shape", "count", to=TensorProto.FLOAT),
        node("ReduceSum", "count", "total", keepdims=0),
        node("Add", "out total", "answer"),
    ]
    same(model_of([*conv(pads=[1] * 4), *more], output="answer"), tmp_path, tolerance=COARSE * 1.01)


def test_a_function_of_the_file_is_what_it_holds_not_what_its_name_says(tmp_path: Path) -> None:
    opset = [helper.make_opsetid("", 17)]
    subtract = helper.make_function("own", "Add", ["a", "b"], ["c"], [node("Sub", "a b", "c")], opset)
    block = helper.make_function("own", "Block", ["a", "b"], ["c"], [node("Conv", "a b", "c")], opset)
    more = [
        node("Add", "out out", "nothing", "own"),
        node("QuantizeLinear", "nothing coarse other", "nothing8"),
        node("DequantizeLinear", "nothing8 coarse other", "answer"),
    ]
    model = model_of([*conv("Block", "own"), *more], output="answer", functions=[subtract, block])
    assert len(same(model, tmp_path).graph.layers) == 1


def test_weights_that_are_also_inputs_are_weights(tmp_path: Path) -> None:
    for version in (3, 8):
        model = model_of(conv(), opset=10 if version == 3 else 17, ir_version=version)
        for tensor in model.graph.initializer:
            kind = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(kind)
        network = same(model, tmp_path, tolerance=COARSE * 1.01)
        assert [spec.name for spec in network.graph.inputs] == ["x"]


def test_a_scale_known_at_run_time_needs_no_zero_point(tmp_path: Path) -> None:
    more = [
        node("ReduceMax", "x", "computed", keepdims=0),
        node("DequantizeLinear", "byte computed", "again"),
        node("Conv", "again weight3", "float"),
        node("Relu", "float", "positive"),
        node("QuantizeLinear", "positive computed", "positive8"),
        node("DequantizeLinear", "positive8 computed", "answer"),
    ]
    model = model_of([*conv(), *more], output="answer")
    kernel = RNG.standard_normal((2, 4, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(kernel, "weight3"))
    network = load(saved(model, tmp_path))
    check_every_tensor(network, random_samples(network.graph, 2, 1).inputs)
    assert len(network.graph.layers) == 1


def test_scales_of_the_rows_of_a_vector_are_not_scales_of_its_column(tmp_path: Path) -> None:
    more = [
        node("DequantizeLinear", "column steps5 zeros5", "vector", axis=0),
        node("MatMul", "real vector", "product"),
        node("ReduceSum", "product", "total", keepdims=0),
        node("Add", "out total", "answer"),
    ]
    network = same(model_of([*conv(), *more], output="answer"), tmp_path, tolerance=COARSE * 1.01)
    assert [layer.op for layer in network.graph.layers] == ["Conv"]


def test_stacked_weights_may_have_a_scale_a_column(tmp_path: Path) -> None:
    more = [
        node("DequantizeLinear", "stack steps6 zeros6", "stacked", axis=2),
        node("MatMul", "out stacked", "product"),
        node("QuantizeLinear", "product coarse other", "product8"),
        node("DequantizeLinear", "product8 coarse other", "answer"),
    ]
    network = same(model_of([*conv(pads=[1] * 4), *more], output="answer"), tmp_path, tolerance=1.0)
    assert [layer.op for layer in network.graph.layers] == ["Conv", "MatMul"]


def test_a_sequence_within_the_host_is_no_obstacle(tmp_path: Path) -> None:
    more = [
        node("SplitToSequence", "out", "parts", axis=1),
        node("SequenceAt", "parts first", "answer"),
    ]
    same(model_of([*conv(), *more], output="answer"), tmp_path, tolerance=COARSE * 1.01)
