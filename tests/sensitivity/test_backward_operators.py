"""Every gradient rule against directional finite differences in float64, over random geometry.

Both models run in onnx's reference evaluator, as ONNX Runtime has no float64 convolution; where that is wrong
itself (Indices of a padded MaxPool) in ONNX Runtime. Then float32 in ONNX Runtime against float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from emulator.sensitivity.backward import gradient_model

FEW = settings(max_examples=12, deadline=None, derandomize=True, database=None)
MORE = settings(max_examples=40, deadline=None, derandomize=True, database=None)
Arrays = dict[str, np.ndarray]


def one_node(
    op_type: str, inputs: Arrays, constants: Arrays, attributes: dict[str, Any], dtype: type[np.floating[Any]]
) -> onnx.ModelProto:
    """A model of one node; the float inputs and constants in `dtype`."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    cast = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in constants.items()}
    graph = helper.make_graph(
        [helper.make_node(op_type, [*inputs, *constants], ["y"], name="node", **attributes)],
        "one_node",
        [helper.make_tensor_value_info(name, kind, value.shape) for name, value in inputs.items()],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in cast.items() if name],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run_ort(model: onnx.ModelProto, feeds: Arrays) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def run_reference(model: onnx.ModelProto, feeds: Arrays) -> list[np.ndarray]:
    return list(ReferenceEvaluator(model, new_ops=[ConvTranspose]).run(None, feeds))


class ConvTranspose(OpRun):
    """By the definition, one kernel tap at a time; the reference evaluator's own is wrong for groups."""

    op_domain = ""

    def _run(self, x: np.ndarray, w: np.ndarray, **attributes: Any) -> tuple[np.ndarray]:
        strides, dilations, pads = (attributes[name] for name in ("strides", "dilations", "pads"))
        group, axes = attributes["group"], w.ndim - 2
        spans = zip(x.shape[2:], w.shape[2:], strides, dilations, attributes["output_padding"], strict=True)
        full = [s * (size - 1) + d * (k - 1) + 1 + extra for size, k, s, d, extra in spans]
        y = np.zeros((len(x), group, w.shape[1], *full))
        parts = x.reshape(len(x), group, -1, *x.shape[2:])
        for tap in np.ndindex(*w.shape[2:]):
            weight = w[(..., *tap)].reshape(group, -1, w.shape[1])
            places = zip(tap, dilations, strides, x.shape[2:], strict=True)
            at = [slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in places]
            y[(..., *at)] += np.einsum("ngc...,gco->ngo...", parts, weight)
        kept = [slice(pads[axis], full[axis] - pads[axes + axis]) for axis in range(axes)]
        return (y.reshape(len(x), -1, *full)[(..., *kept)],)


