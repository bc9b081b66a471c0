"""Gradient rules of elementwise operators: activations, functions, arithmetic with broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from derivative import check, check_network, ints, network, random, run_ort, run_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from emulator.errors import UnsupportedModel
from emulator.sensitivity.backward import gradient_model

FEW = settings(max_examples=12)
MORE = settings(max_examples=40)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


POSITIVE = {"x": random(3, 5) + 3}  # from 1 to 5
INSIDE = {"x": random(3, 5) / 3}  # within -1 to 1
ANYWHERE = {"x": 2 * random(3, 4, 5)}

SMOOTH = {
    "Abs": ANYWHERE, "Acos": INSIDE, "Acosh": POSITIVE, "Asin": INSIDE, "Asinh": ANYWHERE, "Atan": ANYWHERE,
    "Atanh": INSIDE, "Celu": ANYWHERE, "Cos": ANYWHERE, "Cosh": ANYWHERE, "Elu": ANYWHERE, "Erf": ANYWHERE,
    "Exp": ANYWHERE, "HardSigmoid": ANYWHERE, "HardSwish": ANYWHERE, "Identity": ANYWHERE, "LeakyRelu": ANYWHERE,
    "Log": POSITIVE, "Mish": ANYWHERE, "Neg": ANYWHERE, "Reciprocal": POSITIVE, "Relu": ANYWHERE, "Selu": ANYWHERE,
    "Sigmoid": ANYWHERE, "Sin": ANYWHERE, "Sinh": ANYWHERE, "Softplus": ANYWHERE, "Softsign": ANYWHERE,
    "Sqrt": POSITIVE, "Tan": INSIDE, "Tanh": ANYWHERE, "ThresholdedRelu": ANYWHERE, "Clip": ANYWHERE,
    "Dropout": ANYWHERE,
}  # fmt: skip


@pytest.mark.parametrize("op_type", SMOOTH)
def test_functions_of_one_value(op_type: str) -> None:
    check(op_type, SMOOTH[op_type])


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("LeakyRelu", {"alpha": 0.3}),
        ("LeakyRelu", {"alpha": -0.3}),
        ("LeakyRelu", {"alpha": 0.0}),
        ("HardSigmoid", {"alpha": 0.4, "beta": 0.2}),
        ("Elu", {"alpha": 1.7}),
        ("Celu", {"alpha": 0.6}),
        ("Selu", {"alpha": 1.2, "gamma": 0.8}),
        ("ThresholdedRelu", {"alpha": 0.4}),
    ],
)
def test_functions_with_attributes(op_type: str, attributes: dict[str, Any]) -> None:
    check(op_type, ANYWHERE, **attributes)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate: str) -> None:
    check("Gelu", ANYWHERE, opset=20, approximate=approximate)


def test_swish() -> None:
    check_network([("Swish", "x", "y", {"alpha": 0.7})], ANYWHERE, {}, opset=24)


@pytest.mark.parametrize(
    ("ours", "same"), [("com.microsoft.Gelu", "Gelu"), ("com.microsoft.QuickGelu", "Swish")]
)
def test_operators_of_onnxruntime_are_their_standard_forms(ours: str, same: str) -> None:
    """These exist in float32 only, so the standard operator's gradient, checked above, is the oracle."""
    x, seed = random(3, 7).astype(np.float32), random(3, 7, seed=1).astype(np.float32)
    found = []
    for name, attributes in ((ours, {}), (same, {"alpha": 1.702} if same == "Swish" else {})):
        model = network([(name, "x", "y", attributes)], {"x": x}, {}, np.float32, opset=24)
        found.append(run_ort(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": seed})[1])
    assert np.allclose(*found, atol=1e-6)


@pytest.mark.parametrize("slope", [(5,), (4, 1), (1, 4, 1), (3, 4, 5)], ids=repr)
def test_prelu(slope: tuple[int, ...]) -> None:
    check("PRelu", {"x": random(3, 4, 5), "slope": random(*slope, seed=1)})


@pytest.mark.parametrize("exponent", [2.0, 3.0, -1.5, 0.5, 1.0, 0.0])
def test_power_with_a_constant_exponent(exponent: float) -> None:
    check("Pow", POSITIVE, {"e": np.array(exponent)})


def test_whole_powers_of_negative_numbers_and_zero() -> None:
    check("Pow", ANYWHERE, {"e": np.array(3.0)})
    check("Pow", {"x": np.array([-1.0, 0.0, 2.0])}, {"e": np.array([2, 1, 0])})


def test_power_as_a_function_of_both() -> None:
    check("Pow", {**POSITIVE, "e": random(5, seed=1)})


@pytest.mark.parametrize("op_type", ["Max", "Min", "Sum", "Mean"])
def test_operators_of_many_operands(op_type: str) -> None:
    """The first of them of full shape: the reference evaluator's Mean adds the others to it in place."""
    inputs = {"a": random(3, 4, seed=1), "b": random(3, 1, seed=2) + 0.01, "c": random(4, seed=3) + 0.02}
    check(op_type, inputs)
    check(op_type, {"a": inputs["a"]})


def test_equal_operands_of_max_give_the_gradient_to_the_first() -> None:
    x = np.ones((2, 3), np.float32)
    model = network([("Max", "a b", "y", {})], {"a": x, "b": x}, {}, np.float32)
    _, first, second = run_ort(gradient_model(model, ["a", "b"], loss="seed"), {"a": x, "b": x, "seed": x})
    assert (first == 1).all() and not second.any()


@FEW
@given(st.booleans(), st.booleans())
def test_where(wide_a: bool, wide_b: bool) -> None:
    inputs = {
        "a": random(3, 4 if wide_a else 1, seed=1),
        "b": random(4, seed=2) if wide_b else random(1, seed=2),
    }
    chosen = np.random.default_rng(0).random((2, 3, 4)) < 0.5
    check_network([("Where", "c a b", "y", {})], inputs, {"c": chosen})


def test_casts_between_float_types() -> None:
    nodes = [
        ("Cast", "x", "d", {"to": TensorProto.DOUBLE}),
        ("Mul", "d d", "s", {}),
        ("CastLike", "s like", "y", {}),
    ]
    check_network(nodes, {"x": random(3, 4)}, {"like": np.array(0.0)})


def test_a_condition_as_a_number_has_no_derivative() -> None:
    nodes = [
        ("Greater", "x zero", "c", {}),
        ("Cast", "c", "m", {"to": TensorProto.DOUBLE}),
        ("Cast", "m", "n", {"to": TensorProto.DOUBLE}),
    ]
    x = random(3, 4)
    model = network([*nodes, ("Mul", "x n", "y", {})], {"x": x}, {"zero": np.array(0.0)}, np.float64)
    _, grad = run_reference(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": np.ones_like(x)})
    assert np.array_equal(grad, x > 0)


def test_dropout_in_training_is_refused() -> None:
    constants = {"ratio": np.array(0.5), "training": np.array(True)}
    model = network([("Dropout", "x ratio training", "y", {})], {"x": random(3)}, constants, np.float32)
    with pytest.raises(UnsupportedModel, match=r"Dropout \(node 'node'\): it is in training mode"):
        gradient_model(model, ["x"], loss="seed")


def test_cast_between_float_types() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["d", "d"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [2, 3])], [info("y", TensorProto.FLOAT, [2, 3])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    x = random(2, 3).astype(np.float32)
    _, of_x, of_d = run_ort(gradient_model(model, ["x", "d"], loss="seed"), {"x": x, "seed": np.ones_like(x)})
    assert of_x.dtype == np.float32 and of_d.dtype == np.float64
    assert np.allclose(of_x, 2 * x) and np.allclose(of_d, 2 * x)


@pytest.mark.parametrize("bounds", [(-0.8, 1.1), (-0.8, None), (None, 1.1)], ids=repr)
def test_clip(bounds: tuple[float | None, float | None]) -> None:
    low, high = bounds
    if high is None:
        check("Clip", {"x": random(3, 7)}, {"low": np.array(low)})
    elif low is None:
        check("Clip", {"x": random(3, 7)}, {"": ints(), "high": np.array(high)})
    else:
        check("Clip", {"x": random(3, 7)}, {"low": np.array(low), "high": np.array(high)})


@MORE
@given(st.data(), shapes, st.sampled_from(["Add", "Sub", "Mul", "Div"]))
def test_arithmetic_with_broadcasting(data: st.DataObject, shape: list[int], op_type: str) -> None:
    other = [data.draw(st.sampled_from([1, size])) for size in shape][data.draw(st.integers(0, len(shape))) :]
    a, b = random(*shape, seed=1), random(*other, seed=2)
    b = b + 3 if op_type == "Div" else b
    a = a + 3 if op_type == "Div" else a
    check(op_type, {"a": a, "b": b} if data.draw(st.booleans()) else {"b": b, "a": a})


@pytest.mark.parametrize("op_type", ["Add", "Mul", "Sub"])
def test_both_operands_may_be_the_same_tensor(op_type: str) -> None:
    info, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x", "x"], ["y"])], "g", [info("x", kind, [3])], [info("y", kind, [3])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    x = random(3).astype(np.float32)
    grad = run_ort(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": np.ones_like(x)})[1]
    assert np.allclose(grad, {"Add": 2 * np.ones(3), "Mul": 2 * x, "Sub": np.zeros(3)}[op_type])
