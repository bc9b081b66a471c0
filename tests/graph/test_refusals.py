"""What cannot be run is refused by name, whatever is wrong with the file; never a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_models import Builder
from oracle import check_every_tensor, lsb_from_original, saved
from small_models import conv_of, fresh

from emulator.errors import UnsupportedModel
from emulator.graph.load import load


def refused(model: onnx.ModelProto, tmp_path: Path, *words: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        load(saved(model, tmp_path))
    message = str(caught.value)
    for word in (*words, "allowed"):
        assert word in message, message


def one_conv() -> tuple[Builder, onnx.ModelProto]:
    b = fresh()
    return b, b.model(conv_of(b, b.input((1, 3, 4, 4))))


# ---- nothing to run on the array


def test_a_float_model_is_refused_with_the_way_to_quantise_it(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")], "g", [x], [y], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    refused(
        model, tmp_path, "no integer MAC layer", "'fc'", "not dequantised from integers", "emulator quantize"
    )


def test_the_bundled_float_models_are_refused(bundled: Any) -> None:
    path = bundled.path.with_name(bundled.path.name.replace("int8", "float"))
    assert path.is_file()
    with pytest.raises(UnsupportedModel, match="emulator quantize"):
        load(path)


# ---- shapes and types of inputs


def test_a_free_image_size_is_refused_until_it_is_given(tmp_path: Path) -> None:
    b, model = one_conv()
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    refused(model, tmp_path, "height", "--shape input=1,...")
    image = np.random.default_rng(2).normal(size=(3, 4, 6)).astype(np.float32)
    network = load(saved(model, tmp_path), shapes={"input": (1, 3, 4, 6)})
    assert network.graph.inputs[0].sample_shape == (3, 4, 6)
    check_every_tensor(network, [image, b.image()[:, :, [0, 1, 2, 3, 0, 1]]])


def test_a_shape_for_no_input_is_refused(tmp_path: Path) -> None:
    _, model = one_conv()
    with pytest.raises(UnsupportedModel, match="'picture'; allowed: inputs of the model: input"):
        load(saved(model, tmp_path), shapes={"picture": (1, 3, 4, 4)})


def test_a_fixed_batch_becomes_one(tmp_path: Path) -> None:
    b, model = one_conv()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    network = load(saved(model, tmp_path))
    assert network.graph.inputs[0].shape == (1, 3, 4, 4)
    golden = check_every_tensor(network, [b.image()])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    free = load(saved(model, tmp_path))
    assert lsb_from_original(free, golden, b.image()) == 0


def test_an_input_of_strings_is_refused(tmp_path: Path) -> None:
    _, model = one_conv()
    model.graph.input.append(helper.make_tensor_value_info("words", onnx.TensorProto.STRING, [1]))
    refused(model, tmp_path, "'words'", "strings")


def test_an_unknown_output_is_refused(tmp_path: Path) -> None:
    _, model = one_conv()
    with pytest.raises(UnsupportedModel, match="'answer'; allowed: those of the model: output"):
        load(saved(model, tmp_path), answer="answer")


# ---- what ONNX Runtime itself refuses


def test_an_addition_of_shapes_that_do_not_fit_is_refused(tmp_path: Path) -> None:
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    wrong = b.constant("wrong", np.ones((1, 2, 3, 4), np.float32))
    value = b.node("Add", [b.real(x), wrong])
    with pytest.raises(UnsupportedModel, match="Add"):
        load(saved(b.model(b.quantise(value, x.shape, 0.1)), tmp_path))


def test_an_operator_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    b = fresh()
    x = conv_of(b, b.input((1, 3, 4, 4)))
    value = b.node("Enhance", [b.real(x)], domain="film.noir")
    model = b.model(b.quantise(value, x.shape, 0.1))
    model.opset_import.append(helper.make_opsetid("film.noir", 1))
    refused(model, tmp_path, "Enhance", "film.noir")


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
