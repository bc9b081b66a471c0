"""Write every model of this folder: what exporters and quantisers really produce, small.

    python tests/data/models/make.py [torch keras sklearn formats]

Needs torch 2.13, tensorflow, tf2onnx, keras, scikit-learn, skl2onnx, onnxscript (see README.md for the versions
used); nothing here is imported by the tests. Seeds are fixed; a run with the same versions writes the same weights.
The digits are scikit-learn's (8 x 8, ten classes); the last 360 are kept for testing, all else trains and calibrates.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.datasets import load_digits
from torch import Tensor, nn

HERE = Path(__file__).parent
SEED = 20260101
TEST = 360
KEPT = 60  # samples written to inputs.npz
CLASSES = 10
OPSET = 17

S8, U8, S16, S4 = QuantType.QInt8, QuantType.QUInt8, QuantType.QInt16, QuantType.QInt4
Array = NDArray[Any]


# ---- data


def digits() -> tuple[Array, Array]:
    """All images (1797, 1, 8, 8) float32 in 0..1 and their labels, shuffled."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    images = (pixels[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return images, labels[order].astype(np.int64)


IMAGES, LABELS = digits()


def write_inputs() -> None:
    """Test images under the input name of every model trained on them: each framework has a shape of its own."""
    images = IMAGES[-TEST:][:KEPT]
    np.savez_compressed(
        HERE / "inputs.npz",
        image=images,
        pixels=images.transpose(0, 2, 3, 1),
        features=images.reshape(KEPT, 64),
        labels=LABELS[-TEST:][:KEPT],
    )


# ---- quantisers


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Samples handed to the quantiser one at a time."""

    def __init__(self, feeds: Iterator[dict[str, Array]]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, Array] | None:
        return next(self.feeds, None)


def calibration(path: Path) -> Calibration:
    """200 digits for a model that takes images, pixels or features; else noise in its input's shape."""
    inputs = ort.InferenceSession(path).get_inputs()
    rng = np.random.default_rng(SEED)

    def feed(i: int) -> dict[str, Array]:
        return {value.name: sample(value, i) for value in inputs}

    def sample(value: Any, i: int) -> Array:
        shape = [size if isinstance(size, int) else 1 for size in value.shape]
        if value.name in ("image", "pixels", "features"):
            return IMAGES[i].reshape(shape)
        return rng.normal(0, 1, shape).astype(np.float32)

    return Calibration(feed(i) for i in range(200))


def prepared(path: Path, folder: str) -> Path:
    """What the quantiser's documentation asks for first: shapes inferred, basic fusions of ONNX Runtime done."""
    target = Path(folder) / path.name
    quant_pre_process(str(path), str(target), skip_symbolic_shape=True)
    return target


def static(source: Path, name: str, activation: QuantType, weight: QuantType, **more: Any) -> Path:
    """Statically quantised, QDQ unless more says otherwise."""
    extra = {"WeightSymmetric": weight != U8, **more.pop("extra_options", {})}
    with tempfile.TemporaryDirectory() as folder:
        start = prepared(source, folder)
        quantize_static(
            start, HERE / name, calibration(start), activation_type=activation, weight_type=weight,
            extra_options=extra, **more,
        )  # fmt: skip
    return checked(name)


def dynamic(source: Path, name: str, weight: QuantType = S8, **more: Any) -> Path:
    """Dynamically quantised: scales of the activations are computed in every inference."""
    with tempfile.TemporaryDirectory() as folder:
        quantize_dynamic(prepared(source, folder), HERE / name, weight_type=weight, **more)
    return checked(name)


