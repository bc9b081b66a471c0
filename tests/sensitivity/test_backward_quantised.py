"""Quantised (QDQ) models: the straight-through estimator, integer tensors, and an untouched forward part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from emulator.errors import BadConfig, UnsupportedModel
from emulator.sensitivity.backward import StraightThrough, gradient_model

LEVELS = [
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
]
FASHION = Path(__file__).parents[2] / "models" / "fashion_mnist"
Nodes = list[onnx.NodeProto]


def build(nodes: Nodes, weights: dict[str, np.ndarray], shape: list[int | str]) -> onnx.ModelProto:
    """A model from float "x" to the float output of the last node."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def node(op_type: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], name=f"n_{output}", **attributes)


def session(model: onnx.ModelProto, level: ort.GraphOptimizationLevel = LEVELS[-1]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = level
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    ready = session(model)
    return dict(zip([o.name for o in ready.get_outputs()], ready.run(None, feeds), strict=True))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def quantised_tensors(model: onnx.ModelProto) -> list[str]:
    return [n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]


# -- one QuantizeLinear


def clipper(zero_point: np.generic, scale: float = 0.1) -> onnx.ModelProto:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    return build(nodes, {"s": np.float32(scale), "z": zero_point}, ["N"])


@pytest.mark.parametrize("zero_point", [np.int8(-128), np.int8(5), np.uint8(0), np.uint8(130)], ids=repr)
def test_hard_clip_passes_what_rounds_into_the_range(zero_point: np.generic) -> None:
    bounds = np.iinfo(zero_point.dtype)
    u = np.float32([bounds.min - 30, bounds.min - 0.6, bounds.min - 0.4, bounds.min, 3, bounds.max + 0.4])
    u = np.append(u, np.float32([bounds.max + 0.6, bounds.max + 99]))
    x = (u - np.float32(zero_point)) * np.float32(0.1)
    found = run(gradient_model(clipper(zero_point), ["x", "q"], loss="seed"), x=x, seed=normal(8))
    assert np.array_equal(found["grad:x"], normal(8) * [0, 0, 1, 1, 1, 1, 0, 0])
    assert np.array_equal(found["grad:q"], normal(8))


@pytest.mark.parametrize("width", [0.5, 4.0])
def test_soft_clip_follows_its_formula(width: float) -> None:
    u = np.linspace(-200, 200, 81)
    x = ((u - 5) * 0.1).astype(np.float32)
    soft = StraightThrough(kind="soft", width_lsb=width)
    model = gradient_model(clipper(np.int8(5)), ["x"], loss="seed", straight_through=soft)
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    expected = sigmoid((u + 128.5) / width) * sigmoid((127.5 - u) / width)
    assert np.allclose(run(model, x=x, seed=np.ones_like(x))["grad:x"], expected, atol=1e-4)


def test_straight_through_is_checked_and_round_trips() -> None:
    soft = StraightThrough(kind="soft", width_lsb=2.5)
    assert eval(repr(soft)) == soft
    with pytest.raises(BadConfig, match="use 'hard' or 'soft'"):
        StraightThrough(kind="softer")
    with pytest.raises(BadConfig, match="above 0"):
        StraightThrough(width_lsb=0.0)


def test_per_channel_quantisation_of_an_activation() -> None:
    nodes = [node("QuantizeLinear", "x s z", "q", axis=1), node("DequantizeLinear", "q s z", "y", axis=1)]
    scale, zero = np.float32([0.01, 1.0]), np.int8([0, -100])
    model = gradient_model(build(nodes, {"s": scale, "z": zero}, ["N", 2, 1]), ["x"], loss="seed")
    x = np.float32([[1.2, 250.0], [1.3, -27.0], [-1.2, -29.0]])[..., None]
    assert np.array_equal(
        run(model, x=x, seed=np.ones_like(x))["grad:x"][..., 0], [[1, 0], [0, 1], [1, 0]]
    )  # channel 0: -1.285..1.275; channel 1: -28.5..227.5


# -- small nets by hand


def two_readers() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """x -> Q/DQ -> Gemm (ReLU in the clip) -> Q, read by two DequantizeLinear: y = dq @ w2 + dq * v."""
    weights: dict[str, np.ndarray] = {
        "xs": np.float32(0.02), "xz": np.int8(3), "hs": np.float32(0.03), "hz": np.int8(-128),
        "w1": np.random.default_rng(1).integers(-127, 128, (6, 5)).astype(np.int8),
        "ws": np.float32([0.01, 0.02, 0.015, 0.01, 0.02]), "wz": np.zeros(5, np.int8),
        "w2": normal(5, 5, seed=2), "v": normal(5, seed=3),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", "x xs xz", "xq"),
        node("DequantizeLinear", "xq xs xz", "xd"),
        node("DequantizeLinear", "w1 ws wz", "wd", axis=1),
        node("Gemm", "xd wd", "g"),
        node("QuantizeLinear", "g hs hz", "hq"),
        node("DequantizeLinear", "hq hs hz", "h1"),
        node("DequantizeLinear", "hq hs hz", "h2"),
        node("MatMul", "h1 w2", "a"),
        node("Mul", "h2 v", "b"),
        node("Add", "a b", "y"),
    ]
    return build(nodes, weights, ["N", 6]), weights


def test_hard_gradients_equal_an_independent_numpy_computation() -> None:
    model, w = two_readers()
    x, seed = 2 * normal(40, 6), normal(40, 5, seed=4)
    names = ["x", "xq", "xd", "g", "hq", "h1", "h2", "w1"]
    found = run(gradient_model(model, names, loss="seed"), x=x, seed=seed)

    xu = np.round(x / w["xs"]) + 3
    xd = (np.clip(xu, -128, 127) - 3) * w["xs"]
    wd = w["w1"] * w["ws"]
    hu = np.round(xd @ wd / w["hs"]) - 128
    hd = (np.clip(hu, -128, 127) + 128) * w["hs"]
    assert np.allclose(found["y"], hd @ w["w2"] + hd * w["v"], atol=1e-4)

    inside_h, inside_x = (hu >= -128) & (hu <= 127), (xu >= -128) & (xu <= 127)
    assert 0.2 < inside_h.mean() < 0.8 and 0.5 < inside_x.mean() < 1
    h1, h2 = seed @ w["w2"].T, seed * w["v"]
    of_g = (h1 + h2) * inside_h
    of_xd = of_g @ wd.T
    expected = {"h1": h1, "h2": h2, "hq": h1 + h2, "g": of_g, "xd": of_xd, "xq": of_xd}
    expected |= {"x": of_xd * inside_x, "w1": xd.T @ of_g}
    for name, value in expected.items():
        assert np.allclose(found[f"grad:{name}"], value, rtol=1e-4, atol=1e-4), name


def test_integer_logits_and_their_loss_are_in_real_units() -> None:
    model, weights = two_readers()
    del model.graph.node[5:], model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("hq", TensorProto.INT8, ["N", 5]))
    x, label = normal(40, 6), np.arange(40) % 5
    found = run(gradient_model(model, ["hq", "x"], loss="margin"), x=x, label=label)
    real = (found["hq"].astype(np.float32) + 128) * weights["hs"]
    others = real.copy()
    others[np.arange(40), label] = -np.inf
    assert np.isclose(found["loss"], (real[np.arange(40), label] - others.max(axis=1)).sum(), rtol=1e-4)
    assert (found["grad:hq"][np.arange(40), label] == 1).all() and found["grad:x"].any()


