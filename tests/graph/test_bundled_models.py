"""The bundled models: every integer the emulator computes against ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx_models import cut_out, nearest, run_unoptimised
from oracle import session_of

from emulator.graph.golden import Golden
from emulator.graph.qgraph import MacLayer, QuantGraph

Tensors = dict[str, npt.NDArray[Any]]


def emulated(graph: QuantGraph, inputs: npt.NDArray[np.float32]) -> Tensors:
    """(images, *shape) of every tensor, as one batch of ONNX Runtime has it."""
    golden = Golden(graph)
    runs = [golden.run(image) for image in inputs]
    return {
        tensor.name: tensor.to_onnx(np.stack([golden.tensor(run, index) for run in runs]))[:, 0]
        for index, tensor in enumerate(graph.tensors)
    }


def input_name(graph: QuantGraph) -> str:
    (spec,) = graph.inputs
    return spec.name


def batches(inputs: npt.NDArray[np.float32], size: int = 50) -> Iterator[npt.NDArray[np.float32]]:
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size]


def one_by_one(model: onnx.ModelProto, names: list[str], feed: str, inputs: npt.NDArray[Any]) -> Tensors:
    """(images, *shape) of these tensors of a model whose batch is 1."""
    session = session_of(model, names)
    rows = [session.run(names, {feed: image[np.newaxis]}) for image in inputs]
    return {name: np.concatenate(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def quantised_names(model: onnx.ModelProto) -> set[str]:
    """The outputs of QuantizeLinear and of QLinear operators."""
    return {n.output[0] for n in model.graph.node if n.op_type.startswith("Q")}


def compare_with_qlinear_form(bundled: Any, inputs: npt.NDArray[np.float32]) -> None:
    model = bundled.network.reference
    names = quantised_names(model)
    # Two networks of known size: an oracle that compares nothing would not be noticed otherwise.
    assert len(names) >= 5
    for batch in batches(inputs):
        want = one_by_one(model, sorted(names), input_name(bundled.network.graph), batch)
        found = emulated(bundled.network.graph, batch)
        assert names <= found.keys()
        for name in names:
            np.testing.assert_array_equal(found[name], want[name], err_msg=name)


def compare_with_original_file(bundled: Any, inputs: npt.NDArray[np.float32]) -> None:
    """The file computes in float32; run end to end, a value rounded the other way moves what follows a little."""
    names = quantised_names(bundled.network.original) & {t.name for t in bundled.network.graph.tensors}
    assert len(names) >= 5
    values = different = 0
    for batch in batches(inputs):
        want = run_unoptimised(
            bundled.network.original, sorted(names), {input_name(bundled.network.graph): batch}
        )
        found = emulated(bundled.network.graph, batch)
        for name in names:
            difference = np.abs(found[name].astype(int) - want[name].astype(int))
            values += difference.size
            different += int((difference > 0).sum())
    assert values > 0
    assert different < 1e-3 * values


def test_no_operator_of_the_original_file_is_off_by_more_than_one_lsb(bundled: Any) -> None:
    """Each operator of the file as it was, fed with the emulator's integers."""
    graph, original = bundled.network.graph, bundled.network.original
    shapes = onnx.shape_inference.infer_shapes(original)
    found = emulated(graph, bundled.inputs[:20])
    names = sorted(quantised_names(original) & found.keys())
    assert len(names) >= 5
    for name in names:
        sources = sorted(nearest(original, name, {input_name(graph), *names}))
        feeds = {s: bundled.inputs[:20] if s == input_name(graph) else found[s] for s in sources}
        want = run_unoptimised(cut_out(shapes, sources, name), [name], feeds)[name]
        assert np.abs(want.astype(int) - found[name].astype(int)).max() <= 1, name


def test_every_tensor_of_thirty_images_equals_onnx_runtime(bundled: Any) -> None:
    compare_with_qlinear_form(bundled, bundled.inputs[:30])


@pytest.mark.slow
def test_every_tensor_of_every_image_equals_onnx_runtime(bundled: Any) -> None:
    compare_with_qlinear_form(bundled, bundled.inputs)