def optimised(source: Path, name: str) -> Path:
    """The file as ONNX Runtime's own optimiser rewrites it: integer and fused operators of com.microsoft."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(HERE / name)
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return checked(name)


def checked(name: str) -> Path:
    """The file, valid and runnable; prints its size, operators and, on digits, its accuracy."""
    path = HERE / name
    model = onnx.load(path)
    if not name.endswith("_optimised.onnx"):  # the optimiser keeps no opset import for what it adds
        onnx.checker.check_model(path)
    session = ort.InferenceSession(path)
    ops = sorted({node.op_type for node in model.graph.node})
    opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    print(f"{name}: {path.stat().st_size:,} bytes, opset {opset}, {accuracy(session)} {' '.join(ops)}")
    return path


def accuracy(session: Any) -> str:
    first, *others = session.get_inputs()
    if first.name not in ("image", "pixels", "features") or others:
        rng = np.random.default_rng(0)
        session.run(None, {value.name: noise(value, rng) for value in session.get_inputs()})
        return ""
    images, labels = IMAGES[-TEST:], LABELS[-TEST:]
    shape = [size if isinstance(size, int) else 1 for size in first.shape]
    outputs = [session.run(None, {first.name: image.reshape(shape)})[-1] for image in images]
    return f"{100 * (np.stack(outputs).reshape(TEST, -1).argmax(1) == labels).mean():.2f} %"


def noise(value: Any, rng: np.random.Generator) -> Array:
    shape = [size if isinstance(size, int) else 1 for size in value.shape]
    if value.type == "tensor(uint8)":
        return rng.integers(0, 256, shape).astype(np.uint8)
    return rng.normal(0, 1, shape).astype(np.float32)


# ---- PyTorch


class Attention(nn.Module):
    """Multi-head self-attention, both products written out: two MatMul with two computed operands."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        tokens, width = x.shape[1:]
        return x.reshape(-1, tokens, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self.split(linear(x)) for linear in (self.query, self.key, self.value))
        weights = torch.softmax(torch.matmul(query, key.transpose(-2, -1)) * self.scale, dim=-1)
        mixed = torch.matmul(weights, value).transpose(1, 2).reshape(-1, *x.shape[1:])
        return self.out(mixed)


