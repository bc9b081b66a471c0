"""Float to int8 through onnxruntime.quantization: what is asked for is what comes out, and nothing else appears."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from emulator.errors import BadConfig, BadData, UnsupportedModel
from emulator.graph.feeds import fixed_shapes, read_feeds, seeded_inputs
from emulator.graph.load import load
from emulator.graph.quantize import QuantizeOptions, kind_of, quantize
from emulator.graph.session import open_session

MODELS = Path(__file__).parents[2] / "models"
FLOAT = MODELS / "digits/digits_cnn_float.onnx"
INT8 = MODELS / "digits/digits_cnn_int8.onnx"


@pytest.fixture(scope="module")
def data() -> dict[str, npt.NDArray[Any]]:
    with np.load(MODELS / "digits/test.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def initialisers(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return list(model.graph.initializer)


def weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Stored weights: the quantised tensors with more than one axis."""
    return [t for t in initialisers(model) if len(t.dims) > 1 and t.data_type != TensorProto.FLOAT]


def activation_zero_points(model: onnx.ModelProto) -> list[npt.NDArray[Any]]:
    """What QuantizeLinear nodes of activations add."""
    constants = {t.name: numpy_helper.to_array(t) for t in initialisers(model)}
    return [constants[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]


def accuracy(model: onnx.ModelProto, data: dict[str, npt.NDArray[Any]]) -> float:
    logits = open_session(model).run(None, {"input": data["inputs"]})[0]
    return float((logits.argmax(axis=1) == data["labels"]).mean())


@pytest.mark.parametrize(
    "options",
    [
        QuantizeOptions(),
        QuantizeOptions(format="qoperator"),
        QuantizeOptions(activation="uint8", per_channel=False, method="entropy"),
        QuantizeOptions(method="percentile", symmetric=True),
        QuantizeOptions(activation="int16"),
        QuantizeOptions(weight="int4"),
        QuantizeOptions(dynamic=True),
        QuantizeOptions(dynamic=True, weight="uint8"),
    ],
    ids=lambda options: f"{options.format}-{options.activation}-{options.weight}-{options.dynamic}",
)
def test_a_quantised_model_still_answers(options: QuantizeOptions, data: dict[str, Any]) -> None:
    made = quantize(FLOAT, data["inputs"][:100], options=options)
    assert kind_of(made) == "quantised"
    # ONNX Runtime is the judge: float and int8 give the same class but for a few samples (int4: some more).
    assert accuracy(made, data) > accuracy(onnx.load(FLOAT), data) - (0.1 if "4" in options.weight else 0.02)


def test_default_is_int8_qdq_per_channel_and_the_emulator_runs_it(
    data: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "made.onnx"
    made = quantize(FLOAT, data["inputs"][:50], output=file)
    assert file.read_bytes() == made.SerializeToString()
    assert {t.data_type for t in weights(made)} == {TensorProto.INT8}
    scales = [t.dims[0] for t in initialisers(made) if t.name.endswith("weight_scale") and len(t.dims)]
    assert scales == [4, 8, 10]  # output channels of conv1, conv2, fc
    assert {str(z.dtype) for z in activation_zero_points(made)} == {"int8"}
    assert [layer.name for layer in load(file).graph.layers] == ["conv1", "conv2", "fc"]


@pytest.mark.parametrize(("activation", "dtype"), [("uint8", "uint8"), ("int16", "int16")])
def test_activation_type_and_symmetry_reach_the_quantiser(
    activation: Any, dtype: str, data: dict[str, Any]
) -> None:
    options = QuantizeOptions(activation=activation, symmetric=True)
    zero_points = activation_zero_points(quantize(FLOAT, data["inputs"][:20], options=options))
    assert {str(z.dtype) for z in zero_points} == {dtype}
    assert {int(z) for z in zero_points} == {128 if dtype == "uint8" else 0}


def test_int4_weights_are_stored_as_int4(data: dict[str, Any]) -> None:
    made = quantize(FLOAT, data["inputs"][:20], options=QuantizeOptions(weight="int4"))
    assert {t.data_type for t in weights(made)} == {TensorProto.INT4}


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 100])
def test_ranges_are_those_of_all_calibration_inputs(count: int, data: dict[str, Any]) -> None:
    """The extremes of the logits, as the float model gives them."""
    logits = open_session(onnx.load(FLOAT)).run(None, {"input": data["inputs"][:count]})[0]
    made = quantize(FLOAT, data["inputs"], limit=count)
    (last,) = (node for node in made.graph.node if made.graph.output[0].name in node.output)
    constants = {t.name: numpy_helper.to_array(t) for t in initialisers(made)}
    scale, zero = constants[last.input[1]], constants[last.input[2]].astype(int)
    low, high = (np.array([-128, 127]) - zero) * scale
    assert (low, high) == pytest.approx((min(0, logits.min()), max(0, logits.max())), abs=float(scale))


def test_a_limit_is_the_same_as_fewer_samples(data: dict[str, Any]) -> None:
    limited = quantize(FLOAT, data["inputs"], limit=5)
    assert limited.SerializeToString() == quantize(FLOAT, data["inputs"][:5]).SerializeToString()
    assert limited.SerializeToString() != quantize(FLOAT, data["inputs"]).SerializeToString()


