"""Finite differences against ONNX Runtime, and Jacobians against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx_models import run_unoptimised
from oracle import cut_at

from emulator.faults.strikes import LayerErrors
from emulator.propagate.propagator import Propagator
from emulator.sensitivity.finite_difference import finite_differences
from emulator.sensitivity.gradients import GradientSource

Ints = npt.NDArray[np.int64]
IMAGES = (0, 2, 5)


def probes(bundled: Any, layer: int, count: int, seed: int) -> tuple[Ints, Ints]:
    """Random output elements of a layer and random changes, saturating ones included."""
    rng = np.random.default_rng(seed)
    size = bundled.network.graph.tensors[bundled.network.graph.layers[layer].target].size
    return rng.integers(0, size, count), rng.integers(-90, 91, count)


def test_finite_differences_are_what_onnx_runtime_finds_for_the_changed_tensor(bundled: Any) -> None:
    graph, golden = bundled.network.graph, bundled.golden
    answer = graph.tensors[graph.output]
    inputs = bundled.inputs[3:4]
    image = golden.run(inputs[0])
    moved = 0
    for layer, mac in enumerate(graph.layers[:-1]):
        elements, change = probes(bundled, layer, 12, seed=layer)
        found = finite_differences(golden, image, layer, elements, change)
        tensor = graph.tensors[mac.target]
        model = cut_at(bundled.network, tensor.name)
        for i, (element, by) in enumerate(zip(elements.tolist(), change.tolist(), strict=True)):
            stored = golden.tensor(image, mac.target).copy()
            stored[element] = np.clip(int(stored[element]) + by, -128, 127)
            feeds = graph.feeds(inputs[0]) | {tensor.name: tensor.to_onnx(stored[np.newaxis])[0]}
            logits = run_unoptimised(model, [answer.name], feeds)[answer.name].reshape(-1)
            want = logits.astype(int) - golden.logits(image).astype(int)
            np.testing.assert_array_equal(found[i], want, err_msg=f"{mac.name} {element} {by}")
            moved += bool(want.any())
    assert moved > 10


def test_finite_differences_are_full_recomputations(bundled: Any) -> None:
    """Golden.rerun with any accumulator error that gives the wanted value."""
    graph, golden = bundled.network.graph, bundled.golden
    image = bundled.inference(8)
    for layer, mac in enumerate(graph.layers):
        elements, change = probes(bundled, layer, 25, seed=100 + layer)
        found = finite_differences(golden, image, layer, elements, change)
        channels = mac.shape.n * mac.shape.groups
        scale, zero = mac.requantisation.scale, mac.requantisation.zero_point
        acc = golden.accumulator(image, layer).astype(np.int64)
        values = golden.tensor(image, mac.target).astype(np.int64)
        for i, (element, by) in enumerate(zip(elements.tolist(), change.tolist(), strict=True)):
            m, n = divmod(element, channels)
            wanted = min(max(int(values[element]) + by, -128), 127)
            other = (
                [] if wanted == values[element] else [round((wanted - zero) / float(scale[n])) - acc[m, n]]
            )
            places = [np.array([place] * len(other), np.int64) for place in (m, n)]
            again = golden.rerun(image, layer, *places, np.array(other, np.int64))
            assert golden.tensor(again, mac.target)[element] == wanted
            want = golden.logits(again).astype(int) - golden.logits(image).astype(int)
            np.testing.assert_array_equal(found[i], want)


def test_one_lsb_of_a_logit_is_one_lsb_of_the_answer(bundled: Any) -> None:
    graph = bundled.network.graph
    image = bundled.inference(0)
    classes = np.arange(graph.classes)
    inside = bundled.golden.logits(image)
    assert (np.abs(inside.astype(int)) < 120).all()
    found = finite_differences(
        bundled.golden, image, len(graph.layers) - 1, classes, np.full(graph.classes, 3)
    )
    np.testing.assert_array_equal(found, 3 * np.eye(graph.classes, dtype=int))


def jacobians_of(source: GradientSource, bundled: Any, image: int) -> dict[int, npt.NDArray[np.float32]]:
    logits = bundled.golden.logits(bundled.inference(image))
    return source.jacobians(bundled.inputs[image], logits)


def test_the_jacobian_at_the_last_layers_input_is_its_weight_matrix_in_lsb(bundled: Any) -> None:
    graph = bundled.network.graph
    fc = graph.layers[-1]
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in bundled.network.reference.graph.initializer}
    (node,) = [n for n in bundled.network.reference.graph.node if n.op_type == "QGemm"]
    weight = arrays[node.input[3]].astype(float)
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    x_scale, w_scale, y_scale = (arrays[node.input[i]].astype(float) for i in (1, 4, 7))
    want = (weight.T if transposed else weight) * w_scale * x_scale / y_scale
    source = GradientSource(bundled.network, [fc.source])
    checked = 0
    for index in range(20):
        if np.abs(bundled.golden.logits(bundled.inference(index)).astype(int)).max() > 80:
            continue  # a logit near saturation counts less
        np.testing.assert_allclose(
            jacobians_of(source, bundled, index)[fc.source], want, rtol=1e-3, atol=1e-5
        )
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize(
    ("model", "layer", "least"),
    [
        ("digits", "conv2", 0.85),
        ("fashion", "block2_dw", 0.6),
        ("fashion", "block2_pw", 0.6),
        ("fashion", "block2_conv", 0.45),
        ("fashion", "block1_dw", 0.45),
    ],
)
def test_jacobians_go_with_finite_differences(
    model: str, layer: str, least: float, request: pytest.FixtureRequest
) -> None:
    """Steps of 32 LSB, large enough to be seen through the roundings on the way to the logits."""
    bundled = request.getfixturevalue(model)
    graph = bundled.network.graph
    index = [mac.name for mac in graph.layers].index(layer)
    target = graph.layers[index].target
    source = GradientSource(bundled.network, [target])
    slopes, jacobians = [], []
    for i in IMAGES:
        elements = np.random.default_rng(i).permutation(graph.tensors[target].size)[:400]
        steps = np.full(len(elements), 32)
        slopes.append(finite_differences(bundled.golden, bundled.inference(i), index, elements, steps) / 32)
        jacobians.append(jacobians_of(source, bundled, i)[target][elements])
    slope, jacobian = np.concatenate(slopes).ravel(), np.concatenate(jacobians).ravel()
    assert np.corrcoef(slope, jacobian)[0, 1] > least
    clear = (np.abs(slope) * 32 >= 2) & (np.abs(jacobian) * 32 >= 1)
    if clear.sum() > 20:
        assert (np.sign(slope) == np.sign(jacobian))[clear].mean() > 0.9


def test_probing_leaves_the_golden_run_untouched(digits: Any) -> None:
    image = digits.inference(1)
    before = image.values.copy(), image.accumulators.copy()
    elements, change = probes(digits, 0, 50, seed=1)
    finite_differences(digits.golden, image, 0, elements, change)
    assert np.array_equal(image.values, before[0])
    assert np.array_equal(image.accumulators, before[1])
    nothing = np.zeros(0, np.int64)
    errors = LayerErrors(np.zeros(1, np.int64), *[nothing.astype(np.int32)] * 3, *[np.zeros(0, np.bool_)] * 2)
    effects = Propagator(digits.golden).run(image, nothing, errors)
    assert effects.logits.shape == (0, 10)