def test_operators_that_move_values_work_on_integers() -> None:
    """Q -> MaxPool, Transpose, Slice, Concat, Reshape on int8 -> DQ is the same as all of them on floats."""
    weights: dict[str, np.ndarray] = {
        "s": np.float32(0.05), "z": np.int8(-20), "fc": normal(18, 3, seed=1),
        "b": np.array([0]), "e": np.array([1]), "axis": np.array([3]), "r": np.array([0, -1]),
    }  # fmt: skip

    def moved(source: str, target: str) -> Nodes:
        return [
            node("MaxPool", source, "p", kernel_shape=[2, 2]),
            node("Transpose", "p", "t", perm=[0, 3, 2, 1]),
            node("Slice", "t b e axis", "t2"),
            node("Concat", "t2 t", "c", axis=3),
            node("Reshape", "c r", target),
        ]

    quantise, dequantise = node("QuantizeLinear", "x s z", "q"), "DequantizeLinear"
    integer = [quantise, *moved("q", "iq"), node(dequantise, "iq s z", "d"), node("MatMul", "d fc", "y")]
    real = [quantise, node(dequantise, "q s z", "d"), *moved("d", "iq"), node("MatMul", "iq fc", "y")]
    x, seed = 2 * normal(2, 1, 4, 4), normal(2, 3, seed=2)
    results = [
        run(
            gradient_model(build(nodes, weights, ["N", 1, 4, 4]), ["x", "q", "t"], loss="seed"),
            x=x,
            seed=seed,
        )
        for nodes in (integer, real)
    ]
    for name in ("y", "grad:x", "grad:q", "grad:t"):
        assert results[0][name].dtype == np.float32
        assert np.allclose(results[0][name], results[1][name], atol=1e-5), name