class Transformer(nn.Module):
    """One pre-norm block over the 16 patches of a digit: 2 x 2 pixels each, 32 wide, 4 heads."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.position = nn.Parameter(torch.randn(1, 16, width) * 0.1)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, 4)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2) + self.position
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(x.mean(dim=1))


def separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Depthwise 3 x 3, then pointwise, each with batch normalisation and ReLU6 (MobileNet)."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False), nn.BatchNorm2d(inputs), nn.ReLU6(),
        nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6(),
    )  # fmt: skip


class MobileNet(nn.Module):
    """Stem, three separable blocks (one residual), global average pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU6())
        self.first, self.same, self.last = separable(12, 24, 2), separable(24, 24, 1), separable(24, 32, 2)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(self.stem(image))
        x = self.last(x + self.same(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def trained(network: nn.Module, epochs: int = 40) -> nn.Module:
    """On all digits but the last TEST."""
    images, labels = torch.from_numpy(IMAGES[:-TEST]), torch.from_numpy(LABELS[:-TEST])
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(48):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimiser.step()
        schedule.step()
    return network.eval()


def exported(
    network: nn.Module,
    name: str,
    example: Tensor | tuple[Tensor, ...],
    *,
    inputs: Sequence[str] = ("image",),
    opset: int = OPSET,
    dynamo: bool = False,
    batch: bool = True,
) -> Path:
    """Write `network` as ONNX, batch free unless told; dynamo: the exporter that is torch's default now."""
    examples = example if isinstance(example, tuple) else (example,)
    shapes: dict[str, Any] = {}
    if batch and dynamo:
        shapes = {"dynamic_shapes": tuple({0: torch.export.Dim("batch")} for _ in examples)}
    elif batch:
        shapes = {"dynamic_axes": {key: {0: "N"} for key in (*inputs, "output")}}
    torch.onnx.export(
        network.eval(), examples, HERE / name, input_names=list(inputs), output_names=["output"],
        opset_version=opset, dynamo=dynamo, external_data=False, **shapes,
    )  # fmt: skip
    forget_source(HERE / name)
    return checked(name)


def forget_source(path: Path) -> None:
    """Drop what torch notes of the Python that made each node: paths of one machine."""
    model = onnx.load(path)
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for whole in (model, model.graph):
        whole.ClearField("metadata_props")
    onnx.save(model, path)


def make_torch() -> None:
    torch.manual_seed(SEED)
    image = torch.zeros(2, 1, 8, 8)
    transformer = trained(Transformer())
    source = exported(transformer, "torch_transformer_float.onnx", image, opset=18, dynamo=True)
    static(source, "torch_transformer_qdq_s8s8.onnx", S8, S8, per_channel=True)
    dynamic(source, "torch_transformer_dynamic.onnx", extra_options={"MatMulConstBOnly": False})
    static(source, "torch_transformer_qop_u8u8.onnx", U8, U8, quant_format=QuantFormat.QOperator)
    newest = exported(transformer, "torch_transformer_opset23_float.onnx", image, opset=23, dynamo=True)
    static(newest, "torch_transformer_opset23_qdq_u8s8.onnx", U8, S8)
    newest.unlink()  # the same network as torch_transformer_float, but with Gelu as one operator
    for form in ("dynamic", "qdq_s8s8"):
        optimised(HERE / f"torch_transformer_{form}.onnx", f"torch_transformer_{form}_optimised.onnx")

    source = exported(trained(MobileNet()), "torch_mobilenet_float.onnx", image)
    for name, weight in (("dynamic", S8), ("dynamic_u8", U8)):
        dynamic(source, f"torch_mobilenet_{name}.onnx", weight)
    qop = QuantFormat.QOperator
    static(source, "torch_mobilenet_qop_u8u8.onnx", U8, U8, quant_format=qop)
    static(source, "torch_mobilenet_qop_u8s8.onnx", U8, S8, quant_format=qop, per_channel=True)
    static(source, "torch_mobilenet_qdq_u8s8_tensor.onnx", U8, S8)
    static(source, "torch_mobilenet_qdq_u8s8_channel.onnx", U8, S8, per_channel=True)
    static(source, "torch_mobilenet_qdq_u8u8.onnx", U8, U8)
    optimised(
        HERE / "torch_mobilenet_qdq_u8s8_channel.onnx", "torch_mobilenet_qdq_u8s8_channel_optimised.onnx"
    )


# ---- Keras


def make_keras() -> None:
    """A CNN with SAME padding: channels last in Keras, Transposes in ONNX."""
    import keras
    import tensorflow as tf
    import tf2onnx

    keras.utils.set_random_seed(SEED)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="pixels"),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu6"),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            layers.AveragePooling2D(2, strides=1, padding="same"),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pixels = IMAGES[:-TEST].transpose(0, 2, 3, 1)
    network.fit(pixels, LABELS[:-TEST], epochs=40, batch_size=32, verbose=0)
    signature = [tf.TensorSpec((None, 8, 8, 1), tf.float32, name="pixels")]
    path = HERE / "keras_cnn_float.onnx"
    function = tf.function(lambda pixels: network(pixels, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, signature, opset=OPSET, output_path=str(path))
    checked(path.name)
    static(path, "keras_cnn_qdq_s8s8.onnx", S8, S8, per_channel=True)
    static(path, "keras_cnn_qdq_u8s8.onnx", U8, S8)


# ---- scikit-learn


def make_sklearn() -> None:
    """A multilayer perceptron: Cast, ArgMax and the class labels come along. Output 1 are the probabilities."""
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier

    features = IMAGES.reshape(-1, 64)
    network = MLPClassifier((32, 16), random_state=SEED % 1000, max_iter=120)
    network.fit(features[:-TEST], LABELS[:-TEST])
    model = to_onnx(
        network, features[:1], target_opset=OPSET, options={"zipmap": False},
        initial_types=[("features", _float_features())],
    )  # fmt: skip
    path = HERE / "sklearn_mlp_float.onnx"
    onnx.save(model, path)
    checked(path.name)
    static(path, "sklearn_mlp_qdq_s8s8.onnx", S8, S8)
    dynamic(path, "sklearn_mlp_dynamic.onnx")


def _float_features() -> Any:
    from skl2onnx.common.data_types import FloatTensorType

    return FloatTensorType([None, 64])


# ---- other formats and structures: small networks with random weights


class Branches(nn.Module):
    """Split, Concat, average pool, Resize, and a squeeze-and-excitation gate that is broadcast over the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 16, 3, 2), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.hardswish(self.stem(x))
        left, right = torch.split(x, 8, dim=1)
        left = nn.functional.avg_pool2d(self.left(left), 3, 2, padding=1, count_include_pad=False)
        left = nn.functional.interpolate(left, size=(7, 7), mode="nearest")
        right = nn.functional.pad(torch.sigmoid(self.right(right)), (1, 1, 1, 1))
        x = torch.cat([left, right], dim=1)
        gate = torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))
        x = x * torch.sigmoid(self.excite(gate))
        return self.head(x.mean((2, 3)))


class Cell(nn.Module):
    """An LSTM over five steps with its matrix products written out as MatMul, unrolled."""

    def __init__(self, features: int = 6, width: int = 12) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.randn(features, 4 * width) * 0.3)
        self.outer = nn.Parameter(torch.randn(width, 4 * width) * 0.3)
        self.bias = nn.Parameter(torch.randn(4 * width) * 0.1)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = memory = torch.zeros_like(x[:, 0] @ self.inner[:, :12])
        for step in range(5):
            gates = x[:, step] @ self.inner + hidden @ self.outer + self.bias
            enter, forget, new, out = gates.chunk(4, dim=1)
            memory = torch.sigmoid(forget) * memory + torch.sigmoid(enter) * torch.tanh(new)
            hidden = torch.sigmoid(out) * torch.tanh(memory)
        return self.head(hidden)


class TwoInputs(nn.Module):
    """An image and a vector, joined before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense, self.head = nn.Conv2d(1, 6, 3), nn.Linear(5, 6), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor, side: Tensor) -> Tensor:
        seen = torch.relu(self.conv(x)).mean((2, 3))
        return self.head(torch.cat([seen, torch.relu(self.dense(side))], dim=1))


def audio() -> nn.Module:
    """1-D convolutions with stride, dilation, groups and one-sided padding."""
    return nn.Sequential(
        nn.ConstantPad1d((3, 0), 0.0), nn.Conv1d(2, 8, 5, stride=2), nn.ReLU(),
        nn.Conv1d(8, 8, 3, dilation=2, padding=2, groups=8), nn.LeakyReLU(0.1), nn.MaxPool1d(2),
        nn.Conv1d(8, 12, 3, groups=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(12, CLASSES),
    )  # fmt: skip


def video() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 6, 3, stride=(1, 2, 2), padding=(1, 1, 0)), nn.ReLU(), nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(6, 6, (3, 1, 1), groups=6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 2 * 2 * 2, CLASSES),
    )  # fmt: skip


