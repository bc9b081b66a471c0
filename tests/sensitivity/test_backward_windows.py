"""Gradient rules of convolutions and pools, over random geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from derivative import check, network, random, run_ort
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.sensitivity.backward import gradient_model

FEW = settings(max_examples=12)
MORE = settings(max_examples=40)


@st.composite
def geometry(draw: st.DrawFn, *, axes: tuple[int, ...] = (1, 2, 3)) -> tuple[list[int], dict[str, Any]]:
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


@st.composite
def transposed(draw: st.DrawFn) -> tuple[list[int], dict[str, Any]]:
    """Input sizes and attributes of a ConvTranspose whose padding leaves something."""
    count = draw(st.integers(1, 2))

    def per_axis(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel, strides, dilations = per_axis(1, 3), per_axis(1, 3), per_axis(1, 2)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    if draw(st.booleans()):
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in kernel + kernel]
        attributes["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
    return [size + 2 for size in per_axis(0, 3)], attributes


@MORE
@given(transposed(), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.booleans())
def test_transposed_conv(
    shape: tuple[list[int], dict[str, Any]], group: int, channels: int, filters: int, biased: bool
) -> None:
    size, attributes = shape
    inputs = {
        "x": random(2, group * channels, *size, seed=1),
        "w": random(group * channels, filters, *attributes["kernel_shape"], seed=2),
    }
    if biased:
        inputs["b"] = random(group * filters, seed=3)
    check("ConvTranspose", inputs, group=group, **attributes)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("strides", [[2, 2], [1, 2]], ids=repr)
def test_transposed_conv_with_automatic_padding(auto_pad: str, strides: list[int]) -> None:
    inputs = {"x": random(1, 2, 4, 5), "w": random(2, 3, 3, 4, seed=1)}
    check("ConvTranspose", inputs, auto_pad=auto_pad, strides=strides, kernel_shape=[3, 4])


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


@pytest.mark.parametrize("count_pads", [0, 1])
def test_average_pool_with_ceil_mode(count_pads: int) -> None:
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1}
    single = network(
        [("AveragePool", "x", "y", {**attributes, "count_include_pad": count_pads})],
        {"x": random(1, 2, 6, 5)}, {}, np.float32,
    )  # fmt: skip
    check_linear(single, random(1, 2, 6, 5).astype(np.float32))


def check_linear(model: onnx.ModelProto, x: np.ndarray) -> None:
    """What is linear in x is, in ONNX Runtime, its gradient times x."""
    (y,) = run_ort(model, {"x": x})
    seed = random(*y.shape, seed=5).astype(np.float32)
    grad = run_ort(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": seed})[1]
    assert np.isclose((grad * x).sum(), (seed * y).sum(), rtol=1e-4, atol=1e-4)


@MORE
@given(geometry(axes=(1, 2)), st.integers(1, 3))
def test_lp_pool(shape: tuple[list[int], dict[str, Any]], p: int) -> None:
    size, attributes = shape
    attributes = {name: value for name, value in attributes.items() if name != "dilations"}
    check("LpPool", {"x": random(2, 2, *size)}, p=p, **attributes)


def test_global_max_pool() -> None:
    check("GlobalMaxPool", {"x": random(2, 3, 4, 5)})
    check("GlobalMaxPool", {"x": random(2, 3, 4)})


def test_equal_maxima_share_in_a_global_pool() -> None:
    x = np.ones((1, 1, 2, 2), np.float32)
    model = network([("GlobalMaxPool", "x", "y", {})], {"x": x}, {}, np.float32)
    seed = np.full((1, 1, 1, 1), 2, np.float32)
    assert (run_ort(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": seed})[1] == 0.5).all()


def test_global_average_pool() -> None:
    check("GlobalAveragePool", {"x": random(2, 3, 4, 5)})
    check("GlobalAveragePool", {"x": random(2, 3, 4)})
