"""From a trained PyTorch network to the float and int8 ONNX files of a bundled model.

Folding, export, static quantisation and measurement live here; networks, data and training do not.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

INPUT, OUTPUT = "input", "logits"
OPSET = 17
BATCH_IMAGES = 100

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


class ConvNorm(nn.Module):
    """A bias-free convolution and its batch normalisation, which `fold` makes one convolution with bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.conv(x))
        return normed


def fold(network: nn.Module) -> nn.Module:
    """An inference copy of `network` in which each direct child ConvNorm is a plain Conv2d."""
    folded = copy.deepcopy(network).eval()
    for name, child in list(folded.named_children()):
        if isinstance(child, ConvNorm):
            setattr(folded, name, fuse_conv_bn_eval(child.conv, child.norm))
    return folded


def export_float(network: nn.Module, image_shape: tuple[int, int, int], path: Path) -> None:
    """Write `network`, folded, as ONNX: input (N, *image_shape) float32, output logits (N, classes)."""
    torch.onnx.export(
        fold(network),
        (torch.zeros(1, *image_shape),),
        path,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "N"}, OUTPUT: {0: "N"}},
        opset_version=OPSET,
        dynamo=False,
    )
    model = onnx.load(path)
    name_nodes(model.graph)
    save_checked(model, path)


def name_nodes(graph: onnx.GraphProto) -> None:
    """Name nodes after their module (`conv1`), or after what they are (`conv1_relu`, `add2`, `flatten1`).

    A tensor takes the name of the node that produces it; graph input and output keep theirs.
    """
    seen: Counter[str] = Counter()
    tensors = {INPUT: INPUT, OUTPUT: OUTPUT}
    for node in graph.node:
        module = "_".join(node.name.split("/")[1:-1])
        kind = node.op_type.lower()
        seen[kind] += 1
        if node.op_type == "Relu":
            node.name = f"{tensors[node.input[0]]}_relu"
        else:
            node.name = module or f"{kind}{seen[kind]}"
        tensors.setdefault(node.output[0], node.name)
        node.input[:] = [tensors.get(name, name) for name in node.input]
        node.output[:] = [tensors[node.output[0]]]
    del graph.value_info[:]


def save_checked(model: onnx.ModelProto, path: Path) -> None:
    """Write `model` with the shapes of all its tensors; raises onnx.checker.ValidationError if not valid."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(inferred, full_check=True)
    onnx.save(inferred, path)


def feeds(inputs: Floats) -> Iterator[dict[str, Floats]]:
    """`inputs` (n, C, H, W) as ONNX Runtime takes them, BATCH_IMAGES at a time."""
    for first in range(0, len(inputs), BATCH_IMAGES):
        yield {INPUT: inputs[first : first + BATCH_IMAGES]}


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Inputs (n, C, H, W) float32 handed to the quantiser in batches."""

    def __init__(self, inputs: Floats) -> None:
        self.feeds = feeds(inputs)

    def get_next(self) -> dict[str, Floats] | None:
        return next(self.feeds, None)


def quantise(float_path: Path, int8_path: Path, calibration: Floats) -> None:
    """Write the int8 QDQ form of a float model.

    Weights are symmetric per output channel, activations asymmetric per tensor, biases int32. An
    activation ranges from the mean of the batch minima to the mean of the batch maxima over `calibration`,
    which must be training inputs.
    """
    quantize_static(
        float_path,
        int8_path,
        Calibration(calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8,
        extra_options={"CalibMovingAverage": True},
    )
    save_checked(onnx.load(int8_path), int8_path)


def logits(path: Path, inputs: Floats, optimise: bool = True) -> Floats:
    """Logits (n, classes) of the ONNX file for inputs (n, C, H, W), with or without graph optimisations."""
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([OUTPUT], feed)[0] for feed in feeds(inputs)])


def accuracy_line(path: Path, inputs: Floats, labels: Labels) -> str:
    """Accuracy of an ONNX file in percent with the counts behind it, optimisations on and off."""
    right = [int((logits(path, inputs, on).argmax(1) == labels).sum()) for on in (True, False)]
    percent = [f"{100 * count / len(labels):.2f} % ({count})" for count in right]
    return f"{path.name}, n {len(labels)}: optimised {percent[0]}, as written {percent[1]}"


def layer_table(path: Path) -> str:
    """Markdown rows of a float ONNX file: layer, operator, output shape of one image, parameters, MACs."""
    graph = onnx.load(path).graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    typed = [*graph.value_info, *graph.output]
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim][1:] for value in typed}
    rows = ["| layer | operator | output | parameters | MACs |", "|---|---|---|---:|---:|"]
    totals = np.zeros(2, np.int64)
    for node in graph.node:
        kernels = [weights[name] for name in node.input if name in weights]
        cost = layer_cost(kernels, shapes[node.output[0]])
        totals += cost
        size = " x ".join(map(str, shapes[node.output[0]]))
        rows.append(f"| {node.name} | {node.op_type} | {size} | {cost[0]:,} | {cost[1]:,} |")
    return "\n".join([*rows, f"| total | | | {totals[0]:,} | {totals[1]:,} |"])


def layer_cost(kernels: list[tuple[int, ...]], output: list[int]) -> tuple[int, int]:
    """Parameters, and MACs of one image, from the shapes of the weights (kernel, bias) and of the output."""
    if not kernels:
        return 0, 0
    return sum(map(prod, kernels)), prod(output) * prod(kernels[0][1:])


def write_test_set(path: Path, inputs: Floats, labels: Labels) -> None:
    """Write `inputs` float32 as the model takes them and `labels` int64 to a compressed npz."""
    np.savez_compressed(path, inputs=inputs.astype(np.float32), labels=labels.astype(np.int64))


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """The data of a bundled model: training inputs to calibrate on, test inputs and labels to measure on.

    `bundled` is the number of leading test images that go into test.npz.
    """

    name: str
    calibration: Floats
    inputs: Floats
    labels: Labels
    bundled: int


def write(network: nn.Module, bundle: Bundle, folder: Path) -> None:
    """Write the float and int8 ONNX files and test.npz to `folder`; print the figures of the model card."""
    folder.mkdir(parents=True, exist_ok=True)
    float_path, int8_path = (folder / f"{bundle.name}_{kind}.onnx" for kind in ("float", "int8"))
    export_float(network, bundle.inputs.shape[1:], float_path)
    quantise(float_path, int8_path, bundle.calibration)
    write_test_set(folder / "test.npz", bundle.inputs[: bundle.bundled], bundle.labels[: bundle.bundled])
    print(layer_table(float_path))
    for n in sorted({bundle.bundled, len(bundle.inputs)}):
        for path in (float_path, int8_path):
            print(accuracy_line(path, bundle.inputs[:n], bundle.labels[:n]))
