"""Operators that compute on integers: their gradient is that of the float operator at the dequantised values, which
test_backward_*.py check against finite differences. And the models of several exporters, whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from derivative import network, run_ort

from emulator.errors import UnsupportedModel
from emulator.graph.load import Network, load
from emulator.graph.session import open_session, with_outputs
from emulator.graph.sixteen_bits import add_functions
from emulator.sensitivity.backward import StraightThrough, gradient_model
from emulator.sensitivity.qdq import to_qdq

MODELS = Path(__file__).parents[1] / "data" / "models"
RNG = np.random.default_rng(3)

S, Z = np.float32(0.03), np.uint8(120)  # of activations: -3.6 to 4.05
WIDE = {"ys": np.float32(0.5), "yz": np.uint8(128)}  # nothing is clipped


def bytes_of(*shape: int, kind: type[np.integer[Any]] = np.int8) -> np.ndarray:
    bounds = np.iinfo(kind)
    return RNG.integers(max(bounds.min, -128), min(bounds.max, 255) + 1, shape).astype(kind)


@dataclass(frozen=True, kw_only=True)
class Case:
    """integer: nodes from "q", the quantised x, to "r"; real: nodes from "x" to "y", which say the same."""

    shape: tuple[int, ...]
    integer: list[tuple[str, str, str, dict[str, Any]]]
    constants: dict[str, np.ndarray]
    real: list[tuple[str, str, str, dict[str, Any]]]
    reals: dict[str, np.ndarray] = field(default_factory=dict)
    returns_float: bool = False


def cases() -> Iterator[tuple[str, Case]]:
    ms = "com.microsoft."
    w, ws = bytes_of(5, 2, 3, 3), np.float32([0.01, 0.02, 0.03, 0.01, 0.02])
    bias = RNG.integers(-900, 900, 5).astype(np.int32)
    conv = {"pads": [1, 0, 1, 1], "strides": [1, 2]}
    yield (
        "QLinearConv",
        Case(
            shape=(2, 2, 5, 5),
            integer=[("QLinearConv", "q s z w ws wz ys yz b", "r", conv)],
            constants={"w": w, "ws": ws, "wz": np.zeros(5, np.int8), "b": bias, **WIDE},
            real=[("Conv", "x w b", "y", conv)],
            reals={"w": w * ws.reshape(-1, 1, 1, 1), "b": bias * S * ws},
        ),
    )
    u = bytes_of(6, 4, kind=np.uint8)
    yield (
        "QLinearMatMul",
        Case(
            shape=(3, 6),
            integer=[("QLinearMatMul", "q s z w ws wz ys yz", "r", {})],
            constants={"w": u, "ws": np.float32(0.02), "wz": np.uint8(99), **WIDE},
            real=[("MatMul", "x w", "y", {})],
            reals={"w": (u - np.float32(99)) * np.float32(0.02)},
        ),
    )
    yield (
        "QLinearMatMul of two computed operands",
        Case(
            shape=(2, 3, 6),
            integer=[
                ("Transpose", "q", "t", {"perm": [0, 2, 1]}),
                ("QLinearMatMul", "q s z t s z ys yz", "r", {}),
            ],
            constants=WIDE,
            real=[("Transpose", "x", "t", {"perm": [0, 2, 1]}), ("MatMul", "x t", "y", {})],
        ),
    )
    g, gs = bytes_of(4, 6), np.float32([0.01, 0.02, 0.03, 0.04])
    gemm_bias = RNG.integers(-900, 900, 4).astype(np.int32)
    yield (
        "QGemm",
        Case(
            shape=(3, 6),
            integer=[(f"{ms}QGemm", "q s z w ws wz b ys yz", "r", {"alpha": 0.7, "transB": 1})],
            constants={"w": g, "ws": gs, "wz": np.zeros(4, np.int8), "b": gemm_bias, **WIDE},
            real=[("Gemm", "x w b", "y", {"alpha": 0.7, "beta": 0.7, "transB": 1})],
            reals={"w": g * gs[:, None], "b": gemm_bias * S * gs},
        ),
    )
    yield (
        "QGemm that returns floats",
        Case(
            shape=(3, 6),
            integer=[(f"{ms}QGemm", "q s z w ws wz", "r", {"transB": 1})],
            constants={"w": g, "ws": np.float32(0.02), "wz": np.int8(7)},
            real=[("Gemm", "x w", "y", {"transB": 1})],
            reals={"w": (g - np.float32(7)) * np.float32(0.02)},
            returns_float=True,
        ),
    )
    other = {"w": bytes_of(3, 6, kind=np.uint8), "ws": np.float32(0.02), "wz": np.uint8(100), **WIDE}
    for op in ("Add", "Mul"):
        yield (
            f"QLinear{op}",
            Case(
                shape=(3, 6),
                integer=[(f"{ms}QLinear{op}", "q s z w ws wz ys yz", "r", {})],
                constants=other,
                real=[(op, "x w", "y", {})],
                reals={"w": (other["w"] - np.float32(100)) * np.float32(0.02)},
            ),
        )
    yield (
        "QLinearConcat",
        Case(
            shape=(3, 6),
            integer=[(f"{ms}QLinearConcat", "ys yz w ws wz q s z", "r", {"axis": 1})],
            constants=other,
            real=[("Concat", "w x", "y", {"axis": 1})],
            reals={"w": (other["w"] - np.float32(100)) * np.float32(0.02)},
        ),
    )
    chosen = RNG.random((3, 6)) < 0.5
    yield (
        "QLinearWhere",
        Case(
            shape=(3, 6),
            integer=[(f"{ms}QLinearWhere", "c q s z w ws wz ys yz", "r", {})],
            constants={**other, "c": chosen},
            real=[("Where", "c x w", "y", {})],
            reals={"c": chosen, "w": (other["w"] - np.float32(100)) * np.float32(0.02)},
        ),
    )
    narrow = {"ys": np.float32(0.02), "yz": np.uint8(40)}
    for op, attributes in (("Sigmoid", {}), ("LeakyRelu", {"alpha": 0.2}), ("Softmax", {"axis": 1})):
        more = {"opset": 18} if op == "Softmax" else {}
        yield (
            f"QLinear{op}",
            Case(
                shape=(3, 6),
                integer=[(f"{ms}QLinear{op}", "q s z ys yz", "r", attributes | more)],
                constants=WIDE if op == "LeakyRelu" else narrow,
                real=[(op, "x", "y", attributes)],
            ),
        )
    pool = {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [1, 0, 0, 1], "count_include_pad": 1}
    for op, attributes in (("AveragePool", pool), ("GlobalAveragePool", {})):
        yield (
            f"QLinear{op}",
            Case(
                shape=(2, 3, 5, 6),
                integer=[(f"{ms}QLinear{op}", "q s z ys yz", "r", attributes)],
                constants=WIDE,
                real=[(op, "x", "y", attributes)],
            ),
        )
    scaled = [
        ("Add", "a b", "t", {}),
        ("Cast", "t", "f", {"to": onnx.TensorProto.FLOAT}),
        ("Mul", "f unit", "r", {}),
    ]
    ci_bias = RNG.integers(-900, 900, (5, 1, 1)).astype(np.int32)
    unit = np.float32(S * np.float32(0.02))
    yield (
        "ConvInteger",
        Case(
            shape=(2, 2, 5, 5),
            integer=[("ConvInteger", "q w z wz", "a", conv), *scaled],
            constants={"w": w, "wz": np.int8(0), "b": ci_bias, "unit": unit},
            real=[("Conv", "x w", "c", conv), ("Add", "c b", "y", {})],
            reals={"w": w * np.float32(0.02), "b": ci_bias * unit},
            returns_float=True,
        ),
    )
    columns = np.uint8([90, 100, 110, 120])
    mi_bias = RNG.integers(-900, 900, 4).astype(np.int32)
    yield (
        "MatMulInteger with a zero point a column",
        Case(
            shape=(3, 6),
            integer=[("MatMulInteger", "q w z wz", "a", {}), *scaled],
            constants={"w": u, "wz": columns, "b": mi_bias, "unit": unit},
            real=[("MatMul", "x w", "c", {}), ("Add", "c b", "y", {})],
            reals={"w": (u - columns.astype(np.float32)) * np.float32(0.02), "b": mi_bias * unit},
            returns_float=True,
        ),
    )
    yield (
        "MatMulIntegerToFloat",
        Case(
            shape=(3, 6),
            integer=[(f"{ms}MatMulIntegerToFloat", "q w s ws z wz b", "r", {})],
            constants={
                "w": u,
                "wz": columns,
                "ws": np.float32([1, 2, 3, 4]) / 100,
                "b": np.float32([1, 2, 3, 4]),
            },
            real=[("MatMul", "x w", "c", {}), ("Add", "c b", "y", {})],
            reals={
                "w": (u - columns.astype(np.float32)) * np.float32([1, 2, 3, 4]) / 100,
                "b": np.float32([1, 2, 3, 4]),
            },
            returns_float=True,
        ),
    )
    yield (
        "accumulators that are dequantised",
        Case(
            shape=(3, 6),
            integer=[("MatMulInteger", "q w z wz", "a", {}), ("DequantizeLinear", "a unit", "r", {})],
            constants={"w": u, "wz": np.uint8(9), "unit": unit},
            real=[("MatMul", "x w", "y", {})],
            reals={"w": (u - np.float32(9)) * np.float32(0.02)},
            returns_float=True,
        ),
    )
    yield (
        "integers read as numbers",
        Case(
            shape=(3, 6),
            integer=[("Cast", "q", "f", {"to": onnx.TensorProto.FLOAT}), ("Mul", "f f", "r", {})],
            constants={},
            real=[("Div", "x step", "d", {}), ("Add", "d zero", "f", {}), ("Mul", "f f", "y", {})],
            reals={"step": np.asarray(S), "zero": np.float32(120)},
            returns_float=True,
        ),
    )


CASES = dict(cases())


@pytest.mark.parametrize("name", CASES)
def test_integer_operators_have_the_gradient_of_their_float_ones(name: str) -> None:
    case = CASES[name]
    constants = {"s": np.asarray(S), "z": np.asarray(Z), **case.constants}
    ending = [] if case.returns_float else [("DequantizeLinear", "r ys yz", "y", {})]
    nodes = [("QuantizeLinear", "x s z", "q", {}), *case.integer, *ending]
    if case.returns_float:
        *before, (op, reads, _, attributes) = nodes
        nodes = [*before, (op, reads, "y", attributes)]
    x = RNG.uniform(-3, 3, case.shape).astype(np.float32)
    rounded = (np.round(x / S) * S).astype(np.float32)
    model = network(nodes, {"x": x}, {k: np.asarray(v) for k, v in constants.items()}, np.float32)
    real = network(case.real, {"x": x}, case.reals, np.float32)
    (y,) = run_ort(model, {"x": x})
    seed = RNG.standard_normal(y.shape).astype(np.float32)
    expected_y, expected = run_ort(gradient_model(real, ["x"], loss="seed"), {"x": rounded, "seed": seed})
    ready = gradient_model(model, ["x", "q"], loss="seed")
    found_y, found, of_q = run_ort(ready, {"x": x, "seed": seed})
    step = 1e-4 if case.returns_float else float(constants["ys"])
    assert np.abs(found_y - y).max() <= step * 1.01 + 1e-3 * case.returns_float
    assert np.abs(expected_y - y).max() <= 0.51 * step + 1e-3 * np.abs(y).max()
    # Softmax's gradient reads its rounded answer.
    rough = 0.05 if name in ("QLinearSoftmax", "QLinearSigmoid") else 1e-4
    assert np.allclose(found, expected, rtol=rough, atol=rough * np.abs(expected).max())
    assert np.allclose(of_q, found, rtol=1e-5)


@pytest.mark.parametrize("op", ["MatMulInteger16", "ConvInteger16"])
def test_products_of_16_bit_activations(op: str) -> None:
    conv = op.startswith("Conv")
    w = bytes_of(4, 2, 3, 3) if conv else bytes_of(6, 4)
    x = RNG.uniform(-3, 3, (2, 2, 5, 5) if conv else (3, 6)).astype(np.float32)
    attributes = {"pads": [1, 1, 1, 1]} if conv else {}
    constants = {
        "s": np.asarray(np.float32(1e-4)),
        "z": np.asarray(np.int16(500)),
        "w": w,
        "wz": np.asarray(np.int8(0)),
    }
    nodes = [
        ("QuantizeLinear", "x s z", "q", {}),
        (f"emulator.{op}", "q w z wz", "a", attributes),
        ("Cast", "a", "f", {"to": onnx.TensorProto.FLOAT}),
        ("Mul", "f s", "y", {}),
    ]
    plain = network(nodes, {"x": x}, constants, np.float32, opset=21)
    plain.opset_import.append(onnx.helper.make_opsetid("emulator", 1))
    made = ir.serde.from_proto(plain)
    add_functions(made)
    model = ir.serde.to_proto(made)
    (y,) = run_ort(model, {"x": x})
    real = network(
        [("Conv" if conv else "MatMul", "x w", "y", attributes)],
        {"x": x},
        {"w": w.astype(np.float32)},
        np.float32,
    )
    seed = RNG.standard_normal(y.shape).astype(np.float32)
    _, expected = run_ort(gradient_model(real, ["x"], loss="seed"), {"x": x, "seed": seed})
    found_y, found = run_ort(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": seed})
    assert np.allclose(found_y, y, rtol=1e-4, atol=1e-2) and np.allclose(
        found, expected, rtol=1e-4, atol=1e-2
    )


@pytest.mark.parametrize("zero_point", [np.uint8(100), np.uint8([90, 100, 110, 120])], ids=["one", "each"])
def test_a_product_that_quantises_its_operand_itself(zero_point: np.ndarray) -> None:
    """DynamicQuantizeMatMul: the scale that follows the values counts as a constant."""
    w, scale = bytes_of(6, 4, kind=np.uint8), np.full(np.shape(zero_point), 0.02, np.float32)
    constants = {"w": w, "ws": scale, "wz": np.asarray(zero_point), "b": np.float32([1, 2, 3, 4])}
    x, seed = RNG.uniform(-3, 3, (3, 6)).astype(np.float32), RNG.standard_normal((3, 4)).astype(np.float32)
    nodes = [("com.microsoft.DynamicQuantizeMatMul", "x w ws wz b", "y", {})]
    model = network(nodes, {"x": x}, constants, np.float32)
    (y,) = run_ort(model, {"x": x})
    found_y, found = run_ort(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": seed})
    real = (w - np.asarray(zero_point, np.float32)) * np.float32(0.02)
    assert np.allclose(found_y, y, atol=1e-4) and np.allclose(found, seed @ real.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
def test_quantisers_of_onnxruntime_are_the_standard_ones(kind: Any) -> None:
    """com.microsoft had 16 bits before opset 21."""
    constants = {"s": np.asarray(np.float32(0.001)), "z": np.asarray(kind(300)), "w": np.float32([2, 3])}
    nodes = [
        ("com.microsoft.QuantizeLinear", "x s z", "q", {}),
        ("com.microsoft.DequantizeLinear", "q s z", "d", {}),
        ("Mul", "d w", "y", {}),
    ]
    x, seed = np.float32([[0.5, -90], [1.2, 3]]), np.float32([[1, 2], [3, 4]])
    model = network(nodes, {"x": x}, constants, np.float32)
    y, grad = run_ort(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": seed})
    assert np.array_equal(y, run_ort(model, {"x": x})[0])
    assert np.allclose(grad, seed * np.float32([2, 3]) * [[1, 0], [1, 1]])


def test_channels_last_operators_are_refused_by_name() -> None:
    constants = {"s": np.asarray(S), "z": np.asarray(Z), **WIDE}
    nodes = [
        ("QuantizeLinear", "x s z", "q", {}),
        ("com.microsoft.QLinearGlobalAveragePool", "q s z ys yz", "r", {"channels_last": 1}),
        ("DequantizeLinear", "r ys yz", "y", {}),
    ]
    x = np.zeros((1, 4, 4, 2), np.float32)
    model = network(nodes, {"x": x}, {k: np.asarray(v) for k, v in constants.items()}, np.float32)
    with pytest.raises(UnsupportedModel, match=r"QLinearGlobalAveragePool .* channels last"):
        gradient_model(model, ["x"], loss="seed")


# -- models of several exporters


def zoo() -> list[str]:
    return sorted(path.stem for path in MODELS.glob("*.onnx"))


CONTROL_FLOW = {"if_qdq_s8s8": "If", "loop_qdq_s8s8": "Loop"}
FLOAT_ONLY = {name for name in zoo() if name.endswith("_float") or name.startswith("weight_only")}
QUANTISED = [name for name in zoo() if name not in FLOAT_ONLY]


def feeds_of(net: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Digits where the model knows them, else noise."""
    digits, rng = np.load(MODELS / "inputs.npz"), np.random.default_rng(seed)
    feeds = {}
    for spec in net.graph.inputs:
        if spec.name in digits and digits[spec.name].shape[1:] == spec.shape[1:]:
            feeds[spec.name] = digits[spec.name][:1]
        elif np.dtype(spec.dtype).kind == "f":
            feeds[spec.name] = rng.random(spec.shape, np.float32)
        else:
            feeds[spec.name] = rng.integers(0, 255, spec.shape).astype(spec.dtype)
    return feeds


