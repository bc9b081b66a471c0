"""Whole float models: losses, shapes, sharing, preparation, refusals, and an untouched forward part."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from emulator.errors import BadConfig, UnsupportedModel
from emulator.sensitivity.backward import gradient_model

LEVELS = [
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
]
Node = tuple[str, list[str], str, dict[str, Any]]


def build(
    nodes: list[Node],
    weights: dict[str, np.ndarray],
    shape: list[int | str],
    *,
    opset: int = 18,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model from input "x" to the output of the last node."""
    graph = helper.make_graph(
        [
            helper.make_node(op, ins, [out], name=f"n_{out}", **attributes)
            for op, ins, out, attributes in nodes
        ],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(nodes[-1][2], kind, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def session(model: onnx.ModelProto, level: ort.GraphOptimizationLevel = LEVELS[-1]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = level
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    ready = session(model)
    return dict(zip([o.name for o in ready.get_outputs()], ready.run(None, feeds), strict=True))


def normal(*shape: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def small_cnn(batch: int | str = "N", dtype: type = np.float32) -> onnx.ModelProto:
    """A residual block with a strided shortcut, a depthwise layer, a pool and a classifier."""
    weights = {
        "w1": normal(4, 2, 3, 3, seed=1, dtype=dtype) / 3,
        "b1": normal(4, seed=2, dtype=dtype),
        "w2": normal(4, 4, 3, 3, seed=3, dtype=dtype) / 5,
        "w3": normal(4, 4, 1, 1, seed=4, dtype=dtype),
        "w4": normal(4, 1, 3, 3, seed=5, dtype=dtype) / 2,
        "fc": normal(5, 16, seed=6, dtype=dtype) / 3,
        "fb": normal(5, seed=7, dtype=dtype),
    }
    nodes: list[Node] = [
        ("Conv", ["x", "w1", "b1"], "c1", {"pads": [1, 1, 1, 1]}),
        ("Relu", ["c1"], "r1", {}),
        ("Conv", ["r1", "w2"], "c2", {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        ("Conv", ["r1", "w3"], "c3", {"strides": [2, 2]}),
        ("Add", ["c2", "c3"], "a", {}),
        ("Relu", ["a"], "r2", {}),
        ("Conv", ["r2", "w4"], "c4", {"group": 4, "auto_pad": "SAME_UPPER"}),
        ("HardSwish", ["c4"], "h", {}),
        ("MaxPool", ["h"], "m", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Flatten", ["m"], "f", {}),
        ("Gemm", ["f", "fc", "fb"], "logits", {"transB": 1}),
    ]
    kind = TensorProto.FLOAT if dtype is np.float32 else TensorProto.DOUBLE
    return build(nodes, weights, [batch, 2, 8, 8], kind=kind)


ACTIVATIONS = ["x", "c1", "r1", "c2", "a", "r2", "c4", "h", "m", "f", "logits"]


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return logits[np.arange(len(labels)), labels] - others.max(axis=1)


@pytest.mark.parametrize("loss", ["margin", "ce"])
def test_input_gradient_of_a_network_is_its_finite_difference(loss: str) -> None:
    model = small_cnn(3, np.float64)
    x, labels, way = normal(3, 2, 8, 8, dtype=np.float64), np.array([1, 4, 0]), normal(3, 2, 8, 8, seed=9)
    gradient = ReferenceEvaluator(gradient_model(model, ["x"], loss=loss))
    _, value, grad = gradient.run(None, {"x": x, "label": labels})

    def losses(at: np.ndarray) -> np.ndarray:
        (logits,) = ReferenceEvaluator(model).run(None, {"x": at})
        if loss == "margin":
            return margins(logits, labels)
        return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(3), labels]

    assert np.isclose(value, losses(x).sum())
    expected = (losses(x + 1e-6 * way) - losses(x - 1e-6 * way)) / 2e-6
    assert np.allclose((grad * way).sum(axis=(1, 2, 3)), expected, rtol=1e-6)  # per sample


def test_float32_in_onnxruntime_agrees_with_float64() -> None:
    names, labels, x = ACTIVATIONS, np.array([1, 4, 0]), normal(3, 2, 8, 8)
    found = run(gradient_model(small_cnn(3), names), x=x, label=labels)
    model = gradient_model(small_cnn(3, np.float64), names)
    exact = ReferenceEvaluator(model).run(None, {"x": x.astype(np.float64), "label": labels})
    for name, fine in zip([o.name for o in model.graph.output], exact, strict=True):
        assert np.allclose(found[name], fine, rtol=1e-4, atol=1e-4 * np.abs(fine).max()), name


def test_batch_may_be_dynamic_and_gradients_are_per_sample() -> None:
    ready = session(gradient_model(small_cnn("N"), ACTIVATIONS))
    x, labels = normal(4, 2, 8, 8), np.array([0, 1, 2, 3])
    together = ready.run(None, {"x": x, "label": labels})
    apart = [ready.run(None, {"x": x[i : i + 1], "label": labels[i : i + 1]}) for i in range(4)]
    for index, output in enumerate(ready.get_outputs()):
        rows = [single[index] for single in apart]
        expected = np.sum(rows) if output.name == "loss" else np.concatenate(rows)
        assert np.allclose(together[index], expected, rtol=1e-4, atol=1e-5), output.name


def test_mean_divides_by_the_batch() -> None:
    x, labels = normal(4, 2, 8, 8), np.array([0, 1, 2, 3])
    for loss in ("margin", "ce"):
        both = [
            run(gradient_model(small_cnn(), ["r1"], loss=loss, reduction=way), x=x, label=labels)
            for way in ("sum", "mean")
        ]
        for name in ("loss", "grad:r1"):
            assert both[1][name].shape == both[0][name].shape
            assert np.allclose(both[0][name], 4 * both[1][name], atol=1e-6)


def test_margin_is_logit_of_label_minus_best_other() -> None:
    x, labels = normal(4, 2, 8, 8), np.array([0, 1, 2, 3])
    found = run(gradient_model(small_cnn(), ["logits"]), x=x, label=labels)
    assert np.isclose(found["loss"], margins(found["logits"], labels).sum(), rtol=1e-5)
    assert np.array_equal(np.sort(found["grad:logits"], axis=1), np.tile([-1, 0, 0, 0, 1], (4, 1)))
    assert (found["grad:logits"].argmax(axis=1) == labels).all()


ENDINGS: dict[str, list[Node]] = {
    "silu": [("Sigmoid", ["c"], "s", {}), ("Mul", ["c", "s"], "y", {})],
    "hard-swish": [("HardSwish", ["c"], "y", {})],
    "hard-sigmoid": [("HardSigmoid", ["c"], "y", {})],
    "leaky": [("LeakyRelu", ["c"], "y", {})],
    "residual": [("Add", ["c", "x"], "s", {}), ("Relu", ["s"], "y", {})],
    "square": [("Sub", ["c", "x"], "s", {}), ("Mul", ["s", "s"], "y", {})],
    "softmax": [("Softmax", ["c"], "y", {"axis": 1})],
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_reading_a_value_does_not_undo_a_fusion_that_changes_bits(ending: str) -> None:
    nodes: list[Node] = [("Conv", ["x", "w", "b"], "c", {"pads": [1, 1, 1, 1]}), *ENDINGS[ending]]
    model = build(nodes, {"w": normal(16, 16, 3, 3) / 8, "b": normal(16)}, ["N", 16, 8, 8])
    x = normal(2, 16, 8, 8, seed=7)
    for level in LEVELS:
        (expected,) = session(model, level).run(None, {"x": x})
        ready = session(gradient_model(model, ["x", "c"], loss="seed"), level)
        assert np.array_equal(ready.run(["y"], {"x": x, "seed": x})[0], expected)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
@pytest.mark.parametrize("batch", [1, 6])
def test_forward_values_are_bit_for_bit_those_of_the_model(
    level: ort.GraphOptimizationLevel, batch: int
) -> None:
    x = normal(batch, 2, 8, 8)
    (expected,) = session(small_cnn(), level).run(None, {"x": x})
    model = gradient_model(small_cnn(), ACTIVATIONS)
    found = session(model, level).run(["logits"], {"x": x, "label": np.zeros(batch, np.int64)})[0]
    assert np.array_equal(found, expected)


def test_outputs_are_named_ordered_and_shaped() -> None:
    model = gradient_model(small_cnn(), ["r1", "x"], loss="seed")
    assert [i.name for i in model.graph.input] == ["x", "seed"]
    assert [o.name for o in model.graph.output] == ["logits", "grad:r1", "grad:x"]
    dims = [d.dim_param or d.dim_value for d in model.graph.output[1].type.tensor_type.shape.dim]
    assert dims == ["N", 4, 8, 8]
    onnx.checker.check_model(model)


def test_the_model_that_is_passed_in_is_not_changed() -> None:
    model = small_cnn()
    before = model.SerializeToString()
    gradient_model(model, ["r1"])
    assert model.SerializeToString() == before


def test_building_is_deterministic() -> None:
    first, second = (gradient_model(small_cnn(), ACTIVATIONS).SerializeToString() for _ in range(2))
    assert first == second


def test_one_gradient_under_several_names() -> None:
    nodes: list[Node] = [("Add", ["x", "b"], "s", {}), ("Identity", ["s"], "y", {})]
    found = run(
        gradient_model(build(nodes, {"b": normal(1, 3)}, [1, 3]), ["x", "b", "s", "y"], loss="seed"),
        x=normal(1, 3),
        seed=normal(1, 3, seed=1),
    )
    for name in ("x", "b", "s", "y"):
        assert np.array_equal(found[f"grad:{name}"], normal(1, 3, seed=1))


def test_tied_maxima_give_the_gradient_to_one_of_them() -> None:
    nodes: list[Node] = [("MaxPool", ["x"], "y", {"kernel_shape": [2, 2], "strides": [1, 1]})]
    model = gradient_model(build(nodes, {}, ["N", 1, 4, 4]), ["x"], loss="seed")
    seed = normal(2, 1, 3, 3)
    grad = run(model, x=np.ones((2, 1, 4, 4), np.float32), seed=seed)["grad:x"]
    assert np.allclose(grad[:, :, :3, :3], seed) and not grad[:, :, 3].any() and not grad[..., 3].any()


def test_shared_weights_add_up() -> None:
    nodes: list[Node] = [
        ("Conv", ["x", "w"], "a", {"pads": [1, 1, 1, 1]}),
        ("Conv", ["a", "w"], "y", {"pads": [1, 1, 1, 1]}),
    ]
    w, x, seed = normal(2, 2, 3, 3), normal(3, 2, 5, 5, seed=1), normal(3, 2, 5, 5, seed=2)
    shared = run(gradient_model(build(nodes, {"w": w}, ["N", 2, 5, 5]), ["w"], loss="seed"), x=x, seed=seed)
    nodes[1] = ("Conv", ["a", "v"], "y", {"pads": [1, 1, 1, 1]})
    apart = build(nodes, {"w": w, "v": w}, ["N", 2, 5, 5])
    split = run(gradient_model(apart, ["w", "v"], loss="seed"), x=x, seed=seed)
    assert np.allclose(shared["grad:w"], split["grad:w"] + split["grad:v"], rtol=1e-4, atol=1e-4)


def test_shape_arithmetic_of_exporters_is_folded() -> None:
    nodes: list[Node] = [
        ("Relu", ["x"], "r", {}),
        ("Shape", ["r"], "s", {}),
        ("Gather", ["s", "zero"], "n", {}),
        ("Gather", ["s", "one"], "c", {}),
        ("Div", ["c", "two"], "half", {}),
        ("Unsqueeze", ["half", "zeros"], "end", {}),
        ("Slice", ["r", "zeros", "end", "ones"], "cut", {}),
        ("Unsqueeze", ["n", "zeros"], "n1", {}),
        ("Concat", ["n1", "minus"], "target", {"axis": 0}),
        ("Reshape", ["cut", "target"], "y", {}),
    ]
    scalars = {"zero": 0, "one": 1, "two": 2}
    vectors = {"zeros": [0], "ones": [1], "minus": [-1]}
    weights = {name: np.array(value, np.int64) for name, value in {**scalars, **vectors}.items()}
    model = gradient_model(build(nodes, weights, ["N", 4, 3]), ["x"], loss="seed")
    x, seed = normal(2, 4, 3), normal(2, 6, seed=1)
    grad = run(model, x=x, seed=seed)["grad:x"]
    assert np.allclose(grad[:, :2], seed.reshape(2, 2, 3) * (x[:, :2] > 0)) and not grad[:, 2:].any()


def test_old_opsets_are_upgraded() -> None:
    nodes: list[Node] = [
        ("Relu", ["x"], "r", {}),
        ("ReduceMean", ["r"], "y", {"axes": [2, 3], "keepdims": 0}),
    ]
    x, seed = normal(2, 3, 4, 4), normal(2, 3, seed=1)
    model = gradient_model(build(nodes, {}, ["N", 3, 4, 4], opset=13), ["x"], loss="seed")
    assert np.allclose(run(model, x=x, seed=seed)["grad:x"], (x > 0) * seed[:, :, None, None] / 16)


def test_constant_nodes_and_local_functions_are_read() -> None:
    value = numpy_helper.from_array(np.float32([2.0, 3.0]), "two")
    body = [helper.make_node("Mul", ["a", "b"], ["c"])]
    double = helper.make_function("local", "Times", ["a", "b"], ["c"], body, [helper.make_opsetid("", 18)])
    nodes = [
        helper.make_node("Constant", [], ["k"], value=value),
        helper.make_node("Times", ["x", "k"], ["y"], domain="local"),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, ["N", 2])], [info("y", TensorProto.FLOAT, ["N", 2])]
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, functions=[double], opset_imports=opsets, ir_version=9)
    grad = run(gradient_model(model, ["x"], loss="seed"), x=normal(3, 2), seed=np.ones((3, 2), np.float32))
    assert np.array_equal(grad["grad:x"], np.tile(np.float32([2, 3]), (3, 1)))


# -- refusals


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Round", ["x"], "y", {})], r"no gradient rule for Round \(node 'n_y'\); supported: Abs, "),
        ([("Cast", ["x"], "i", {"to": 7}), ("Cast", ["i"], "y", {"to": 1})], "for Cast .* on integers"),
        ([("Identity", ["pads"], "p", {}), ("Cast", ["p"], "y", {"to": 1})], "does not depend on 'x'"),
    ],
    ids=["no-rule", "integers", "no-path"],
)  # fmt: skip
def test_what_has_no_gradient_is_refused_by_name(nodes: list[Node], message: str) -> None:
    model = build(nodes, {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, [1, 1, 4, 4])
    with pytest.raises(UnsupportedModel, match=message):
        gradient_model(model, ["x"], loss="seed")


def branching(op_type: str) -> onnx.ModelProto:
    """y = 2 x + x by If, Loop or Scan, whose bodies read x from outside."""
    info, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    nodes = [helper.make_node("Add", ["x", "x"], ["b"])]
    if op_type == "If":
        body = helper.make_graph(nodes, "body", [], [info("b", kind, [3])])
        control = helper.make_node("If", ["yes"], ["c"], name="control", then_branch=body, else_branch=body)
    elif op_type == "Loop":
        nodes += [helper.make_node("Identity", ["on"], ["go"])]
        ins = [info("i", TensorProto.INT64, []), info("on", TensorProto.BOOL, []), info("s", kind, [3])]
        body = helper.make_graph(nodes, "body", ins, [info("go", TensorProto.BOOL, []), info("b", kind, [3])])
        control = helper.make_node("Loop", ["two", "yes", "zeros"], ["c"], name="control", body=body)
    else:
        nodes += [helper.make_node("Add", ["s", "e"], ["t"])]
        body = helper.make_graph(
            nodes, "body", [info("s", kind, [3]), info("e", kind, [3])], [info("b", kind, [3])]
        )
        inputs = ["zeros", "rows"]
        control = helper.make_node("Scan", inputs, ["c"], name="control", body=body, num_scan_inputs=1)
    weights = {"yes": np.array(True), "two": np.array(2), "zeros": normal(3), "rows": normal(2, 3)}
    graph = helper.make_graph(
        [control, helper.make_node("Add", ["c", "x"], ["y"])],
        "g", [info("x", kind, [3])], [info("y", kind, [3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("op_type", ["If", "Loop", "Scan"])
def test_control_flow_is_refused_though_its_bodies_only_capture_the_value(op_type: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"no gradient rule for {op_type} \(node 'control'\)"):
        gradient_model(branching(op_type), ["x"], loss="seed")


@pytest.mark.parametrize(("op_type", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_operators_are_refused(op_type: str, gates: int) -> None:
    weights = {"w": normal(1, gates * 5, 2), "r": normal(1, gates * 5, 5)}
    model = build([(op_type, ["x", "w", "r"], "y", {"hidden_size": 5})], weights, [3, 1, 2])
    with pytest.raises(UnsupportedModel, match=rf"no gradient rule for {op_type} \(node 'n_y'\)"):
        gradient_model(model, ["x"], loss="seed")


def test_operators_off_the_way_need_no_rule() -> None:
    nodes: list[Node] = [("Round", ["x"], "r", {}), ("Relu", ["r"], "a", {}), ("Relu", ["a"], "y", {})]
    found = run(
        gradient_model(build(nodes, {}, [1, 3]), ["a"], loss="seed"), x=normal(1, 3), seed=normal(1, 3)
    )
    assert found["grad:a"].shape == (1, 3)


def test_dynamic_image_sizes_are_refused() -> None:
    model = build([("Conv", ["x", "w"], "y", {})], {"w": normal(1, 1, 3, 3)}, ["N", 1, "H", "W"])
    with pytest.raises(UnsupportedModel, match="must be static"):
        gradient_model(model, ["x"], loss="seed")


def test_wrong_arguments_are_refused_with_the_choices() -> None:
    model = small_cnn()
    with pytest.raises(BadConfig, match=r"no tensor 'r3'; close names: .*r2"):
        gradient_model(model, ["r3"])
    with pytest.raises(BadConfig, match="use 'margin', 'ce' or 'seed'"):
        gradient_model(model, ["r1"], loss="hinge")
    with pytest.raises(BadConfig, match="use 'sum' or 'mean'"):
        gradient_model(model, ["r1"], reduction="max")
    with pytest.raises(UnsupportedModel, match="needs logits of shape"):
        gradient_model(model, ["r1"], output="c4")
    with pytest.raises(UnsupportedModel, match="already has a tensor 'seed'"):
        gradient_model(build([("Relu", ["x"], "seed", {})], {}, [1, 3]), ["x"], loss="seed")
