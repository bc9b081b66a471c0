"""Gradient rules of operators that move values, look them up, and resize images."""

from __future__ import annotations

import numpy as np
import pytest
from derivative import check, check_network, ints, network, random, run_ort
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import UnsupportedModel
from emulator.sensitivity.backward import gradient_model

FEW = settings(max_examples=12)
MORE = settings(max_examples=40)


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


def test_transpose_and_flatten() -> None:
    check("Transpose", {"x": random(3, 4, 5)}, perm=[2, 0, 1])
    check("Transpose", {"x": random(3, 4, 5)})
    check("Flatten", {"x": random(3, 4, 5)}, axis=2)


@FEW
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.data())
def test_tile(shape: list[int], data: st.DataObject) -> None:
    repeats = [data.draw(st.integers(1, 3)) for _ in shape]
    check("Tile", {"x": random(*shape)}, {"repeats": ints(*repeats)})


@pytest.mark.parametrize("target", [(2, 3, 4), (3, 4), (5, 2, 3, 4), (1, 1)], ids=repr)
def test_expand(target: tuple[int, ...]) -> None:
    check("Expand", {"x": random(3, 1)}, {"shape": ints(*target)})


@pytest.mark.parametrize("upper", [0, 1])
def test_triangle(upper: int) -> None:
    check("Trilu", {"x": random(2, 3, 4)}, {"k": np.array(1)}, upper=upper)
    check("Trilu", {"x": random(2, 3, 4)}, upper=upper)


@FEW
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.sampled_from([0, 1, -1]))
def test_split(sizes: list[int], axis: int) -> None:
    """Parts of different use, one of none."""
    shape = [sum(sizes) if position == axis % 3 else 2 for position in range(3)]
    parts = " ".join(f"p{index}" for index in range(len(sizes)))
    nodes = [("Split", "x sizes", parts, {"axis": axis})]
    used = [f"p{index}" for index in range(max(1, len(sizes) - 1))]
    nodes += [("Mul", f"{name} {name}", f"s{name}", {}) for name in used]
    nodes += [("Concat", " ".join(f"s{name}" for name in used), "y", {"axis": axis})]
    check_network(nodes, {"x": random(*shape)}, {"sizes": ints(*sizes)})


def test_split_into_equal_parts() -> None:
    nodes = [("Split", "x", "a b", {"axis": 1, "num_outputs": 2}), ("Sub", "a b", "y", {})]
    check_network(nodes, {"x": random(2, 6)}, {})


@MORE
@given(st.data(), st.sampled_from(["edge", "reflect", "wrap"]))
def test_pad_with_copies(data: st.DataObject, mode: str) -> None:
    shape = data.draw(st.lists(st.integers(3, 5), min_size=1, max_size=3))
    amount = [data.draw(st.integers(0, 2)) for _ in shape + shape]
    check("Pad", {"x": random(*shape)}, {"pads": ints(*amount)}, opset=19, mode=mode)