def check(
    op_type: str, inputs: Arrays, constants: Arrays | None = None, *, in_ort: bool = False, **attributes: Any
) -> None:
    """The gradients of one node with respect to all its inputs, in a random direction."""
    constants = constants or {}
    rng = np.random.default_rng(7)
    run = run_ort if in_ort else run_reference
    exact = one_node(op_type, inputs, constants, attributes, np.float64)
    (y,) = run(exact, inputs)
    seed = rng.standard_normal(y.shape)
    double = gradient_model(exact, list(inputs), loss="seed")
    same, *gradients = run(double, {**inputs, "seed": seed})
    assert np.array_equal(same, y)

    way = {name: rng.standard_normal(value.shape) for name, value in inputs.items()}
    step = 1e-6
    ahead, behind = (
        (run(exact, {k: v + sign * step * way[k] for k, v in inputs.items()})[0] * seed).sum()
        for sign in (1, -1)
    )
    expected = (ahead - behind) / (2 * step)
    found = sum((grad * way[name]).sum() for name, grad in zip(inputs, gradients, strict=True))
    scale = sum(np.abs(grad * way[name]).sum() for name, grad in zip(inputs, gradients, strict=True))
    assert abs(found - expected) <= 1e-7 * scale + 1e-7

    single = gradient_model(
        one_node(op_type, inputs, constants, attributes, np.float32), list(inputs), loss="seed"
    )
    feeds = {name: np.asarray(value, np.float32) for name, value in {**inputs, "seed": seed}.items()}
    for name, rough, fine in zip(inputs, run_ort(single, feeds)[1:], gradients, strict=True):
        assert rough.shape == inputs[name].shape
        assert np.allclose(rough, fine, rtol=1e-4, atol=1e-4 * max(1, np.abs(fine).max(initial=0)))


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Distinct values, well apart: no ties and no kinks within a finite-difference step."""
    count = int(np.prod(shape))
    return (
        (np.random.default_rng(seed).permutation(count).reshape(shape) - count / 2 + 0.3)
        * 4.1
        / max(count, 1)
    )


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@FEW
@given(
    shapes, st.sampled_from(["Relu", "LeakyRelu", "Sigmoid", "HardSwish", "HardSigmoid", "Identity", "Clip"])
)
def test_elementwise(shape: list[int], op_type: str) -> None:
    check(op_type, {"x": random(*shape)})


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("Relu", {}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("LeakyRelu", {"alpha": -0.3}),
        ("LeakyRelu", {"alpha": 0.0}),
        ("Sigmoid", {}),
        ("HardSwish", {}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 0.4, "beta": 0.2}),
        ("Softmax", {}),
        ("Softmax", {"axis": 1}),
        ("Flatten", {"axis": 2}),
        ("Transpose", {"perm": [2, 0, 1]}),
        ("Transpose", {}),
    ],
)
def test_operators_with_attributes(op_type: str, attributes: dict[str, Any]) -> None:
    check(op_type, {"x": 2 * random(3, 4, 5)}, **attributes)


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
@given(st.data(), shapes, st.sampled_from(["Add", "Sub", "Mul"]))
def test_arithmetic_with_broadcasting(data: st.DataObject, shape: list[int], op_type: str) -> None:
    other = [data.draw(st.sampled_from([1, size])) for size in shape][data.draw(st.integers(0, len(shape))) :]
    a, b = random(*shape, seed=1), random(*other, seed=2)
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


@MORE
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), (1,), (3,), (1, 3), (2, 1), (2, 3)]),
)
def test_gemm(m: int, k: int, n: int, flip_a: bool, flip_b: bool, bias: tuple[int, ...]) -> None:
    bias = tuple(size if size == 1 else (m, n)[2 - len(bias) + axis] for axis, size in enumerate(bias))
    inputs = {
        "a": random(*((k, m) if flip_a else (m, k)), seed=1),
        "b": random(*((n, k) if flip_b else (k, n)), seed=2),
        "c": random(*bias, seed=3),
    }
    check("Gemm", inputs, alpha=0.7, beta=1.3, transA=int(flip_a), transB=int(flip_b))


@FEW
@given(st.sampled_from([((), ()), ((2,), ()), ((), (2,)), ((2, 3), (1, 3)), ((1,), (2, 3)), ((2, 1), (3,))]))
def test_matmul(batches: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    check("MatMul", {"a": random(*batches[0], 2, 3, seed=1), "b": random(*batches[1], 3, 4, seed=2)})


@st.composite
def geometry(draw: st.DrawFn, *, axes: tuple[int, ...] = (1, 2)) -> tuple[list[int], dict[str, Any]]:
    """Spatial input sizes and window attributes that give at least one output an axis."""
    count = draw(st.sampled_from(axes))

    def per_axis(low: int, high: int, length: int = count) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=length, max_size=length))

    kernel, strides = per_axis(1, 3), per_axis(1, 3)
    auto_pad = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    same = auto_pad.startswith("SAME")  # ONNX Runtime allows it no dilation, the reference no stride > kernel
    strides = [min(s, k) for s, k in zip(strides, kernel, strict=True)] if same else strides
    dilations = [1] * count if same else per_axis(1, 2)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    if auto_pad == "NOTSET":  # pads below the kernel, so that every window sees the input
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in kernel + kernel]
    else:
        attributes["auto_pad"] = auto_pad
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    return [span + extra for span, extra in zip(spans, per_axis(0, 4), strict=True)], attributes


@MORE
@given(geometry(), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.booleans())
def test_conv(
    shape: tuple[list[int], dict[str, Any]], group: int, channels: int, filters: int, biased: bool
) -> None:
    size, attributes = shape
    inputs = {
        "x": random(2, group * channels, *size, seed=1),
        "w": random(group * filters, channels, *attributes["kernel_shape"], seed=2),
    }
    if biased:
        inputs["b"] = random(group * filters, seed=3)
    check("Conv", inputs, group=group, **attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [0, 1, 2, 0]},
        {"pads": [2, 0, 1, 3], "strides": [2, 3]},
        {"pads": [4, 4, 4, 4]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
        {"strides": [3, 3]},
    ],
    ids=repr,
)
def test_conv_where_other_builders_went_wrong(attributes: dict[str, Any]) -> None:
    check("Conv", {"x": random(2, 3, 8, 7), "w": random(4, 3, 3, 3, seed=1)}, **attributes)


def test_depthwise_conv() -> None:
    check("Conv", {"x": random(2, 4, 6, 6), "w": random(4, 1, 3, 3, seed=1)}, group=4, pads=[1, 1, 1, 1])
    check("Conv", {"x": random(1, 3, 7, 7), "w": random(6, 1, 3, 3, seed=1)}, group=3, strides=[2, 2])


@MORE
@given(geometry())
def test_max_pool(shape: tuple[list[int], dict[str, Any]]) -> None:
    size, attributes = shape
    check("MaxPool", {"x": random(2, 2, *size)}, in_ort=True, **attributes)


def test_max_pool_with_ceil_mode() -> None:
    check("MaxPool", {"x": random(1, 2, 6, 5)}, in_ort=True, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)


@MORE
@given(geometry(), st.booleans())
def test_average_pool(shape: tuple[list[int], dict[str, Any]], count_pads: bool) -> None:
    size, attributes = shape
    attributes = {name: value for name, value in attributes.items() if name != "dilations"}
    check("AveragePool", {"x": random(2, 2, *size)}, count_include_pad=int(count_pads), **attributes)


def test_global_average_pool() -> None:
    check("GlobalAveragePool", {"x": random(2, 3, 4, 5)})
    check("GlobalAveragePool", {"x": random(2, 3, 4)})


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [(2, 3), (-1,), (1, -1), (0, 1, 2, 3)], ids=repr)
def test_reduce_mean(axes: tuple[int, ...], keepdims: int) -> None:
    check("ReduceMean", {"x": random(2, 3, 4, 2)}, {"axes": ints(*axes)}, keepdims=keepdims)


def test_reduce_mean_over_everything_or_nothing() -> None:
    check("ReduceMean", {"x": random(2, 3)})
    check("ReduceMean", {"x": random(2, 3)}, noop_with_empty_axes=1)


def test_reshaping_operators() -> None:
    check("Reshape", {"x": random(2, 3, 4)}, {"shape": ints(0, -1)})
    check("Squeeze", {"x": random(2, 1, 4, 1)}, {"axes": ints(1, 3)})
    check("Squeeze", {"x": random(2, 1, 4, 1)})
    check("Unsqueeze", {"x": random(2, 4)}, {"axes": ints(0, -1)})


@MORE
@given(st.data())
def test_slice(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(2, 6), min_size=1, max_size=3))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    spans = []
    for axis in axes:
        first, last = sorted(
            data.draw(st.lists(st.integers(0, shape[axis]), min_size=2, max_size=2, unique=True))
        )
        step = data.draw(st.integers(1, 3))
        forwards = (first, data.draw(st.sampled_from([last, last - shape[axis] or last])), step)
        backwards = (last - 1, first - 1 if first else -(2**31), -step)
        spans.append(data.draw(st.sampled_from([forwards, backwards])))
    starts, ends, steps = zip(*spans, strict=True)
    signed = [data.draw(st.sampled_from([axis, axis - len(shape)])) for axis in axes]
    constants = {"starts": ints(*starts), "ends": ints(*ends), "axes": ints(*signed), "steps": ints(*steps)}
    check("Slice", {"x": random(*shape)}, constants)


@FEW
@given(st.data())
def test_pad(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=3))
    amount = data.draw(st.lists(st.integers(-1, 2), min_size=2 * len(shape), max_size=2 * len(shape)))
    amount = [0 if size == 2 else pad for pad, size in zip(amount, shape + shape, strict=True)]
    check("Pad", {"x": random(*shape)}, {"pads": ints(*amount), "value": np.array(1.5)}, in_ort=True)


def test_pad_with_axes() -> None:
    constants = {"pads": ints(1, 0, 2, 1), "value": np.array(0.0), "axes": ints(-1, 1)}
    check("Pad", {"x": random(2, 3, 4)}, constants, in_ort=True)


@FEW
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.sampled_from([0, 1, -1]))
def test_concat(sizes: list[int], axis: int) -> None:
    shapes = [[size if position == axis % 3 else 2 for position in range(3)] for size in sizes]
    inputs = {f"x{index}": random(*shape, seed=index) for index, shape in enumerate(shapes)}
    check("Concat", inputs, axis=axis)