def autoencoder(groups: int) -> nn.Module:
    """Down by convolution, up by transposed convolution: a mask as large as the image, as in segmentation."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(12, 8, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1, groups=groups),
    )  # fmt: skip


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(54, CLASSES))


def make_structures() -> None:
    """Networks with random weights, exported from PyTorch, quantised with all operator types."""
    torch.manual_seed(SEED)
    image, clip = torch.randn(2, 3, 16, 16), torch.randn(2, 1, 4, 9, 10)
    # ONNX Runtime's quantiser can't do a grouped ConvTranspose per channel, nor anything per channel below opset 13.
    by_tensor = ("autoencoder_grouped", "opset11")
    cases: list[tuple[str, nn.Module, Tensor, int]] = [
        ("branches", Branches(), image, 17),
        ("lstm", Cell(), torch.randn(2, 5, 6), 17),
        ("audio", audio(), torch.randn(2, 2, 40), 17),
        ("video", video(), clip, 17),
        ("autoencoder", autoencoder(1), image, 17),
        ("autoencoder_grouped", autoencoder(2), image, 17),
        ("opset11", plain(), torch.randn(2, 1, 8, 8), 11),
        ("opset13", plain(), torch.randn(2, 1, 8, 8), 13),
    ]
    for name, network, example, opset in cases:
        source = exported(network, f"{name}_float.onnx", example, inputs=["x"], opset=opset)
        static(source, f"{name}_qdq_s8s8.onnx", S8, S8, per_channel=name not in by_tensor)
        if name in ("branches", "audio"):
            static(source, f"{name}_qop_u8s8.onnx", U8, S8, quant_format=QuantFormat.QOperator)
        if name == "lstm":
            dynamic(source, "lstm_dynamic.onnx", extra_options={"MatMulConstBOnly": False})
        source.unlink()
    two = exported(
        TwoInputs(), "two_inputs.onnx", (torch.randn(2, 1, 8, 8), torch.randn(2, 5)), inputs=["x", "side"]
    )
    static(two, "two_inputs_qdq_u8s8.onnx", U8, S8)
    two.unlink()
    fixed = exported(plain(), "fixed.onnx", torch.randn(1, 1, 8, 8), inputs=["x"], batch=False)
    static(fixed, "fixed_batch_qdq_u8s8.onnx", U8, S8)
    model = onnx.load(HERE / "fixed_batch_qdq_u8s8.onnx")
    fixed.unlink()
    for stored in (HERE / "external_data_qdq_u8s8.onnx", HERE / "external_data_qdq_u8s8.bin"):
        stored.unlink(missing_ok=True)
    onnx.save(
        model, HERE / "external_data_qdq_u8s8.onnx", save_as_external_data=True,
        location="external_data_qdq_u8s8.bin", size_threshold=64,
    )  # fmt: skip
    checked("external_data_qdq_u8s8.onnx")


def make_wide() -> None:
    """16-bit activations and 4-bit weights, from the MobileNet and the transformer."""
    mobilenet, transformer = HERE / "torch_mobilenet_float.onnx", HERE / "torch_transformer_float.onnx"
    symmetric = {"ActivationSymmetric": True}
    static(mobilenet, "a16w8_qdq.onnx", S16, S8, per_channel=True, extra_options=symmetric)
    contrib = {**symmetric, "UseQDQContribOps": True}
    static(mobilenet, "a16w8_contrib_qdq.onnx", S16, S8, per_channel=True, extra_options=contrib)
    static(transformer, "int4_qdq.onnx", S8, S4, op_types_to_quantize=["MatMul", "Gemm"])


# ---- written by hand


def written(text: str, name: str, constants: dict[str, Array | TensorProto]) -> Path:
    """A model in ONNX's own text form plus its constants."""
    model = parser.parse_model(text)
    for key, value in constants.items():
        tensor = value if isinstance(value, TensorProto) else numpy_helper.from_array(value, key)
        model.graph.initializer.append(tensor)
    for i, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}_{i}"
    onnx.save(model, HERE / name)
    return checked(name)