def test_pad_with_copies_and_cropping() -> None:
    x = random(2, 5).astype(np.float32)
    model = network(
        [("Pad", "x pads", "y", {"mode": "edge"})], {"x": x}, {"pads": ints(0, -2, 0, 1)}, np.float32
    )
    (y,) = run_ort(model, {"x": x})
    seed = random(*y.shape, seed=1).astype(np.float32)
    grad = run_ort(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": seed})[1]
    assert np.isclose((grad * x).sum(), (seed * y).sum(), rtol=1e-4)


@pytest.mark.parametrize(
    "indices", [2, [2], [0, 2], [3, 0], [-1, 1], [1, 1, 0], [[0, 1], [2, 1]], [[3, 1]]], ids=repr
)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(indices: object, axis: int) -> None:
    check("Gather", {"x": random(4, 4, 4)}, {"i": np.array(indices, np.int64)}, axis=axis)


def test_gather_where_a_computed_index_says() -> None:
    nodes = [
        ("ArgMax", "x", "i", {"axis": 1, "keepdims": 0}),
        ("Gather", "x i", "g", {"axis": 1}),
        ("Mul", "g g", "y", {}),
    ]
    check_network(nodes, {"x": random(3, 4)}, {})


@pytest.mark.parametrize("axis", [0, 1])
def test_gather_elements(axis: int) -> None:
    index = np.random.default_rng(0).integers(-2, 2, (4, 5, 3) if axis else (5, 2, 3))
    check("GatherElements", {"x": random(4, 2, 3)}, {"i": index}, axis=axis)


def test_gather_nd() -> None:
    check("GatherND", {"x": random(3, 4, 2)}, {"i": np.array([[0, 1], [2, 3], [0, 1], [-1, -1]])})
    check("GatherND", {"x": random(3, 4, 2)}, {"i": np.array([[0, 1, 1], [2, 3, 0]])})
    model = network(
        [("GatherND", "x i", "y", {"batch_dims": 1})],
        {"x": random(2, 3)},
        {"i": np.array([[1], [2]])},
        np.float32,
    )
    with pytest.raises(UnsupportedModel, match="batch_dims is not 0"):
        gradient_model(model, ["x"], loss="seed")


@pytest.mark.parametrize("reduction", ["none", "add"])
@pytest.mark.parametrize("axis", [0, 1])
def test_scatter_elements(reduction: str, axis: int) -> None:
    index = np.array([[0, 2, 1], [3, 1, 0]]) if axis == 0 else np.array([[0, 2], [3, 1], [1, -1]])
    inputs = {"x": random(4, 3) if axis == 0 else random(3, 4), "u": random(*index.shape, seed=1)}
    nodes = [("ScatterElements", "x i u", "y", {"axis": axis, "reduction": reduction})]
    check_network(nodes, inputs, {"i": index})


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_scatter_nd(reduction: str) -> None:
    inputs, constants = {"x": random(4, 4), "u": random(2)}, {"i": np.array([[0, 2], [3, 1]])}
    check_network([("ScatterND", "x i u", "y", {"reduction": reduction})], inputs, constants)


def test_scatter_that_multiplies_is_refused() -> None:
    inputs = {"x": random(4, 4), "u": random(2)}
    nodes = [("ScatterND", "x i u", "y", {"reduction": "mul"})]
    model = network(nodes, inputs, {"i": np.array([[0, 2], [3, 1]])}, np.float32)
    with pytest.raises(UnsupportedModel, match=r"ScatterND \(node 'node'\): reduction 'mul'"):
        gradient_model(model, ["x"], loss="seed")


def test_top_k() -> None:
    nodes = [("TopK", "x k", "v i", {"axis": 1}), ("Mul", "v v", "y", {})]
    check_network(nodes, {"x": random(3, 5)}, {"k": ints(2)})


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    check("DepthToSpace", {"x": random(2, 8, 2, 3)}, blocksize=2, mode=mode)


def test_space_to_depth() -> None:
    check("SpaceToDepth", {"x": random(2, 3, 4, 6)}, blocksize=2)


RESIZES = [
    {"mode": "nearest"},
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "linear"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
    {"mode": "cubic", "coordinate_transformation_mode": "pytorch_half_pixel", "cubic_coeff_a": -0.5},
]


@pytest.mark.parametrize("attributes", RESIZES, ids=lambda a: " ".join(map(str, a.values())))
@pytest.mark.parametrize("scales", [[1, 1, 2, 2], [1, 1, 1.5, 0.7], [1, 1, 1, 2.5]], ids=repr)
def test_resize_by_scales(attributes: dict[str, object], scales: list[float]) -> None:
    check_resize(attributes, {"scales": np.float32(scales)}, "x _ scales")


@pytest.mark.parametrize("attributes", RESIZES, ids=lambda a: " ".join(map(str, a.values())))
def test_resize_to_sizes(attributes: dict[str, object]) -> None:
    check_resize(attributes, {"sizes": ints(2, 2, 7, 3)}, "x _ _ sizes")
    check_resize({**attributes, "axes": [3, 2]}, {"sizes": ints(3, 7)}, "x _ _ sizes", opset=19)


def check_resize(
    attributes: dict[str, object], constants: dict[str, np.ndarray], reads: str, opset: int = 18
) -> None:
    """Linear in x, so the gradient times x is the output times the seed; ONNX Runtime has it in float32 only."""
    x = random(2, 2, 4, 5).astype(np.float32)
    model = network([("Resize", reads, "y", attributes)], {"x": x}, constants, np.float32, opset=opset)
    (y,) = run_ort(model, {"x": x})
    ready = gradient_model(model, ["x"], loss="seed")
    for which in range(3):
        seed = random(*y.shape, seed=which).astype(np.float32)
        grad = run_ort(ready, {"x": x, "seed": seed})[1]
        assert np.isclose((grad * x).sum(), (seed * y).sum(), rtol=1e-4, atol=1e-3)


def test_upsample_of_old_opsets() -> None:
    x = random(1, 2, 3, 3).astype(np.float32)
    nodes = [("Upsample", "x scales", "y", {"mode": "nearest"})]
    model = network(nodes, {"x": x}, {"scales": np.float32([1, 1, 2, 3])}, np.float32, opset=9)
    seed = random(1, 2, 6, 9).astype(np.float32)
    grad = run_ort(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": seed})[1]
    assert np.allclose(grad, seed.reshape(1, 2, 3, 2, 3, 3).sum(axis=(3, 5)), atol=1e-5)
