"""Models that onnxruntime.quantization itself writes, in every form it offers: tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import run_unoptimised
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from emulator.errors import UnsupportedModel
from emulator.graph.golden import Golden
from emulator.graph.load import load

IMAGES = np.random.default_rng(17).normal(0, 1, (12, 3, 9, 9)).astype(np.float32)


def float_model() -> onnx.ModelProto:
    """What deployments hold: strided, grouped and 1x1 convolutions, ReLU, a residual, both pools, two layers."""
    rng = np.random.default_rng(23)
    weights: dict[str, npt.NDArray[Any]] = {}

    def weight(name: str, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 10
        weights[name] = (rng.normal(size=shape) / fan_in**0.5).astype(np.float32)
        return name

    def conv(x: str, y: str, cout: int, cin: int, kernel: int, **attributes: Any) -> onnx.NodeProto:
        inputs = [x, weight(f"{y}_w", cout, cin, kernel, kernel), weight(f"{y}_b", cout)]
        return helper.make_node("Conv", inputs, [y], name=y, **attributes)

    def node(op: str, inputs: list[str], y: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [y], name=y, **attributes)

    nodes = [
        conv("x", "stem", 8, 3, 3, pads=[1, 1, 1, 1]),
        node("Relu", ["stem"], "stem_relu"),
        conv("stem_relu", "depthwise", 8, 1, 3, pads=[1, 1, 1, 1], group=8),
        node("Relu", ["depthwise"], "depthwise_relu"),
        conv("depthwise_relu", "pointwise", 8, 8, 1),
        node("Add", ["pointwise", "stem_relu"], "residual"),
        node("MaxPool", ["residual"], "pooled", kernel_shape=[2, 2], strides=[2, 2]),
        conv("pooled", "grouped", 6, 4, 3, pads=[0, 1, 1, 0], group=2, strides=[1, 2]),
        node("AveragePool", ["grouped"], "averaged", kernel_shape=[2, 1], strides=[1, 1]),
        node("Flatten", ["averaged"], "flat"),
        node("Gemm", ["flat", weight("hidden_w", 12, 24), weight("hidden_b", 12)], "hidden", transB=1),
        node("Relu", ["hidden"], "hidden_relu"),
        node("MatMul", ["hidden_relu", weight("head_w", 12, 5)], "logits"),
    ]
    graph = helper.make_graph(
        nodes,
        "deployed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 9, 9])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.rows: Iterator[npt.NDArray[np.float32]] = iter(IMAGES)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        row = next(self.rows, None)
        return None if row is None else {"x": row[np.newaxis]}


def quantised(folder: Path, *, form: QuantFormat, kind: QuantType, per_channel: bool, **extra: Any) -> Path:
    onnx.save(float_model(), folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        Reader(),
        quant_format=form,
        activation_type=kind,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
        # 7-bit weights: ONNX Runtime's u8 x s8 kernels saturate on some CPUs.
        reduce_range=kind == QuantType.QUInt8,
        extra_options={"WeightSymmetric": True, **extra},
    )
    return folder / "int8.onnx"


@pytest.mark.parametrize("per_channel", [True, False], ids=["per-channel", "per-tensor"])
@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8], ids=["s8", "u8"])
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator], ids=["QDQ", "QOperator"])
def test_every_tensor_of_a_quantised_model_equals_onnx_runtime(
    tmp_path: Path, form: QuantFormat, kind: QuantType, per_channel: bool
) -> None:
    network = load(quantised(tmp_path, form=form, kind=kind, per_channel=per_channel))
    golden = Golden(network.graph)
    names = [node.output[0] for node in network.reference.graph.node if node.op_type != "DequantizeLinear"]
    integers = [name for name in names if name in {t.name for t in network.graph.tensors}]
    assert len(network.graph.layers) == 6
    assert len(integers) == 11
    differing_answers = set()
    for image in IMAGES:
        run = golden.run(image)
        want = run_unoptimised(network.reference, integers, {"x": image[np.newaxis]})
        for index, tensor in enumerate(network.graph.tensors):
            if tensor.name in want:
                found = tensor.to_onnx(golden.tensor(run, index)[np.newaxis])[0]
                np.testing.assert_array_equal(found, want[tensor.name], err_msg=tensor.name)
        differing_answers.add(golden.logits(run).tobytes())
    assert len(differing_answers) > 6


def test_symmetric_activations_keep_their_relu_and_stay_exact_or_are_refused(tmp_path: Path) -> None:
    path = quantised(
        tmp_path, form=QuantFormat.QDQ, kind=QuantType.QInt8, per_channel=True, ActivationSymmetric=True
    )
    try:
        network = load(path)
    except UnsupportedModel as error:
        assert "allowed" in str(error)
        return
    golden = Golden(network.graph)
    answer = network.graph.tensors[network.graph.output]
    for image in IMAGES:
        want = run_unoptimised(network.reference, [answer.name], {"x": image[np.newaxis]})[answer.name]
        np.testing.assert_array_equal(golden.logits(golden.run(image)), want.reshape(-1))


def test_the_quantised_model_still_answers_like_the_float_one(tmp_path: Path) -> None:
    """Through the emulator, dequantised: the rewriting to integers loses no operator."""
    network = load(quantised(tmp_path, form=QuantFormat.QDQ, kind=QuantType.QInt8, per_channel=True))
    golden = Golden(network.graph)
    answer = network.graph.tensors[network.graph.output]
    real = np.stack([answer.real(golden.logits(golden.run(image))) for image in IMAGES])
    want = run_unoptimised(float_model(), ["logits"], {"x": IMAGES})["logits"]
    assert np.abs(real - want).max() < 0.1 * np.abs(want).max()