def test_integers_read_with_another_scale_and_zero_point() -> None:
    """q = x / s + z means (q - z2) * s2 to the reader: the slope from x is s2 / s; hq keeps its own units."""
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s2 z2", "d"),
        node("Mul", "d d", "y"),
    ]
    weights = {"s": np.float32(0.1), "s2": np.float32(0.2), "z": np.int8(3), "z2": np.int8(-5)}
    x, seed = normal(8), normal(8, seed=1)
    found = run(gradient_model(build(nodes, weights, [8]), ["x", "q"], loss="seed"), x=x, seed=seed)
    d = (np.round(x / np.float32(0.1)) + 8) * 0.2
    assert np.allclose(found["y"], d * d, atol=1e-4)
    for name in ("grad:x", "grad:q"):
        assert np.allclose(found[name], seed * 2 * d * 2, rtol=1e-4, atol=1e-5)


def test_a_scale_computed_at_run_time_has_a_derivative_of_its_own() -> None:
    """y = round(x / s) * s with s = mean(x): d y / d x passes the rounding, d y / d s is what the rounding left."""
    nodes = [
        node("ReduceMean", "x", "s", keepdims=0),
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "y"),
    ]
    x, seed = np.float32([1, 2.4, 3, 9.3]), np.float32([1, -2, 0.5, 1])
    found = run(gradient_model(build(nodes, {"z": np.int8(0)}, [4]), ["x"], loss="seed"), x=x, seed=seed)
    rest = np.round(x / x.mean()) - x / x.mean()
    assert np.allclose(found["grad:x"], seed + (seed * rest).sum() / 4, atol=1e-5)


def test_dynamic_quantisation_passes_the_gradient_and_takes_its_scale_as_constant() -> None:
    """Its integers count from their zero point, in LSB, as their scale is known at run time only."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", "q w z wz", "a"),
        node("Cast", "a", "f", to=TensorProto.FLOAT),
        node("Mul", "s ws", "unit"),
        node("Mul", "f unit", "y"),
    ]
    w = np.random.default_rng(0).integers(-127, 128, (6, 4)).astype(np.int8)
    weights = {"w": w, "wz": np.int8(5), "ws": np.float32(0.02)}
    x, seed = 3 * normal(7, 6), normal(7, 4, seed=1)
    found = run(gradient_model(build(nodes, weights, ["N", 6]), ["x", "q"], loss="seed"), x=x, seed=seed)
    real = seed @ ((w - 5.0) * 0.02).T
    scale = (max(x.max(), 0) - min(x.min(), 0)) / 255
    assert np.allclose(found["grad:x"], real, rtol=1e-4, atol=1e-5)
    assert np.allclose(found["grad:q"], real * scale, rtol=1e-4, atol=1e-6)


# -- integers that are selected: compared, filled in, joined


def selected(*nodes: onnx.NodeProto, **extra: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes of x, integers out, gradient at x) of q = quantised x, then `nodes` from q to r, then dequantised."""
    weights = {"s": np.float32(0.1), "z": np.int8(-20), **extra}
    chain = [node("QuantizeLinear", "x s z", "q"), *nodes, node("DequantizeLinear", "r s z", "y")]
    model = build(chain, weights, [2, 6])
    x = (np.arange(12).reshape(2, 6) * 0.7 - 1.9).astype(np.float32)
    (y,) = session(model, LEVELS[0]).run(None, {"x": x})
    seed = normal(*y.shape)
    for straight_through in (StraightThrough(), StraightThrough(kind="soft", width_lsb=0.01)):
        ready = gradient_model(model, ["x"], loss="seed", straight_through=straight_through)
        found = run(ready, x=x, seed=seed)
        assert np.array_equal(found["y"], y)
    return (
        np.round(x / np.float32(0.1)) - 20,
        np.round(y / 0.1) - 20,
        found["grad:x"] / np.where(seed == 0, 1, seed) if (seed.shape == x.shape) else found["grad:x"],
    )