def test_the_original_file_differs_by_rounding_only_on_thirty_images(bundled: Any) -> None:
    compare_with_original_file(bundled, bundled.inputs[:30])


@pytest.mark.slow
def test_the_original_file_differs_by_rounding_only_on_every_image(bundled: Any) -> None:
    compare_with_original_file(bundled, bundled.inputs)


def test_no_mac_layer_of_the_qlinear_form_is_left_in_float(bundled: Any) -> None:
    kinds = {node.op_type for node in bundled.network.reference.graph.node}
    assert not kinds & {"Conv", "Gemm", "MatMul"}


def test_every_mac_layer_is_computed_from_the_emulators_own_weights(bundled: Any) -> None:
    """One weight changed in the emulator's copy: the layer's own output differs from ONNX Runtime's."""
    graph = bundled.network.graph
    inputs = bundled.inputs[:20]
    names = sorted(quantised_names(bundled.network.reference))
    want = one_by_one(bundled.network.reference, names, input_name(graph), inputs)
    for layer in graph.layers:
        name = graph.tensors[layer.target].name
        changed = emulated(with_one_weight_changed(graph, layer), inputs)
        assert np.array_equal(
            changed[graph.tensors[layer.source].name], want[graph.tensors[layer.source].name]
        )
        assert not np.array_equal(changed[name], want[name]), layer.name


def with_one_weight_changed(graph: QuantGraph, layer: MacLayer) -> QuantGraph:
    weight = layer.weight.copy()
    where = np.unravel_index(weight.size // 2, weight.shape)
    weight[where] = -128 if weight[where] > 0 else 127
    changed = replace(layer, weight=weight)
    return replace(graph, ops=tuple(changed if op is layer else op for op in graph.ops))


def naive_convolution(
    x: npt.NDArray[np.int64], weight: npt.NDArray[np.int64], *, stride: int, pad: int, groups: int
) -> npt.NDArray[np.int64]:
    """(c, h, w) and (cout, cin / groups, kh, kw), zero padding: one loop an index, plain Python."""
    cout, cin, kh, kw = weight.shape
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    height = (padded.shape[1] - kh) // stride + 1
    width = (padded.shape[2] - kw) // stride + 1
    out = np.zeros((cout, height, width), np.int64)
    for o in range(cout):
        first = o // (cout // groups) * cin
        for i in range(height):
            for j in range(width):
                tile = padded[first : first + cin, i * stride : i * stride + kh, j * stride : j * stride + kw]
                out[o, i, j] = (tile * weight[o]).sum()
    return out


def test_accumulators_of_every_conv_are_those_of_the_plain_convolution(digits: Any, fashion: Any) -> None:
    """From the integers in the ONNX file: x minus its zero point, zero padding, int32 bias."""
    for model in (digits, fashion):
        network, golden = model.network, model.golden
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in network.reference.graph.initializer}
        image = golden.run(model.inputs[3])
        nodes = {n.output[0]: n for n in network.reference.graph.node if n.op_type == "QLinearConv"}
        assert nodes
        for index, layer in enumerate(network.graph.layers):
            node = nodes.get(network.graph.tensors[layer.target].name)
            if node is None:
                continue
            tensor = network.graph.tensors[layer.source]
            x = tensor.to_onnx(golden.tensor(image, layer.source)[np.newaxis])[0, 0].astype(np.int64)
            x -= int(arrays[node.input[2]])
            settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            sums = naive_convolution(
                x,
                arrays[node.input[3]].astype(np.int64),
                stride=settings.get("strides", [1])[0],
                pad=settings.get("pads", [0])[0],
                groups=settings.get("group", 1),
            )
            sums += arrays[node.input[8]].astype(np.int64)[:, np.newaxis, np.newaxis]
            want = np.moveaxis(sums, 0, -1).reshape(layer.shape.m, -1)
            np.testing.assert_array_equal(golden.accumulator(image, index), want, err_msg=layer.name)
