"""Networks of the literature with random weights, quantised by ONNX Runtime: speed does not depend on what they know.

ResNet-20 (He et al., CVPR'16, CIFAR-10), ResNet-8, DS-CNN and MobileNetV1 0.25 (MLPerf Tiny, Banbury et al. 2021),
MobileNetV2 (Sandler et al., CVPR'18) and ResNet-50 at 224 x 224.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Floats = npt.NDArray[np.float32]


class _Net:
    """A float network under construction; values are (name, channels)."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, array: Floats) -> str:
        name = f"w_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def conv(
        self,
        x: str,
        cin: int,
        cout: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        relu: bool = True,
    ) -> str:
        """SAME padding for stride 1, a folded batch normalisation's bias."""
        depth = cin // groups
        spread = np.sqrt(2 / (depth * kernel * kernel))
        weight = self.constant(spread * self.rng.standard_normal((cout, depth, kernel, kernel)))
        bias = self.constant(0.1 * self.rng.standard_normal(cout))
        pad = kernel // 2
        y = self.node("Conv", [x, weight, bias], strides=[stride] * 2, pads=[pad] * 4, group=groups)
        return self.node("Relu", [y]) if relu else y

    def add(self, a: str, b: str, *, relu: bool = True) -> str:
        y = self.node("Add", [a, b])
        return self.node("Relu", [y]) if relu else y

    def head(self, x: str, channels: int, classes: int) -> str:
        pooled = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        weight = self.constant(self.rng.standard_normal((channels, classes)) / np.sqrt(channels))
        return self.node("Gemm", [pooled, weight, self.constant(np.zeros(classes, np.float32))])

    def model(self, output: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, *self.shape])],
            [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _basic_blocks(net: _Net, x: str, cin: int, widths: list[int], blocks: int) -> tuple[str, int]:
    for width in widths:
        for block in range(blocks):
            stride = 2 if block == 0 and width != widths[0] else 1
            y = net.conv(net.conv(x, cin, width, stride=stride), width, width, relu=False)
            skip = x if cin == width else net.conv(x, cin, width, 1, stride, relu=False)
            x, cin = net.add(y, skip), width
    return x, cin


def resnet20() -> onnx.ModelProto:
    net = _Net((3, 32, 32))
    return net.model(net.head(*_basic_blocks(net, net.conv("input", 3, 16), 16, [16, 32, 64], 3), 10))


def resnet8() -> onnx.ModelProto:
    net = _Net((3, 32, 32))
    return net.model(net.head(*_basic_blocks(net, net.conv("input", 3, 16), 16, [16, 32, 64], 1), 10))


def ds_cnn() -> onnx.ModelProto:
    net = _Net((1, 49, 10))
    x = net.conv("input", 1, 64, 5, 2)
    for _ in range(4):
        x = net.conv(net.conv(x, 64, 64, groups=64), 64, 64, 1)
    return net.model(net.head(x, 64, 12))


def mobilenet_v1() -> onnx.ModelProto:
    net = _Net((3, 96, 96))
    x, cin = net.conv("input", 3, 8, stride=2), 8
    for width, stride in [
        (16, 1),
        (32, 2),
        (32, 1),
        (64, 2),
        (64, 1),
        (128, 2),
        *[(128, 1)] * 5,
        (256, 2),
        (256, 1),
    ]:
        x = net.conv(net.conv(x, cin, cin, stride=stride, groups=cin), cin, width, 1)
        cin = width
    return net.model(net.head(x, cin, 2))


def mobilenet_v2() -> onnx.ModelProto:
    net = _Net((3, 224, 224))
    x, cin = net.conv("input", 3, 32, stride=2), 32
    for expand, width, count, first in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]:  # fmt: skip
        for block in range(count):
            stride, inner = first if block == 0 else 1, cin * expand
            y = net.conv(x, cin, inner, 1) if expand > 1 else x
            y = net.conv(net.conv(y, inner, inner, stride=stride, groups=inner), inner, width, 1, relu=False)
            x = net.add(x, y, relu=False) if stride == 1 and cin == width else y
            cin = width
    return net.model(net.head(net.conv(x, cin, 1280, 1), 1280, 1000))


def resnet50() -> onnx.ModelProto:
    net = _Net((3, 224, 224))
    x = net.conv("input", 3, 64, 7, 2)
    x, cin = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for width, count in [(64, 3), (128, 4), (256, 6), (512, 3)]:
        for block in range(count):
            stride, out = 2 if block == 0 and width > 64 else 1, 4 * width
            y = net.conv(
                net.conv(net.conv(x, cin, width, 1), width, width, stride=stride), width, out, 1, relu=False
            )
            skip = x if block else net.conv(x, cin, out, 1, stride, relu=False)
            x, cin = net.add(y, skip), out
    return net.model(net.head(x, cin, 1000))


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet8": resnet8,
    "ds_cnn": ds_cnn,
    "mobilenet_v1": mobilenet_v1,
    "resnet20": resnet20,
    "mobilenet_v2": mobilenet_v2,
    "resnet50": resnet50,
}


def quantised(name: str, folder: Path) -> Path:
    """The network as QOperator, uint8 activations, int8 weights; kept in `folder` from one call to the next."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    target = folder / f"{name}_u8s8.onnx"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    model = NETWORKS[name]()
    with tempfile.TemporaryDirectory() as room:
        source = Path(room) / "float.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            _Noise([dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]),
            quant_format=QuantFormat.QOperator,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    return target


class _Noise:
    """Two samples of noise, as calibration data."""

    def __init__(self, shape: list[int]) -> None:
        rng = np.random.default_rng(1)
        self.samples: Iterator[dict[str, Floats]] = iter(
            [{"input": rng.standard_normal(shape).astype(np.float32)} for _ in range(2)]
        )

    def get_next(self) -> dict[str, Floats] | None:
        return next(self.samples, None)