def test_relu_of_integers_compares_with_the_integer_0() -> None:
    codes, out, slope = selected(node("Relu", "q", "r"))
    assert np.array_equal(out, np.maximum(codes, 0)) and 0 < (codes > 0).sum() < codes.size
    assert np.allclose(slope, codes > 0)


def test_clip_of_integers_has_integer_bounds() -> None:
    codes, out, slope = selected(node("Clip", "q low high", "r"), low=np.int8(-25), high=np.int8(20))
    assert np.array_equal(out, np.clip(codes, -25, 20))
    assert np.allclose(slope, (codes > -25) & (codes < 20))


def test_max_of_integers_with_a_constant() -> None:
    codes, out, slope = selected(node("Max", "q c", "r"), c=np.full((1, 6), -3, np.int8))
    assert np.array_equal(out, np.maximum(codes, -3)) and np.allclose(slope, codes > -3)


@pytest.mark.parametrize("fill", [None, 7])
def test_pad_of_integers_fills_in_an_integer(fill: int | None) -> None:
    pads = {"p": np.array([0, 1, 0, 2])} | ({} if fill is None else {"f": np.int8(fill)})
    codes, out, gradient = selected(node("Pad", "q p" if fill is None else "q p f", "r"), **pads)
    assert np.array_equal(out, np.pad(codes, ((0, 0), (1, 2)), constant_values=fill or 0))
    assert np.allclose(gradient, normal(2, 9)[:, 1:7])


def test_concat_of_integers_with_a_constant() -> None:
    codes, out, gradient = selected(node("Concat", "c q", "r", axis=1), c=np.full((2, 2), 9, np.int8))
    assert np.array_equal(out, np.concatenate([np.full((2, 2), 9), codes], axis=1))
    assert np.allclose(gradient, normal(2, 8)[:, 2:])


def test_requantising_with_the_same_grid_masks_nothing_twice() -> None:
    """A saturated value keeps its soft mask of about 1 / 2 through a movement, not its square."""
    weights = {"s": np.float32(0.1), "z": np.int8(0)}
    chain = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d")]
    chain += [
        node("Transpose", "d", "t"),
        node("QuantizeLinear", "t s z", "q2"),
        node("DequantizeLinear", "q2 s z", "y"),
    ]
    soft = StraightThrough(kind="soft", width_lsb=4.0)
    model = gradient_model(build(chain, weights, [1, 2]), ["x", "q"], loss="seed", straight_through=soft)
    found = run(model, x=np.float32([[12.75, 0]]), seed=np.ones((2, 1), np.float32))
    assert np.allclose(found["grad:x"], [[0.5, 1]], atol=1e-3) and (found["grad:q"] == 1).all()


def test_arithmetic_on_integers_is_refused() -> None:
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("Add", "q q", "r"),
        node("DequantizeLinear", "r s z", "y"),
    ]
    model = build(nodes, {"s": np.float32(0.1), "z": np.int8(0)}, [4])
    with pytest.raises(UnsupportedModel, match=r"Add \(node 'n_r'\) on integers"):
        gradient_model(model, ["x"], loss="seed")


# -- a network quantised by ONNX Runtime