def activations(net: Network) -> list[str]:
    """The integer activations the model produces on the way to its answer."""
    nodes = net.reference.graph.node
    above = {net.graph.output_name}
    for node in reversed(nodes):
        if above & set(node.output):
            above |= set(node.input)
    made = {name for node in nodes for name in node.output} & above
    wide = [n.output[0] for n in nodes if n.op_type == "QuantizeLinear" and n.output[0] in made]
    return list(
        dict.fromkeys([t.name for t in net.graph.tensors if t.constant is None and t.name in made] + wide)
    )


@pytest.mark.parametrize("name", QUANTISED)
def test_the_qdq_form_computes_what_the_model_does(name: str) -> None:
    """Bit for bit with few exceptions: ONNX Runtime's integer pools and Softmax may round 1 LSB otherwise, and what
    follows them with them."""
    net = load(MODELS / f"{name}.onnx")
    names, feeds = activations(net), feeds_of(net)
    both = [
        open_session(with_outputs(model, names)).run(names, feeds)
        for model in (net.reference, to_qdq(net.reference))
    ]
    assert names
    for tensor, ours, theirs in zip(names, *both, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert np.abs(ours.astype(int) - theirs.astype(int)).mean() < 1.5, tensor


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("name", [name for name in QUANTISED if name not in CONTROL_FLOW])
def test_every_integer_activation_has_a_gradient(name: str, kind: Any) -> None:
    net = load(MODELS / f"{name}.onnx")
    names = activations(net)
    way = StraightThrough(kind=kind, width_lsb=4.0)
    model = gradient_model(
        net.reference, names, loss="seed", output=net.graph.output_name, straight_through=way
    )
    outputs = [f"grad:{tensor}" for tensor in names]
    session = open_session(with_outputs(model, outputs), optimised=True)
    shape = next(source.shape for source in session.get_inputs() if source.name == "seed")
    seed = np.random.default_rng(1).standard_normal([size if isinstance(size, int) else 1 for size in shape])
    found = session.run(outputs, {**feeds_of(net), "seed": seed.astype(np.float32)})
    silent = [tensor for tensor, grad in zip(names, found, strict=True) if not grad.any()]
    assert all(np.isfinite(grad).all() for grad in found)
    # The first forget gate of an LSTM multiplies a state of zeros.
    assert len(silent) == (2 if name == "lstm_qdq_s8s8" else 0), silent


@pytest.mark.parametrize("name", sorted(name for name in FLOAT_ONLY if name.startswith("weight_only")))
def test_weights_of_8_or_4_bits_alone_are_read(name: str) -> None:
    """Per tensor, per channel or in blocks: what ONNX Runtime computes is linear, and the gradient is its matrix."""
    model = onnx.load(MODELS / f"{name}.onnx")
    (source, *_), (answer, *_) = model.graph.input, model.graph.output
    size = source.type.tensor_type.shape.dim[-1].dim_value
    unit = np.eye(size, dtype=np.float32)
    rows = open_session(model)
    (zero,) = rows.run(None, {source.name: np.zeros((1, size), np.float32)})
    matrix = np.concatenate([rows.run(None, {source.name: unit[i : i + 1]})[0] - zero for i in range(size)])
    seed = np.random.default_rng(0).standard_normal((1, matrix.shape[1])).astype(np.float32)
    ready = open_session(gradient_model(model, [source.name], loss="seed", output=answer.name))
    (found,) = ready.run([f"grad:{source.name}"], {source.name: unit[:1], "seed": seed})
    assert np.allclose(found, seed @ matrix.T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CONTROL_FLOW)
def test_control_flow_is_refused_by_name(name: str) -> None:
    net = load(MODELS / f"{name}.onnx")
    with pytest.raises(UnsupportedModel, match=rf"no gradient rule for {CONTROL_FLOW[name]} \(node"):
        gradient_model(net.reference, activations(net), loss="seed")


FAMILIES = {
    "torch_transformer": "image",
    "torch_mobilenet": "image",
    "sklearn_mlp": "features",
    "keras_cnn": "pixels",
}


@pytest.mark.parametrize("name", [n for n in QUANTISED if n.startswith(tuple(FAMILIES)) or n == "int4_qdq"])
def test_the_input_gradient_points_where_that_of_the_float_model_does(name: str) -> None:
    family = next((family for family in FAMILIES if name.startswith(family)), "torch_transformer")
    source = FAMILIES[family]
    digits = np.load(MODELS / "inputs.npz")[source]
    exact, rounded = onnx.load(MODELS / f"{family}_float.onnx"), load(MODELS / f"{name}.onnx")
    output = rounded.graph.output_name
    ready = []
    for model, answer in ((exact, exact.graph.output[-1].name), (rounded.reference, output)):
        ready.append(open_session(gradient_model(model, [source], loss="seed", output=answer)))
    alike = []
    for digit in range(12):
        seed = np.random.default_rng(digit).standard_normal((1, 10)).astype(np.float32)
        a, b = (
            s.run([f"grad:{source}"], {source: digits[digit : digit + 1], "seed": seed})[0] for s in ready
        )
        alike.append(float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))))
    assert np.median(alike) > 0.9, alike