def test_nothing_is_printed_and_no_file_is_left(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    quantize(FLOAT, data["inputs"][:10], options=QuantizeOptions(method="entropy"))
    assert tuple(capfd.readouterr()) == ("", "")
    assert os.listdir(tmp_path) == ["temporary"]
    assert os.listdir(tmp_path / "temporary") == []


def test_the_model_given_is_left_as_it_is() -> None:
    """With weights of several KiB, which onnxruntime's preprocessing moves out of a model it is given."""
    model = onnx.load(MODELS / "fashion_mnist/fashion_cnn_float.onnx")
    before = model.SerializeToString()
    with np.load(MODELS / "fashion_mnist/test.npz") as arrays:
        quantize(model, arrays["inputs"][:4])
    assert model.SerializeToString() == before


def test_calibration_takes_npz_dictionary_and_array_alike(data: dict[str, Any], tmp_path: Path) -> None:
    few = data["inputs"][:8]
    np.savez(tmp_path / "x.npz", input=few)
    made = [quantize(FLOAT, source) for source in (few, {"input": few}, tmp_path / "x.npz")]
    assert len({model.SerializeToString() for model in made}) == 1


# ---- refusals


def weight_only() -> onnx.ModelProto:
    """A product of float activations with int8 weights, dequantised first."""
    weight = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
    constants = {"w": weight, "s": np.float32(0.1), "z": np.int8(0)}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"]),
        helper.make_node("MatMul", ["x", "wf"], ["y"], name="product"),
    ]
    graph = helper.make_graph(
        nodes,
        "weight_only",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_kinds_are_told_apart(data: dict[str, Any]) -> None:
    relu = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "r", [], []))
    dynamic = quantize(FLOAT, options=QuantizeOptions(dynamic=True))
    assert kind_of(onnx.load(FLOAT)) == "float"
    assert kind_of(onnx.load(INT8)) == "quantised"
    assert kind_of(dynamic) == "quantised"
    assert kind_of(weight_only()) == "weight-only"
    assert kind_of(relu) == "no MAC layer"


def test_refusals_say_what_to_do(data: dict[str, Any], tmp_path: Path) -> None:
    few = data["inputs"][:4]
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(UnsupportedModel, match="quantised already"):
        quantize(INT8, few)
    with pytest.raises(UnsupportedModel, match=r"weight-only.*float model it was made from"):
        quantize(weight_only(), few)
    with pytest.raises(UnsupportedModel, match="not a file"):
        quantize(tmp_path / "absent.onnx", few)
    with pytest.raises(UnsupportedModel, match="can't be read as ONNX"):
        quantize(tmp_path / "text.onnx", few)
    with pytest.raises(BadConfig, match=r"--calibration.*--dynamic"):
        quantize(FLOAT)
    with pytest.raises(BadConfig, match="is not a folder"):
        quantize(FLOAT, few, output=tmp_path / "absent/made.onnx")
    with pytest.raises(BadConfig, match="allowed: qdq, qoperator"):
        QuantizeOptions(format="tflite")  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match="Use format='qdq'"):
        QuantizeOptions(format="qoperator", weight="int4")
    with pytest.raises(BadConfig, match="allowed: int8, uint8"):
        QuantizeOptions(dynamic=True, weight="int4")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x[:, :, :4], r"\(samples, 1, 8, 8\)"),
        (lambda x: x[:0], "at least one sample"),
        (lambda x: x.astype(np.float64), "allowed: float32"),
        (lambda x: np.where(x == x[0, 0, 0, 0], np.float32(np.nan), x), "NaN"),
        (lambda x: {"other": x, "second": x}, "allowed: an array for each of input"),
    ],
)
def test_calibration_that_does_not_fit_is_refused(change: Any, reason: str, data: dict[str, Any]) -> None:
    with pytest.raises(BadData, match=reason):
        quantize(FLOAT, change(data["inputs"][:4]))


# ---- free dimensions


def free_model() -> onnx.ModelProto:
    """A convolution whose image may have any size."""
    weight = np.ones((2, 1, 3, 3), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])],
        "free",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, "H", "W"])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_free_dimensions_are_fixed_but_the_batch_stays_free() -> None:
    with pytest.raises(BadConfig, match="--shape x=1"):
        seeded_inputs(free_model())
    fixed = fixed_shapes(free_model(), {"x": [1, 1, 6, 5]})
    assert seeded_inputs(fixed, samples=3)["x"].shape == (3, 1, 6, 5)
    made = open_session(fixed).run(None, seeded_inputs(fixed, samples=3))[0]
    assert made.shape == (3, 2, 6, 5)


def test_a_shape_that_contradicts_the_model_is_refused() -> None:
    for shape in ([1, 3, 6, 5], [1, 1, 6], [1, 1, 0, 5]):
        with pytest.raises(BadConfig, match="allowed: N,1,H,W"):
            fixed_shapes(free_model(), {"x": shape})
    with pytest.raises(BadConfig, match="allowed: x"):
        fixed_shapes(free_model(), {"image": [1, 1, 6, 5]})


def test_seeded_inputs_are_the_same_for_the_same_seed() -> None:
    model = fixed_shapes(free_model(), {"x": [1, 1, 4, 4]})
    first, again, other = (seeded_inputs(model, seed=seed)["x"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert read_feeds(model, first, limit=3)["x"].shape == (3, 1, 4, 4)


def test_the_model_and_its_data_are_never_written_over(data: dict[str, Any], tmp_path: Path) -> None:
    model, calibration = tmp_path / "model.onnx", tmp_path / "calibration.npz"
    shutil.copy(FLOAT, model)
    np.savez(calibration, inputs=data["inputs"][:5])
    for output in (model, tmp_path / "x/../model.onnx", calibration):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(BadConfig, match="Choose another name"):
            quantize(model, calibration, output=output)
    assert model.read_bytes() == FLOAT.read_bytes()
