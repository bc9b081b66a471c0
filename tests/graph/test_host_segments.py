"""Models that are not all integers: what ONNX Runtime runs itself is cut out whole, the rest is on the array, and every
value equals ONNX Runtime's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import Builder, Tensor
from oracle import check_every_tensor, lsb_from_original, saved
from small_models import conv_of, fresh, matmul_of, named, replace_constant, triple_of

from emulator.graph.load import Network, load
from emulator.graph.qgraph import HostOp, MacLayer, QuantGraph, Sample


def hosted(graph: QuantGraph) -> list[str]:
    """What ONNX Runtime runs behind the first MAC layer, segment by segment; views (DequantizeLinear) left out."""
    first = next(i for i, op in enumerate(graph.ops) if isinstance(op, MacLayer))
    return [name for op in graph.ops[first:] if isinstance(op, HostOp) for name in op.nodes]


def exact(model: onnx.ModelProto, sample: Sample, folder: Path, lsb: float = 0) -> Network:
    """Loads, equals the QLinear form in every value and the file in its answer."""
    network = load(saved(model, folder))
    golden = check_every_tensor(network, [sample])
    assert lsb_from_original(network, golden, sample) <= lsb
    return network


# ---- operators between quantised tensors


@pytest.mark.parametrize("op", ["Softmax", "ReduceMean", "LayerNormalization", "InstanceNormalization"])
def test_a_float_operator_is_a_segment_of_its_own(op: str, tmp_path: Path) -> None:
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    ones = b.constant("ones", np.ones(4 if op == "LayerNormalization" else 2, np.float32))
    rest = {"LayerNormalization": [ones], "InstanceNormalization": [ones, ones]}.get(op, [])
    shape = (1, 1, 1, 1) if op == "ReduceMean" else x.shape
    y = b.quantise(b.node(op, [b.real(x), *rest]), shape, 0.1)
    last = matmul_of(b, y)
    graph = exact(b.model(last), b.image(), tmp_path).graph
    assert hosted(graph) == [op, "QuantizeLinear"]
    assert [layer.op for layer in graph.layers] == ["Conv", "MatMul"] and not graph.float_macs


def test_padding_after_an_activation_is_a_segment(tmp_path: Path) -> None:
    """The fill is 0 whatever the activation makes of 0."""
    for rest in ([], [np.float32(0)]):
        b = fresh()
        x = conv_of(b, b.input((1, 3, 4, 4)))
        amount = b.constant("pads", np.array([0, 0, 1, 1, 0, 0, 0, 1], np.int64))
        value = b.node("Sigmoid", [b.real(x)])
        value = b.node("Pad", [value, amount, *(b.constant("fill", fill) for fill in rest)])
        network = exact(b.model(b.quantise(value, (1, 2, 5, 6), 1 / 128)), b.image(), tmp_path)
        assert hosted(network.graph) == ["Sigmoid", "Pad", "QuantizeLinear"]


@pytest.mark.parametrize("fill", [None, 0, 9])
def test_padding_integers_directly_is_a_movement(fill: int | None, tmp_path: Path) -> None:
    b = fresh("qop")
    x = conv_of(b, b.input((1, 3, 4, 4)))
    rest = [b.constant("pads", np.array([0, 0, 1, 1, 0, 0, 0, 1], np.int64))]
    if fill is not None:
        rest.append(b.constant("fill", np.int8(fill)))
    assert not hosted(exact(b.model(b.moved(x, "Pad", rest, (1, 2, 5, 6), True)), b.image(), tmp_path).graph)


def test_a_concatenation_with_rescaling_is_all_ours(tmp_path: Path) -> None:
    b = fresh()
    x = b.input((1, 3, 4, 4))
    a, c = conv_of(b, x), conv_of(b, x)
    value = b.node("Concat", [b.real(a), b.real(c)], axis=1)
    graph = exact(b.model(b.quantise(value, (1, 4, 4, 4), 0.1)), b.image(), tmp_path).graph
    assert not hosted(graph) and len(graph.layers) == 2


@pytest.mark.parametrize("parts", [2, 3])
def test_split_parts_are_movements(parts: int, tmp_path: Path) -> None:
    b = fresh("qop")
    x = matmul_of(b, b.input((1, 4, 5)), 6)
    names = [b.name("part") for _ in range(parts)]
    sizes = b.constant("sizes", np.full(parts, 6 // parts, np.int64))
    b.nodes.append(helper.make_node("Split", [x.name, sizes], names, axis=2, name="split"))
    pieces = [b.like(x, name, (1, 4, 6 // parts)) for name in names]
    total = pieces[0]
    for piece in pieces[1:]:
        total = b.add(total, piece)
    assert not hosted(exact(b.model(total), b.image(), tmp_path).graph)


def test_resize_to_the_nearest_pixel_is_a_movement(tmp_path: Path) -> None:
    for form in ("qdq", "qop"):
        b = fresh(form)
        x = conv_of(b, b.input((1, 3, 4, 4)))
        sizes = b.constant("scales", np.array([1, 1, 2, 1.5], np.float32))
        y = b.moved(
            x, "Resize", ["", sizes], (1, 2, 8, 6), True, mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )  # fmt: skip
        assert not hosted(exact(b.model(y), b.image(), tmp_path).graph)


def test_an_addition_that_broadcasts_is_ours(tmp_path: Path) -> None:
    for form in ("qdq", "qop"):
        b = fresh(form)
        x = conv_of(b, b.input((1, 3, 4, 4)))
        rest = [b.constant("c", np.array([v], np.int64)) for v in (0, 1, 2)]
        narrow = b.moved(x, "Slice", rest, (1, 2, 1, 4), True)
        assert not hosted(exact(b.model(b.add(x, narrow)), b.image(), tmp_path).graph)


def test_a_constant_is_an_operand_of_an_addition(tmp_path: Path) -> None:
    for first in (True, False):
        b = fresh("qop")
        x = conv_of(b, b.input((1, 3, 4, 4)))
        fixed = b.constant("fixed", np.arange(-16, 16, dtype=np.int8).reshape(1, 2, 4, 4))
        y = b.like(x, fixed, x.shape)
        graph = exact(b.model(b.add(y, x) if first else b.add(x, y)), b.image(), tmp_path).graph
        assert not hosted(graph)
        assert any(tensor.constant is not None for tensor in graph.tensors)


# ---- control flow


def branches(b: Builder, x: Tensor) -> tuple[onnx.NodeProto, str]:
    """y = x where the sum of the real x is above 0, else -x, as an If that captures x."""
    real = b.real(x)
    zero = b.constant("nought", np.float32(0))
    asked = b.node("Greater", [b.node("ReduceSum", [real], keepdims=0), zero])
    bodies = []
    for tag, op in (("then", "Identity"), ("else", "Neg")):
        node = helper.make_node(op, [real], [f"{tag}_out"], name=f"in_{tag}")
        info = helper.make_tensor_value_info(f"{tag}_out", onnx.TensorProto.FLOAT, None)
        bodies.append(helper.make_graph([node], tag, [], [info]))
    made = helper.make_node(
        "If", [asked], ["chosen"], name="if", then_branch=bodies[0], else_branch=bodies[1]
    )
    return made, "chosen"


def test_a_branch_that_captures_a_tensor_follows_its_condition(tmp_path: Path) -> None:
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    node, chosen = branches(b, x)
    b.nodes.append(node)
    y = matmul_of(b, b.quantise(chosen, x.shape, x.scale))
    network = load(saved(b.model(y), tmp_path))
    rng = np.random.default_rng(3)
    samples = [rng.normal(0, 1.2, (3, 4, 4)).astype(np.float32) for _ in range(8)]
    golden = check_every_tensor(network, samples)
    tensor = network.graph.tensors[network.graph.index[x.name]]
    index = network.graph.index[x.name]
    taken = {bool(tensor.real(golden.tensor(golden.run(s), index)).sum() > 0) for s in samples}
    assert taken == {True, False}
    assert "If" in hosted(network.graph) and len(network.graph.layers) == 2
    assert all(lsb_from_original(network, golden, sample) == 0 for sample in samples)


# ---- inputs and answers


def test_an_answer_in_float_is_the_answer(tmp_path: Path) -> None:
    b = fresh()
    model = b.model(conv_of(b, b.input((1, 3, 4, 4))))
    model.graph.node.append(helper.make_node("Softmax", ["output"], ["chances"], name="late", axis=1))
    model.graph.output[0].name = "chances"
    network = exact(model, b.image(), tmp_path)
    assert network.graph.output == "chances" and network.graph.answer is None


def test_a_host_segment_may_write_the_answer_in_bytes(tmp_path: Path) -> None:
    """The answer keeps its scale: real values are those of ONNX Runtime."""
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    y = b.quantise(b.node("Softmax", [b.real(x)], axis=1), x.shape, 1 / 200)
    network = exact(b.model(y), b.image(), tmp_path)
    assert network.graph.answer is not None and network.graph.answer.scale == np.float32(1 / 200)


def test_an_unused_second_input_may_stay(tmp_path: Path) -> None:
    b = fresh()
    model = b.model(conv_of(b, b.input((1, 3, 4, 4))))
    model.graph.input.append(helper.make_tensor_value_info("mask", onnx.TensorProto.FLOAT, [1]))
    exact(model, {"input": b.image(), "mask": np.zeros(1, np.float32)}, tmp_path)


def test_a_second_input_gates_the_network(tmp_path: Path) -> None:
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    y = b.quantise(b.node("Mul", [b.real(x), "gate"]), x.shape, x.scale)
    model = b.model(matmul_of(b, y))
    model.graph.input.append(helper.make_tensor_value_info("gate", onnx.TensorProto.FLOAT, [1, 2, 1, 1]))
    answers = set()
    for gate in (0.0, 1.0, -0.5):
        sample = {"input": b.image(), "gate": np.full((2, 1, 1), gate, np.float32)}
        network = exact(model, sample, tmp_path)
        assert [spec.name for spec in network.graph.inputs] == ["input", "gate"]
        answers.add(check_every_tensor(network, [sample]).run(sample).values.tobytes())
    assert len(answers) == 3


def test_bytes_in_and_bytes_out(tmp_path: Path) -> None:
    """No float tensor at all: an image sensor's bytes go straight into the first layer."""
    b = fresh("qop", kind=np.uint8)
    x = conv_of(b, b.input((1, 3, 4, 4)))
    model = b.model(x)
    first, last = model.graph.node[0], model.graph.node[-1]
    assert (first.op_type, last.op_type) == ("QuantizeLinear", "DequantizeLinear")
    model.graph.input[0].name, model.graph.output[0].name = first.output[0], x.name
    for info in (model.graph.input[0], model.graph.output[0]):
        info.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    model.graph.node.remove(first)
    model.graph.node.remove(last)
    sample = np.random.default_rng(1).integers(0, 256, (3, 4, 4)).astype(np.uint8)
    graph = exact(model, sample, tmp_path).graph
    assert [type(op).__name__ for op in graph.ops] == ["MacLayer"]
    assert graph.inputs[0].dtype == np.uint8


