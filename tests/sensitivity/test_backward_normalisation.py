"""Gradient rules of reductions, softmax and normalisations."""

from __future__ import annotations

import numpy as np
import pytest
from derivative import check, ints, network, random, run_ort
from onnx import TensorProto

from emulator.errors import UnsupportedModel
from emulator.sensitivity.backward import gradient_model

REDUCTIONS = [
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp",
]  # fmt: skip


@pytest.mark.parametrize("op_type", REDUCTIONS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [(2, 3), (-1,), (1, -1), (0, 1, 2, 3)], ids=repr)
def test_reduction(axes: tuple[int, ...], keepdims: int, op_type: str) -> None:
    check(op_type, {"x": random(2, 3, 4, 2)}, {"axes": ints(*axes)}, keepdims=keepdims)


@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_reduction_over_everything(op_type: str) -> None:
    check(op_type, {"x": random(2, 3)})
    check(op_type, {"x": random(2, 3)}, keepdims=0)


@pytest.mark.parametrize("op_type", ["ReduceMean", "ReduceSum", "ReduceMax"])
def test_reduction_over_nothing(op_type: str) -> None:
    check(op_type, {"x": random(2, 3)}, noop_with_empty_axes=1)


def test_logarithm_of_a_sum() -> None:
    check("ReduceLogSum", {"x": random(2, 3, 4) + 3}, {"axes": ints(1)}, keepdims=0)


def test_equal_extremes_share() -> None:
    x = np.float32([[1, 1, 0]])
    model = network([("ReduceMax", "x axes", "y", {})], {"x": x}, {"axes": ints(1)}, np.float32)
    grad = run_ort(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": np.ones((1, 1), np.float32)})[
        1
    ]
    assert np.array_equal(grad, [[0.5, 0.5, 0]])


def test_the_norm_of_nothing_has_gradient_zero() -> None:
    x = np.zeros((2, 3), np.float32)
    model = network([("ReduceL2", "x axes", "y", {})], {"x": x}, {"axes": ints(1)}, np.float32)
    grad = run_ort(gradient_model(model, ["x"], loss="seed"), {"x": x, "seed": np.ones((2, 1), np.float32)})[
        1
    ]
    assert not grad.any()


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(op_type: str, axis: int) -> None:
    check(op_type, {"x": random(3, 4, 5)}, axis=axis)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sum(exclusive: int, reverse: int) -> None:
    check("CumSum", {"x": random(3, 4)}, {"axis": np.array(1)}, exclusive=exclusive, reverse=reverse)


@pytest.mark.parametrize("axis", [-1, 1, -2])
def test_layer_normalization(axis: int) -> None:
    shape = (2, 3, 4)[axis:]
    inputs = {"x": random(2, 3, 4), "scale": random(*shape, seed=1), "bias": random(*shape, seed=2)}
    check("LayerNormalization", inputs, axis=axis, epsilon=0.01)
    check("LayerNormalization", {"x": inputs["x"], "scale": inputs["scale"]}, axis=axis)


@pytest.mark.parametrize("axis", [-1, 1])
def test_rms_normalization(axis: int) -> None:
    shape = (2, 3, 4)[axis:]
    check("RMSNormalization", {"x": random(2, 3, 4), "scale": random(*shape, seed=1)}, opset=23, axis=axis)


@pytest.mark.parametrize("size", [(5,), (4, 3), (2, 3, 2)], ids=repr)
def test_instance_normalization(size: tuple[int, ...]) -> None:
    inputs = {"x": random(2, 3, *size), "scale": random(3, seed=1), "bias": random(3, seed=2)}
    check("InstanceNormalization", inputs, epsilon=0.02)


@pytest.mark.parametrize(("channels", "groups"), [(4, 2), (6, 3), (3, 3), (4, 1)])
def test_group_normalization(channels: int, groups: int) -> None:
    """A scale a channel since opset 21."""
    inputs = {
        "x": random(2, channels, 3, 2),
        "scale": random(channels, seed=1),
        "bias": random(channels, seed=2),
    }
    check(
        "GroupNormalization", inputs, opset=21, num_groups=groups, epsilon=0.02, stash_type=TensorProto.DOUBLE
    )


def test_group_normalization_with_a_scale_a_group() -> None:
    """What opset 18 has: the same as with each group's scale given to all of its channels."""
    x, seed = random(2, 4, 3, 2).astype(np.float32), random(2, 4, 3, 2, seed=3).astype(np.float32)
    scale, bias = np.float32([0.5, -2]), np.float32([1, 3])
    found = []
    for opset, repeats in ((18, 1), (21, 2)):
        inputs = {"x": x, "scale": scale.repeat(repeats), "bias": bias.repeat(repeats)}
        nodes = [("GroupNormalization", "x scale bias", "y", {"num_groups": 2})]
        model = gradient_model(network(nodes, inputs, {}, np.float32, opset=opset), list(inputs), loss="seed")
        found.append(run_ort(model, {**inputs, "seed": seed}))
    for by_group, by_channel in zip(*found, strict=True):
        if by_group.ndim == 1:
            by_channel = by_channel.reshape(2, 2).sum(axis=1)
        assert np.allclose(by_group, by_channel, atol=1e-4)


@pytest.mark.parametrize("size", [(), (5,), (4, 3)], ids=repr)
def test_batch_normalization(size: tuple[int, ...]) -> None:
    inputs = {"x": random(2, 3, *size), "scale": random(3, seed=1), "bias": random(3, seed=2)}
    inputs |= {"mean": random(3, seed=3), "var": random(3, seed=4) + 3}
    check("BatchNormalization", inputs, epsilon=0.02)


def test_batch_normalization_in_training_is_refused() -> None:
    inputs = {"x": random(2, 3), **{name: random(3) for name in ("s", "b", "m", "v")}}
    nodes = [("BatchNormalization", "x s b m v", "y rm rv", {"training_mode": 1})]
    model = network(nodes, inputs, {}, np.float32)
    with pytest.raises(UnsupportedModel, match=r"BatchNormalization \(node 'node'\): it is in training mode"):
        gradient_model(model, ["x"], loss="seed")


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_local_response_normalization(size: int) -> None:
    check("LRN", {"x": random(2, 6, 3, 2)}, size=size, alpha=0.6, beta=0.7, bias=1.3)
