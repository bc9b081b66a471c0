"""What cannot be executed exactly is refused by name, whatever is wrong with the file; never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_models import Builder, Tensor, run_unoptimised

from emulator.errors import UnsupportedModel
from emulator.graph.golden import Golden
from emulator.graph.load import load

Edit = Callable[[onnx.ModelProto], None]


def conv_of(b: Builder, x: Tensor, **attributes: Any) -> Tensor:
    out = (1, 2, x.shape[2], x.shape[3])
    return b.mac(
        "Conv", x, (2, x.shape[1], 1, 1), out, k=x.shape[1], channels=2, per_channel=False, with_bias=True,
        attributes=attributes,
    )  # fmt: skip


def fresh(form: str = "qdq", **settings: Any) -> Builder:
    return Builder(np.random.default_rng(0), form=form, **settings)


def saved(model: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


def refused(model: onnx.ModelProto, tmp_path: Path, *words: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        load(saved(model, tmp_path))
    message = str(caught.value)
    for word in (*words, "allowed"):
        assert word in message, message


def named(model: onnx.ModelProto, op: str, name: str) -> onnx.NodeProto:
    """Names the only node of this type."""
    (node,) = [node for node in model.graph.node if node.op_type == op]
    node.name = name
    return node


# ---- operators


@pytest.mark.parametrize("op", ["Softmax", "ReduceMean", "LayerNormalization", "InstanceNormalization"])
def test_an_unsupported_operator_is_refused_by_name_and_node(op: str, tmp_path: Path) -> None:
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    ones = b.constant("ones", np.ones(4 if op == "LayerNormalization" else 2, np.float32))
    rest = {"LayerNormalization": [ones], "InstanceNormalization": [ones, ones]}.get(op, [])
    value = b.node(op, [b.real(x), *rest])
    model = b.model(b.quantise(value, x.shape, 0.1))
    named(model, op, "the_culprit")
    refused(model, tmp_path, op, "the_culprit")


def test_a_concatenation_is_refused_by_node(tmp_path: Path) -> None:
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    value = b.node("Concat", [b.real(x), b.real(x)], axis=1)
    model = b.model(b.quantise(value, (1, 4, 4, 4), 0.1))
    named(model, "Concat", "joined")
    refused(model, tmp_path, "Concat", "joined")


def test_an_addition_that_broadcasts_is_refused(tmp_path: Path) -> None:
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    narrow = b.moved(
        x, "Slice", [b.constant("c", np.array([v], np.int64)) for v in (0, 1, 2)], (1, 2, 1, 4), True
    )
    model = b.model(b.add(x, narrow))
    named(model, "Add", "broadcast")
    refused(model, tmp_path, "broadcast", "equal shapes")


def test_a_transposed_left_operand_or_a_factor_in_gemm_is_refused(tmp_path: Path) -> None:
    for attributes in ({"alpha": 2.0}, {"beta": 0.5}):
        b = fresh()
        x = b.mac(
            "Gemm", b.input((1, 5)), (5, 3), (1, 3), k=5, channels=3, per_channel=False, with_bias=True, axis=1,
            attributes=attributes,
        )  # fmt: skip
        model = b.model(x)
        named(model, "Gemm", "scaled")
        refused(model, tmp_path, "scaled", next(iter(attributes)))


def test_a_weight_that_is_computed_is_refused(tmp_path: Path) -> None:
    b = fresh()
    x = b.moved(b.input((1, 4, 4)), "Reshape", [b.constant("s", np.array([1, 4, 4]))], (1, 4, 4), True)
    product = b.node("MatMul", [b.real(x), b.real(x)])
    y = b.quantise(product, (1, 4, 4), 0.1)
    model = b.model(matmul_of(b, y))
    next(n for n in model.graph.node if n.op_type == "MatMul").name = "attention"
    refused(model, tmp_path, "attention", "constant")


def matmul_of(b: Builder, x: Tensor) -> Tensor:
    return b.mac(
        "MatMul", x, (x.shape[-1], 3), (*x.shape[:-1], 3), k=x.shape[-1], channels=3, per_channel=False,
        with_bias=False, axis=1, attributes={},
    )  # fmt: skip


# ---- numbers


@pytest.mark.parametrize("zero_point", [3, -7])
def test_asymmetric_weights_are_refused(zero_point: int, tmp_path: Path) -> None:
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    model = b.model(x)
    conv = named(model, "Conv", "lopsided")
    replace_constant(model, model_triple(model, conv.input[1])[2], np.int8(zero_point))
    refused(model, tmp_path, "lopsided", "zero point", str(zero_point))


def test_sixteen_bit_activations_are_refused(tmp_path: Path) -> None:
    b = fresh(opset=21)
    x = conv_of(b, b.input((1, 3, 4, 4)))
    scale, zero = b.constant("scale", np.float32(0.001)), b.constant("zero", np.int16(0))
    value = b.node("QuantizeLinear", [b.node("Relu", [b.real(x)]), scale, zero])
    answer = Tensor(name=value, shape=x.shape, scale=0.001, scale_name=scale, zero_name=zero)
    refused(b.model(answer), tmp_path, "int16")


def test_per_channel_activations_are_refused(tmp_path: Path) -> None:
    b = fresh()
    model = b.model(conv_of(b, b.input((1, 3, 4, 4))))
    real = named(model, "Conv", "c").output[0]
    quantise = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == real)
    for name in quantise.input[1:]:
        replace_constant(model, name, np.repeat(numpy_helper.to_array(constant(model, name)), 2))
    with pytest.raises(UnsupportedModel):
        load(saved(model, tmp_path))


def test_a_bias_in_another_scale_is_refused(tmp_path: Path) -> None:
    """QLinearConv adds the bias as x_scale * w_scale; any other scale would be silently wrong."""
    b = fresh()
    model = b.model(conv_of(b, b.input((1, 3, 4, 4))))
    conv = named(model, "Conv", "foreign_bias")
    scale = model_triple(model, conv.input[2])[1]
    replace_constant(model, scale, numpy_helper.to_array(constant(model, scale)) * np.float32(3))
    refused(model, tmp_path, "foreign_bias", "bias")


def constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def model_triple(model: onnx.ModelProto, real: str) -> list[str]:
    """Inputs of the DequantizeLinear that makes `real`."""
    return list(next(n for n in model.graph.node if real in n.output).input)


def replace_constant(model: onnx.ModelProto, name: str, value: Any) -> None:
    constant(model, name).CopyFrom(numpy_helper.from_array(np.asarray(value), name))


# ---- shapes and forms


def test_a_fixed_batch_of_four_is_refused(tmp_path: Path) -> None:
    b = fresh()
    model = b.model(conv_of(b, b.input((1, 3, 4, 4))))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    refused(model, tmp_path, "batch of 4")


def test_a_free_image_size_is_refused(tmp_path: Path) -> None:
    b = fresh()
    model = b.model(conv_of(b, b.input((1, 3, 4, 4))))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    refused(model, tmp_path, "height")


def test_a_float_model_is_refused_with_the_way_to_quantise_it(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")], "g", [x], [y], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    refused(model, tmp_path, "quant")


def test_the_bundled_float_models_are_refused(bundled: Any) -> None:
    path = bundled.path.with_name(bundled.path.name.replace("int8", "float"))
    assert path.is_file()
    with pytest.raises(UnsupportedModel, match="quantize_static"):
        load(path)


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    b = fresh()
    model = b.model(conv_of(b, b.input((1, 3, 4, 4))))
    second = helper.make_tensor_value_info("mask", onnx.TensorProto.FLOAT, [1])
    model.graph.input.append(second)
    refused(model, tmp_path, "2 inputs")


def test_an_answer_in_float_is_refused(tmp_path: Path) -> None:
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    model = b.model(x)
    model.graph.node.append(helper.make_node("Relu", ["output"], ["activated"], name="late"))
    model.graph.output[0].name = "activated"
    refused(model, tmp_path, "Relu")


def test_a_matrix_product_over_images_is_exact_or_refused(tmp_path: Path) -> None:
    """A rank-4 MatMul contracts the last ONNX axis, which is not the last axis in storage."""
    b = fresh()
    x = b.input((1, 3, 5, 4))
    exact_or_refused(b.model(matmul_of(b, x)), b.image(), tmp_path)


def test_a_stack_of_weight_matrices_is_exact_or_refused(tmp_path: Path) -> None:
    b = fresh()
    x = b.input((1, 2, 4))
    y = b.mac(
        "MatMul", x, (1, 4, 3), (1, 2, 3), k=4, channels=3, per_channel=False, with_bias=False, attributes={}
    )
    exact_or_refused(b.model(y), b.image(), tmp_path)


@pytest.mark.parametrize("fill", [None, 0, 9])
def test_padding_integers_directly_is_exact_or_refused(fill: int | None, tmp_path: Path) -> None:
    b = fresh("qop")
    x = conv_of(b, b.input((1, 3, 4, 4)))
    rest = [b.constant("pads", np.array([0, 0, 1, 1, 0, 0, 0, 1], np.int64))]
    if fill is not None:
        rest.append(b.constant("fill", np.int8(fill)))
    y = b.moved(x, "Pad", rest, (1, 2, 5, 6), True)
    exact_or_refused(b.model(y), b.image(), tmp_path)


def test_padding_after_an_activation_is_exact_or_refused(tmp_path: Path) -> None:
    """The fill is 0 whatever the activation makes of 0."""
    for rest in ([], [np.float32(0)]):
        b = fresh()
        x = conv_of(b, b.input((1, 3, 4, 4)))
        amount = b.constant("pads", np.array([0, 0, 1, 1, 0, 0, 0, 1], np.int64))
        value = b.node("Sigmoid", [b.real(x)])
        value = b.node("Pad", [value, amount, *(b.constant("fill", fill) for fill in rest)])
        exact_or_refused(b.model(b.quantise(value, (1, 2, 5, 6), 1 / 128)), b.image(), tmp_path)


def exact_or_refused(model: onnx.ModelProto, image: Any, tmp_path: Path) -> None:
    path = saved(model, tmp_path)
    try:
        network = load(path)
    except UnsupportedModel as error:
        assert str(error)
        return
    golden = Golden(network.graph)
    inference = golden.run(image)
    names = [node.output[0] for node in network.reference.graph.node if node.op_type != "DequantizeLinear"]
    want = run_unoptimised(network.reference, names, {"input": image[np.newaxis]})
    for index, tensor in enumerate(network.graph.tensors):
        if tensor.name in want:
            found = tensor.to_onnx(golden.tensor(inference, index)[np.newaxis])
            np.testing.assert_array_equal(found, want[tensor.name], err_msg=tensor.name)


# ---- files


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"absent\.onnx.*allowed"):
        load(tmp_path / "absent.onnx")


def test_a_directory_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="allowed"):
        load(tmp_path)


@given(data=st.binary(max_size=300))
@settings(max_examples=60)
def test_garbage_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.onnx"
    path.write_bytes(data)
    with pytest.raises(UnsupportedModel):
        load(path)


@given(share=st.floats(0, 0.98))
@settings(max_examples=60)
def test_a_truncated_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, digits: Any, share: float
) -> None:
    data = digits.path.read_bytes()
    path = tmp_path_factory.getbasetemp() / "truncated.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnsupportedModel):
        load(path)


@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4)
)
@settings(max_examples=300)
def test_a_damaged_file_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, digits: Any, edits: list[tuple[float, int]]
) -> None:
    data = bytearray(digits.path.read_bytes())
    for place, value in edits:
        data[int(place * len(data))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(bytes(data))
    try:
        load(path)
    except UnsupportedModel as error:
        assert "damaged.onnx" in str(error) or "allowed" in str(error) or "ONNX Runtime" in str(error)


@pytest.mark.parametrize(("attribute", "value"), [("group", 0), ("group", 7), ("strides", [0, 0])])
def test_an_impossible_attribute_is_refused(attribute: str, value: Any, digits: Any, tmp_path: Path) -> None:
    model = onnx.load(digits.path)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    kept = [a for a in conv.attribute if a.name != attribute]
    del conv.attribute[:]
    conv.attribute.extend([*kept, helper.make_attribute(attribute, value)])
    with pytest.raises(UnsupportedModel):
        load(saved(model, tmp_path))


def test_a_constant_whose_bytes_do_not_fit_its_shape_is_refused(digits: Any, tmp_path: Path) -> None:
    model = onnx.load(digits.path)
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    weight.dims[0] += 1
    with pytest.raises(UnsupportedModel):
        load(saved(model, tmp_path))