# ---- numbers


@pytest.mark.parametrize("repeats", [1, 2])
def test_an_output_quantised_channel_by_channel_leaves_as_accumulators(repeats: int, tmp_path: Path) -> None:
    b = fresh()
    model = b.model(conv_of(b, b.input((1, 3, 4, 4))))
    real = named(model, "Conv").output[0]
    quantise = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == real)
    for name in quantise.input[1:]:
        value = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))
        replace_constant(model, name, np.repeat(value, 2) * (np.array([1, repeats]).astype(value.dtype)))
    (layer,) = exact(model, b.image(), tmp_path).graph.layers
    assert layer.requantisation is None and isinstance(layer.target, str)


def test_a_bias_in_another_scale_is_not_silently_rescaled(tmp_path: Path) -> None:
    """QLinearConv adds the bias as x_scale * w_scale; here the file says three times that."""
    b = fresh()
    model = b.model(conv_of(b, b.input((1, 3, 4, 4))))
    scale = triple_of(model, named(model, "Conv").input[2])[1]
    value = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == scale))
    replace_constant(model, scale, value * np.float32(3))
    assert len(exact(model, b.image(), tmp_path).graph.layers) == 1


def test_a_tensor_has_readers_on_both_sides(tmp_path: Path) -> None:
    """One tensor read by a segment and by the array at once."""
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    soft = b.quantise(b.node("Softmax", [b.real(x)], axis=1), x.shape, 1 / 128)
    graph = exact(b.model(b.add(conv_of(b, x), soft)), b.image(), tmp_path).graph
    assert hosted(graph) == ["Softmax", "QuantizeLinear"] and len(graph.layers) == 2


def test_every_element_of_an_image_is_a_class(tmp_path: Path) -> None:
    b = fresh()
    assert load(saved(b.model(conv_of(b, b.input((1, 3, 4, 5)))), tmp_path)).graph.classes == 40