def random_weights(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(-127, 128, shape).astype(np.int8)


def make_weight_only() -> None:
    """int8 and int4 weights, float activations: the product is in float, whatever the file's size suggests."""
    rng = np.random.default_rng(SEED)
    weight, scale = random_weights(rng, 16, 10), rng.uniform(0.001, 0.01, 10).astype(np.float32)
    head = '<ir_version: 10, opset_import: ["" : 21]> g (float[N,16] x) => (float[N,10] y) {'
    written(
        head + "w = DequantizeLinear<axis=1>(weight, scale) y = MatMul(x, w) }",
        "weight_only_dq.onnx", {"weight": weight, "scale": scale},
    )  # fmt: skip
    written(
        head + "real = Cast<to=1>(weight) w = Mul(real, scale) y = MatMul(x, w) }",
        "weight_only_cast.onnx", {"weight": weight, "scale": scale},
    )  # fmt: skip
    nibbles = helper.make_tensor("weight", TensorProto.INT4, (16, 10), rng.integers(-8, 8, 160).tolist())
    blocks = rng.uniform(0.01, 0.1, (4, 10)).astype(np.float32)
    written(
        head + "w = DequantizeLinear<axis=0, block_size=4>(weight, scale) y = MatMul(x, w) }",
        "weight_only_int4_blocks.onnx", {"weight": nibbles, "scale": blocks},
    )  # fmt: skip
    written(
        """<ir_version: 10, opset_import: ["" : 21]> g (float[N,16] x) => (float[N,10] y) {
        q = QuantizeLinear(x, sx, zx) a = DequantizeLinear(q, sx, zx)
        w = DequantizeLinear<axis=1>(weight, scale) p = MatMul(a, w)
        r = QuantizeLinear(p, sy, zx) y = DequantizeLinear(r, sy, zx) }""",
        "int4_channel_qdq.onnx",
        {
            "weight": nibbles, "scale": blocks[0], "sx": np.float32(0.03), "sy": np.float32(0.02),
            "zx": np.int8(3),
        },
    )  # fmt: skip


def products(rng: np.random.Generator) -> dict[str, Array]:
    """Constants of two QDQ products 16 x 16 and 16 x 10."""
    return {
        "w1": random_weights(rng, 16, 16), "w2": random_weights(rng, 16, 10), "sw": np.float32(0.004),
        "s0": np.float32(0.025), "s1": np.float32(0.02), "z": np.int8(-5), "zw": np.int8(0),
    }  # fmt: skip


FIRST = """
    q = QuantizeLinear(x, s0, z)  a = DequantizeLinear(q, s0, z)  b = DequantizeLinear(w1, sw, zw)
    h = MatMul(a, b)  hq = QuantizeLinear(h, s1, z)  hr = DequantizeLinear(hq, s1, z)
"""
LAST = """
    eq = QuantizeLinear(e, s0, z)  er = DequantizeLinear(eq, s0, z)  c = DequantizeLinear(w2, sw, zw)
    o = MatMul(er, c)  oq = QuantizeLinear(o, s1, z)  y = DequantizeLinear(oq, s1, z)
"""
HEAD = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,16] x) => (float[1,10] y) {'


def make_control() -> None:
    """Branches and a loop between two quantised products; the loop's body holds a product as well."""
    rng = np.random.default_rng(SEED)
    choice = """
        most = ReduceMax<keepdims=0>(hr)  positive = Greater(most, limit)
        e = If(positive)<
            then_branch = yes () => (float[1,16] t) { t = Relu(hr) },
            else_branch = no () => (float[1,16] f) { f = Neg(hr) }>
    """
    constants = {**products(rng), "limit": np.float32(1.0)}
    written(f"{HEAD} {FIRST} {choice} {LAST} }}", "if_qdq_s8s8.onnx", constants)
    around = """
        e = Loop(times, go, hr)<body = step (int64 i, bool on, float[1,16] s) => (bool kept, float[1,16] n) {
            kept = Identity(on)  u = QuantizeLinear(s, s1, z)  v = DequantizeLinear(u, s1, z)
            p = DequantizeLinear(w1, sw, zw)  m = MatMul(v, p)  n = Tanh(m) }>
    """
    constants = {**products(rng), "times": np.int64(3), "go": np.bool_(True)}
    written(f"{HEAD} {FIRST} {around} {LAST} }}", "loop_qdq_s8s8.onnx", constants)


def make_integers() -> None:
    """uint8 in, uint8 out: no float anywhere but in the scales."""
    rng = np.random.default_rng(SEED)
    u8, f32 = np.uint8, np.float32
    written(
        """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (uint8[N,3,8,8] x) => (uint8[N,10] y) {
        a = QLinearConv<strides=[2,2], pads=[1,1,0,0]>(x, s0, z0, w1, sw, zw, s1, z1, bias)
        f = Flatten(a)
        y = QLinearMatMul(f, s1, z1, w2, sw, zw, s2, z2) }""",
        "uint8_io_qop_u8u8.onnx",
        {
            "w1": rng.integers(0, 256, (6, 3, 3, 3)).astype(u8), "w2": rng.integers(0, 256, (96, 10)).astype(u8),
            "sw": f32(0.003), "zw": u8(121), "s0": f32(1 / 255), "z0": u8(0), "s1": f32(0.02), "z1": u8(110),
            "s2": f32(0.05), "z2": u8(128), "bias": rng.integers(-900, 900, 6).astype(np.int32),
        },
    )  # fmt: skip


def make_formats() -> None:
    make_structures()
    make_wide()
    make_weight_only()
    make_control()
    make_integers()


MAKERS = {"torch": make_torch, "keras": make_keras, "sklearn": make_sklearn, "formats": make_formats}

if __name__ == "__main__":
    torch.set_num_threads(2)
    write_inputs()
    for section in sys.argv[1:] or MAKERS:
        MAKERS[section]()