def float_cnn() -> onnx.ModelProto:
    weights: dict[str, np.ndarray] = {
        "w1": normal(6, 2, 3, 3, seed=1) / 3, "b1": normal(6, seed=2) / 5,
        "w2": normal(6, 6, 3, 3, seed=3) / 6, "b2": normal(6, seed=4) / 5,
        "w3": normal(8, 6, 3, 3, seed=5) / 5, "b3": normal(8, seed=6) / 5,
        "fc": normal(72, 5, seed=7) / 4, "fb": normal(5, seed=8),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 w2 b2", "c2", pads=[1, 1, 1, 1]),
        node("Add", "c2 r1", "a"),
        node("Relu", "a", "r2"),
        node("MaxPool", "r2", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "m w3 b3", "c3", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", "c3", "r3"),
        node("Flatten", "r3", "f"),
        node("Gemm", "f fc fb", "logits"),
    ]
    return build(nodes, weights, ["N", 2, 12, 12])


class Calibration(CalibrationDataReader):
    def __init__(self) -> None:
        self._batches: Iterator[dict[str, np.ndarray]] = (
            {"x": normal(16, 2, 12, 12, seed=s)} for s in (1, 2)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


@pytest.fixture(scope="module", params=["int8", "uint8"])
def quantised_cnn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> onnx.ModelProto:
    folder = tmp_path_factory.mktemp("qdq")
    onnx.save(float_cnn(), folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        Calibration(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8 if request.param == "int8" else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return onnx.load(folder / "int8.onnx")


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
@pytest.mark.parametrize("loss", ["margin", "seed"])
def test_forward_values_are_bit_for_bit_those_of_the_model(
    quantised_cnn: onnx.ModelProto, level: ort.GraphOptimizationLevel, loss: str
) -> None:
    x = normal(32, 2, 12, 12, seed=9)
    (expected,) = session(quantised_cnn, level).run(None, {"x": x})
    model = gradient_model(quantised_cnn, quantised_tensors(quantised_cnn), loss=loss)
    extra = {"seed": np.ones((32, 5), np.float32)} if loss == "seed" else {"label": np.zeros(32, np.int64)}
    assert np.array_equal(session(model, level).run(["logits"], {"x": x, **extra})[0], expected)


def test_gradients_of_quantised_tensors_are_those_of_the_float_network(
    quantised_cnn: onnx.ModelProto,
) -> None:
    """Not equal, as masks and weights are rounded, but the same direction; and the same at every level."""
    pairs = {"x": "x_QuantizeLinear_Output", "r1": "r1_QuantizeLinear_Output", "m": "m_QuantizeLinear_Output"}
    x, seed = normal(8, 2, 12, 12, seed=9), normal(8, 5, seed=10)
    real = run(gradient_model(float_cnn(), list(pairs), loss="seed"), x=x, seed=seed)
    model = gradient_model(quantised_cnn, list(pairs.values()), loss="seed")
    rounded = run(model, x=x, seed=seed)
    plain = session(model, LEVELS[0]).run([f"grad:{name}" for name in pairs.values()], {"x": x, "seed": seed})
    for (name, quantised), unoptimised in zip(pairs.items(), plain, strict=True):
        a, b = real[f"grad:{name}"], rounded[f"grad:{quantised}"]
        assert a.shape == b.shape
        assert (a * b).sum() > 0.95 * np.linalg.norm(a) * np.linalg.norm(b), name
        assert np.allclose(b, unoptimised, atol=1e-4)


def test_soft_clip_keeps_saturated_units_alive(quantised_cnn: onnx.ModelProto) -> None:
    x, seed = normal(8, 2, 12, 12, seed=9), normal(8, 5, seed=10)
    (name,) = (n.output[0] for n in quantised_cnn.graph.node if n.name == "n_c3")
    models = [
        gradient_model(quantised_cnn, [name], loss="seed", straight_through=way)
        for way in (StraightThrough(), StraightThrough(kind="soft", width_lsb=8.0))
    ]
    found = [run(model, x=x, seed=seed)[f"grad:{name}"] for model in models]
    dead = found[0] == 0
    assert 0.1 < dead.mean() < 0.9
    assert np.abs(found[1][dead]).max() > 0.01 * np.abs(found[0]).max()


def test_every_quantised_tensor_of_the_fashion_model_has_a_gradient() -> None:
    model = onnx.load(FASHION / "fashion_cnn_int8.onnx")
    names = quantised_tensors(model)
    source = model.graph.input[0]
    shape = [4, *(d.dim_value for d in source.type.tensor_type.shape.dim[1:])]
    x = np.random.default_rng(0).random(shape, np.float32)
    (expected,) = session(model).run(None, {source.name: x})
    found = run(
        gradient_model(model, names, loss="seed"), **{source.name: x, "seed": normal(*expected.shape)}
    )
    assert np.array_equal(next(iter(found.values())), expected)
    for name in names:
        assert np.isfinite(found[f"grad:{name}"]).all() and found[f"grad:{name}"].any(), name
