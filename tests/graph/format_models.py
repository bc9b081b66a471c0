"""Small models of every way in which a file says "integer product": two computed operands, raw accumulators, 16-bit
activations, transposed convolutions, weights with a zero point, constants on the left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx_models import Builder, Tensor
from small_models import fresh, matmul_of, named, replace_constant, triple_of

from emulator.graph.qgraph import Sample


@dataclass(frozen=True, kw_only=True)
class Format:
    """A model, a sample for it, and the products it has on the array."""

    model: onnx.ModelProto
    sample: Sample
    layers: int


def product(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """x @ y, both computed."""
    shape = (*x.shape[:-1], y.shape[-1])
    if b.form == "qop":
        return b.integer("QLinearMatMul", [*x.triple, *y.triple], shape, x.scale * y.scale * 60)
    return b.quantise(b.node("MatMul", [b.real(x), b.real(y)]), shape, x.scale * y.scale * 60)


def attention(form: str = "qop", heads: int = 2) -> Format:
    """Queries, keys and values of five words; Softmax in float between the two computed products."""
    b = fresh(form)
    x = b.input((1, heads, 5, 4))
    q, k, v = (matmul_of(b, x, 4) for _ in range(3))
    keys = b.moved(k, "Transpose", [], (1, heads, 4, 5), True, perm=[0, 1, 3, 2])
    scores = product(b, q, keys)
    shares = b.quantise(b.node("Softmax", [b.real(scores)], axis=-1), scores.shape, 1 / 200)
    seen = b.moved(product(b, shares, v), "Flatten", [], (1, heads * 20), True)
    return Format(model=b.model(matmul_of(b, seen, 6)), sample=b.image(), layers=6)


def raw(op: str, kind: type[np.int8] | type[np.uint8] = np.int8) -> Format:
    """Dynamic quantisation: the zero point of the activations is known at run time only, weights have their own."""
    rng = np.random.default_rng(4)
    b = Builder(rng, form="qop")
    shape = (1, 4, 6, 6) if op == "ConvInteger" else (1, 5, 8)
    weight_shape = (6, 2, 3, 3) if op == "ConvInteger" else (8, 6)
    weight = b.constant("weight", rng.integers(-60, 60, weight_shape).astype(np.int8).view(kind))
    zero = b.constant("weight_zero", np.array(5, kind))
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", ["input"], ["xq", "xs", "xz"], name="dynamic"))
    attributes = {"pads": [1, 0, 1, 1], "group": 2, "strides": [2, 1]} if op == "ConvInteger" else {}
    sums = b.node(op, ["xq", weight, "xz", zero], **attributes)
    scaled = b.node("Mul", [b.node("Cast", [sums], to=int(TensorProto.FLOAT)), "xs"])
    spread = b.node("Div", [scaled, b.constant("spread", np.float32(100))])
    b.nodes.append(helper.make_node("Softmax", [spread], ["output"], axis=1, name="answer"))
    graph = helper.make_graph(
        b.nodes, "raw", [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None] * len(shape))], b.constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return Format(model=model, sample=rng.normal(0.3, 1, shape[1:]).astype(np.float32), layers=1)


def sixteen(op: str, kind: type[np.int16] | type[np.uint16] = np.int16, zero: int = 17) -> Format:
    """int16 or uint16 activations against int8 weights, opset 21, large enough for sums beyond 24 bits."""
    rng = np.random.default_rng(6)
    shape = (1, 4, 5, 5) if op == "Conv" else (1, 3, 12)
    weight_shape = (3, 4, 3, 3) if op == "Conv" else (12, 5)
    arrays = {
        "xs": np.float32(1e-4), "xz": np.array(zero, kind), "ws": np.float32(0.01), "wz": np.int8(0),
        "w": rng.integers(-127, 128, weight_shape).astype(np.int8), "ys": np.float32(2e-4),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wr"]),
        helper.make_node(op, ["xr", "wr"], ["real"], name="wide"),
        helper.make_node("QuantizeLinear", ["real", "ys", "xz"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "ys", "xz"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes, "sixteen", [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [None] * len(shape))],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return Format(model=model, sample=rng.normal(0, 2, shape[1:]).astype(np.float32), layers=1)


def transposed(groups: int = 1) -> Format:
    """A ConvTranspose with stride, uneven padding and output padding."""
    b = fresh()
    x = b.input((1, 4, 3, 4))
    names, scale = b.weight((4, 2, 3, 2), 1, False)
    real = [b.real(x), b.node("DequantizeLinear", names)]
    value = b.node(
        "ConvTranspose", real, strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 0], group=groups
    )
    y = b.quantise(value, (1, 2 * groups, 7, 10), x.scale * float(scale) * 300)
    return Format(model=b.model(y), sample=b.image(), layers=1)


def lopsided(op: str) -> Format:
    """uint8 weights around 100, as onnxruntime.quantization writes them by default."""
    b = fresh("qop", kind=np.uint8)
    image = op == "Conv"
    x = b.input((1, 3, 4, 4) if image else (1, 6))
    shape, out = ((2, 3, 1, 1), (1, 2, 4, 4)) if image else ((6, 4), (1, 4))
    y = b.mac(
        op, x, shape, out, k=3 if image else 6, channels=out[1], per_channel=False, with_bias=op != "MatMul",
        attributes={},
    )  # fmt: skip
    model = b.model(y)
    node = named(model, {"Conv": "QLinearConv", "Gemm": "QGemm", "MatMul": "QLinearMatMul"}[op])
    values = np.random.default_rng(8).integers(37, 163, shape).astype(np.uint8)
    replace_constant(model, node.input[3], values)
    replace_constant(model, node.input[5], np.uint8(100))
    return Format(model=model, sample=b.image(), layers=1)


def constant_left() -> Format:
    """A fixed mixing matrix times what is computed."""
    b = fresh("qop")
    x = b.input((1, 5, 4))
    names, scale = b.weight((1, 3, 5), 1, False)
    mixing = Tensor(
        name=names[0], shape=(1, 3, 5), scale=float(scale), scale_name=names[1], zero_name=names[2]
    )
    return Format(model=b.model(matmul_of(b, product(b, mixing, x), 3)), sample=b.image(), layers=2)


def off_centre() -> Format:
    """QDQ weights with a zero point other than 0."""
    b = fresh()
    model = b.model(matmul_of(b, b.input((1, 3, 5)), 4))
    replace_constant(model, triple_of(model, named(model, "MatMul").input[1])[2], np.int8(-7))
    return Format(model=model, sample=b.image(), layers=1)


FORMATS: dict[str, Callable[[], Format]] = {
    "attention, QLinearMatMul": attention,
    "attention, QDQ": lambda: attention("qdq"),
    "ConvInteger": lambda: raw("ConvInteger"),
    "ConvInteger, uint8 weights": lambda: raw("ConvInteger", np.uint8),
    "MatMulInteger": lambda: raw("MatMulInteger"),
    "MatMulInteger, uint8 weights": lambda: raw("MatMulInteger", np.uint8),
    "16-bit Conv": lambda: sixteen("Conv"),
    "16-bit MatMul": lambda: sixteen("MatMul"),
    "16-bit unsigned MatMul": lambda: sixteen("MatMul", np.uint16, 30000),
    "ConvTranspose": transposed,
    "grouped ConvTranspose": lambda: transposed(2),
    "uint8 weights, QLinearConv": lambda: lopsided("Conv"),
    "uint8 weights, QGemm": lambda: lopsided("Gemm"),
    "uint8 weights, QLinearMatMul": lambda: lopsided("MatMul"),
    "constant on the left": constant_left,
    "weights off centre": off_centre,
}
