"""Small quantised ONNX models, generated: the QDQ or the QOperator form of the same random network.

Weights of uint8 models stay within 7 bits: ONNX Runtime's u8 x s8 kernels saturate on some CPUs, and the oracle
must not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A quantised value: name, ONNX shape at batch 1, and the names of its scale and zero point."""

    name: str
    shape: tuple[int, ...]
    scale: float
    scale_name: str
    zero_name: str

    @property
    def triple(self) -> list[str]:
        return [self.name, self.scale_name, self.zero_name]


class Builder:
    """Grows a model node by node. form: "qdq" or "qop"; kind: np.int8 or np.uint8 activations."""

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        form: str = "qdq",
        kind: type[np.int8] | type[np.uint8] = np.int8,
        opset: int = 17,
        scale_shape: tuple[int, ...] = (),
        free_batch: bool = True,
    ) -> None:
        self.rng, self.form, self.kind, self.opset = rng, form, kind, opset
        self.scale_shape, self.free_batch = scale_shape, free_batch
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.input_shape: tuple[int, ...] = ()
        self.count = 0

    # ---- plumbing

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def constant(self, stem: str, value: Any) -> str:
        name = self.name(stem)
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        output = self.name(op.lower())
        self.nodes.append(
            helper.make_node(op, list(inputs), [output], name=f"node_{output}", domain=domain, **attributes)
        )
        return output

    def quantisation(self, scale: float) -> tuple[float, str, str]:
        """A scale and a random zero point under new names."""
        info = np.iinfo(self.kind)
        zero = self.rng.choice(
            [info.min, self.rng.integers(info.min, info.max + 1), (info.min + info.max) // 2]
        )
        scale = float(np.float32(scale))
        scale_name = self.constant("scale", np.full(self.scale_shape, scale, np.float32))
        return scale, scale_name, self.constant("zero", np.full(self.scale_shape, zero, self.kind))

    def like(self, x: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        return Tensor(name=name, shape=shape, scale=x.scale, scale_name=x.scale_name, zero_name=x.zero_name)

    def real(self, x: Tensor) -> str:
        return self.node("DequantizeLinear", x.triple)

    def quantise(
        self, real: str, shape: tuple[int, ...], scale: float, *, like: Tensor | None = None
    ) -> Tensor:
        if like is not None:
            return self.like(
                like, self.node("QuantizeLinear", [real, like.scale_name, like.zero_name]), shape
            )
        value, *names = self.quantisation(scale)
        output = self.node("QuantizeLinear", [real, *names])
        return Tensor(name=output, shape=shape, scale=value, scale_name=names[0], zero_name=names[1])

    def integer(
        self, op: str, inputs: list[str], shape: tuple[int, ...], scale: float, **attributes: Any
    ) -> Tensor:
        """A QLinear operator that takes scale and zero point of its output last."""
        value, *names = self.quantisation(scale)
        domain = "" if op in ("QLinearConv", "QLinearMatMul") else MICROSOFT
        at = 6 if op == "QLinearConv" else len(inputs)
        output = self.node(op, [*inputs[:at], *names, *inputs[at:]], domain, **attributes)
        return Tensor(name=output, shape=shape, scale=value, scale_name=names[0], zero_name=names[1])

    # ---- the network

    def input(self, shape: tuple[int, ...]) -> Tensor:
        self.input_shape = shape
        return self.quantise("input", shape, 0.02)

    def weight(
        self, shape: tuple[int, ...], channels: int, per_channel: bool
    ) -> tuple[list[str], npt.NDArray[Any]]:
        """Names of (weight, scale, zero point), and the scale."""
        most = 64 if self.kind == np.uint8 else 128
        values = self.rng.integers(-most + 1, most, shape).astype(np.int8)
        scale = self.rng.uniform(0.002, 0.02, channels if per_channel else self.scale_shape).astype(
            np.float32
        )
        names = [
            self.constant("weight", values),
            self.constant("weight_scale", scale),
            self.constant("weight_zero", np.zeros(scale.shape, np.int8)),
        ]
        return names, scale

    def bias(self, x: Tensor, scale: npt.NDArray[Any], channels: int, k: int) -> tuple[str, str]:
        """Names of the int32 bias and of its scale, x_scale * w_scale."""
        values = self.rng.integers(-2000, 2000, channels) * int(sqrt(k) + 1)
        product = (np.float32(x.scale) * scale).astype(np.float32)
        return self.constant("bias", values.astype(np.int32)), self.constant("bias_scale", product)

    def mac(
        self,
        op: str,
        x: Tensor,
        weight_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        k: int,
        channels: int,
        per_channel: bool,
        with_bias: bool,
        axis: int = 0,
        activation: str = "",
        attributes: dict[str, Any],
    ) -> Tensor:
        names, scale = self.weight(weight_shape, channels, per_channel)
        out_scale = x.scale * float(scale.mean()) * sqrt(k) * 40 * float(self.rng.uniform(0.3, 3))
        bias, bias_scale = self.bias(x, scale, channels, k) if with_bias else ("", "")
        if self.form == "qop":
            inputs = [*x.triple, *names]
            if op == "Gemm" or with_bias:
                inputs.append(bias)
            return self.integer(
                {"Conv": "QLinearConv", "Gemm": "QGemm", "MatMul": "QLinearMatMul"}[op],
                inputs, out_shape, out_scale, **attributes,
            )  # fmt: skip
        real = [self.real(x), self.node("DequantizeLinear", names, axis=axis if scale.ndim else 0)]
        if with_bias:
            real.append(self.node("DequantizeLinear", [bias, bias_scale], axis=0))
        value = self.node(op, real, **attributes)
        if activation == "Clip":
            value = self.node(
                "Clip", [value, *(self.constant("bound", np.float32(v)) for v in (0, out_scale * 90))]
            )
        elif activation:
            value = self.node(activation, [value])
        return self.quantise(value, out_shape, out_scale)

    def unary(self, op: str, x: Tensor, scale: float, **attributes: Any) -> Tensor:
        return self.quantise(self.node(op, [self.real(x)], **attributes), x.shape, scale)

    def moved(
        self, x: Tensor, op: str, rest: list[str], shape: tuple[int, ...], keep: bool, **attributes: Any
    ) -> Tensor:
        """A movement operator or MaxPool: between DQ and Q, or directly on the integers."""
        if self.form == "qop":
            return self.like(x, self.node(op, [x.name, *rest], **attributes), shape)
        value = self.node(op, [self.real(x), *rest], **attributes)
        return self.quantise(value, shape, x.scale * 1.3, like=x if keep else None)

    def pool(self, op: str, x: Tensor, shape: tuple[int, ...], ratio: float, **attributes: Any) -> Tensor:
        """ratio: output scale over input scale; simple ones make ties of the rounding common."""
        if self.form == "qop":
            return self.integer(f"QLinear{op}", x.triple, shape, x.scale * ratio, **attributes)
        return self.quantise(self.node(op, [self.real(x)], **attributes), shape, x.scale * ratio)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        scale = (a.scale + b.scale) * float(self.rng.uniform(0.4, 1.2))
        if self.form == "qop":
            return self.integer("QLinearAdd", [*a.triple, *b.triple], a.shape, scale)
        return self.quantise(self.node("Add", [self.real(a), self.real(b)]), a.shape, scale)

    def model(self, answer: Tensor) -> onnx.ModelProto:
        batch: list[int | str] = ["N" if self.free_batch else 1]
        self.nodes.append(helper.make_node("DequantizeLinear", answer.triple, ["output"], name="answer"))
        graph = helper.make_graph(
            self.nodes,
            "generated",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, batch + list(self.input_shape[1:]))],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, batch + list(answer.shape[1:]))],
            self.constants,
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def image(self) -> npt.NDArray[np.float32]:
        """One input, without the batch, that fills the range of the input's quantisation."""
        return self.rng.normal(0, 1.2, self.input_shape[1:]).astype(np.float32)


# ---- random operators: (draw, builder, tensor) -> tensor


def out_size(size: int, kernel: int, stride: int, dilation: int, pads: int) -> int:
    return (size + pads - dilation * (kernel - 1) - 1) // stride + 1


def conv(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    _, cin, *spatial = x.shape
    groups = draw(st.sampled_from([g for g in (1, 2, 3, cin) if cin % g == 0]))
    # Of the wide ones some fill vectors of 8 and of 16, and some do not.
    cout = groups * draw(st.integers(1, 3) | st.sampled_from((9, 16, 21)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    kernel = tuple(
        draw(st.integers(1, 3 if (s - 1) // d >= 2 else 1)) for s, d in zip(spatial, dilation, strict=True)
    )
    attributes: dict[str, Any] = {"strides": stride, "dilations": dilation, "group": groups}
    if draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    # ONNX Runtime refuses dilation together with SAME.
    same = ["SAME_UPPER", "SAME_LOWER"] if dilation == (1, 1) else []
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", *same]))
    pads = (0, 0, 0, 0)
    if auto != "NOTSET":
        attributes["auto_pad"] = auto
    elif draw(st.booleans()):
        pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
        attributes["pads"] = pads
    if auto.startswith("SAME"):
        out = tuple(-(-s // t) for s, t in zip(spatial, stride, strict=True))
    else:
        out = tuple(
            out_size(spatial[i], kernel[i], stride[i], dilation[i], pads[i] + pads[i + 2]) for i in (0, 1)
        )
    return b.mac(
        "Conv", x, (cout, cin // groups, *kernel), (1, cout, *out),
        k=cin // groups * kernel[0] * kernel[1], channels=cout, per_channel=draw(st.booleans()),
        with_bias=draw(st.booleans()), activation=draw(st.sampled_from(["", "", "Relu", "Clip"])),
        attributes=attributes,
    )  # fmt: skip


def gemm(draw: st.DrawFn, b: Builder, x: Tensor, channels: int | None = None) -> Tensor:
    k, n = x.shape[1], channels or draw(st.integers(2, 7))
    transposed = draw(st.booleans())
    return b.mac(
        "Gemm", x, (n, k) if transposed else (k, n), (1, n), k=k, channels=n, per_channel=draw(st.booleans()),
        with_bias=draw(st.booleans()), axis=0 if transposed else 1, activation=draw(st.sampled_from(["", "Relu"])),
        attributes={"transB": 1} if transposed else {},
    )  # fmt: skip


def matmul(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    k, n = x.shape[-1], draw(st.integers(2, 6))
    return b.mac(
        "MatMul", x, (k, n), (*x.shape[:-1], n), k=k, channels=n, per_channel=draw(st.booleans()),
        with_bias=False, axis=1, attributes={},
    )  # fmt: skip


def unary(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    op = draw(st.sampled_from(["Relu", "Sigmoid", "LeakyRelu", "Tanh", "HardSigmoid"]))
    return b.unary(op, x, x.scale if op in ("Relu", "LeakyRelu") else 1 / 128)


def residual(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    """x + f(x) or f(x) + g(x): x has two readers, and f may be convolutions, a table or x itself."""
    branch = draw(st.sampled_from(["conv", "unary", "self", "two", "fork"]))
    if branch == "self":
        return b.add(x, x)
    if branch == "unary" or len(x.shape) != 4:
        return b.add(unary(draw, b, x), x)
    c = x.shape[1]

    def same(source: Tensor) -> Tensor:
        return b.mac(
            "Conv", source, (c, c, 3, 3), x.shape, k=9 * c, channels=c, per_channel=draw(st.booleans()),
            with_bias=True, attributes={"pads": (1, 1, 1, 1)},
        )  # fmt: skip

    if branch == "fork":
        return b.add(same(x), same(x))
    first = same(x)
    return b.add(x, first) if branch == "conv" else b.add(same(first), first)


def max_pool(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    shape, attributes = _pool_window(draw, x, dilated=True)
    return b.moved(x, "MaxPool", [], shape, draw(st.booleans()), **attributes)


def average_pool(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    shape, attributes = _pool_window(draw, x, dilated=False)
    return b.pool(
        "AveragePool", x, shape, draw(RATIOS), count_include_pad=draw(st.integers(0, 1)), **attributes
    )


RATIOS = st.sampled_from([0.5, 0.7, 1.0, 2.0])


def _pool_window(draw: st.DrawFn, x: Tensor, *, dilated: bool) -> tuple[tuple[int, ...], dict[str, Any]]:
    spatial = x.shape[2:]
    kernel = tuple(draw(st.integers(1, min(3, s))) for s in spatial)
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    pads = tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": pads}
    dilation = (1, 1)
    if dilated and draw(st.booleans()):
        dilation = tuple(2 if 2 * (k - 1) < s else 1 for k, s in zip(kernel, spatial, strict=True))  # type: ignore[assignment]
        attributes["dilations"] = dilation
    out = tuple(
        out_size(spatial[i], kernel[i], stride[i], dilation[i], pads[i] + pads[i + 2]) for i in (0, 1)
    )
    return (*x.shape[:2], *out), attributes


def global_average(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    return b.pool("GlobalAveragePool", x, (*x.shape[:2], 1, 1), draw(RATIOS))


def flatten(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    size = int(np.prod(x.shape[1:]))
    if draw(st.booleans()):
        return b.moved(x, "Flatten", [], (1, size), draw(st.booleans()))
    target = b.constant("shape", np.array(draw(st.sampled_from([[0, -1], [-1, size]])), np.int64))
    return b.moved(x, "Reshape", [target], (1, size), draw(st.booleans()))


def rows(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    """(1, c, h, w) to (1, c, h * w): rank 3, as a MatMul takes it."""
    shape = (1, x.shape[1], x.shape[2] * x.shape[3])
    return b.moved(x, "Reshape", [b.constant("shape", np.array(shape, np.int64))], shape, draw(st.booleans()))


def transpose(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    order = [0, *draw(st.permutations(range(1, len(x.shape))))]
    return b.moved(x, "Transpose", [], tuple(x.shape[i] for i in order), draw(st.booleans()), perm=order)


def cut(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    """Slice along one axis, forwards with a step or backwards."""
    axis = draw(st.integers(1, len(x.shape) - 1))
    size = x.shape[axis]
    begin, end, step = draw(st.sampled_from([(0, size, 2), (size // 2, size, 1), (-1, -size - 1, -1)]))
    rest = [b.constant("slice", np.array([v], np.int64)) for v in (begin, end, axis, step)]
    shape = list(x.shape)
    shape[axis] = len(range(size)[begin : end if step > 0 else None : step])
    return b.moved(x, "Slice", rest, tuple(shape), draw(st.booleans()))


def pad(draw: st.DrawFn, b: Builder, x: Tensor) -> Tensor:
    """Zeros (or the edge) around the image; QDQ form only, where the fill is a real number."""
    amount = [0, 0, *draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))]
    amount += [0, 0, *draw(st.tuples(st.integers(0, 1), st.integers(0, 1)))]
    shape = tuple(s + amount[i] + amount[i + 4] for i, s in enumerate(x.shape))
    mode = draw(st.sampled_from(["constant", "edge"]))
    rest = [b.constant("pads", np.array(amount, np.int64))]
    if mode == "constant" and draw(st.booleans()):
        rest.append(b.constant("fill", np.float32(0)))
    return b.moved(x, "Pad", rest, shape, draw(st.booleans()), mode=mode)


Step = Callable[[st.DrawFn, Builder, Tensor], Tensor]

IMAGE_STEPS: tuple[Step, ...] = (
    conv, conv, residual, unary, max_pool, average_pool, transpose, cut, pad, global_average, rows, flatten,
)  # fmt: skip
ROW_STEPS: tuple[Step, ...] = (matmul, matmul, unary, transpose, cut, flatten, residual)
VECTOR_STEPS: tuple[Step, ...] = (gemm, gemm, matmul, unary, cut, residual)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A model, one input for it, and how it was made."""

    model: onnx.ModelProto
    image: npt.NDArray[np.float32]
    steps: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Sample({' > '.join(self.steps)})"


@st.composite
def quantised_models(
    draw: st.DrawFn, *, forms: Sequence[str] = ("qdq", "qop"), most: int = 5, logits: int | None = None
) -> Sample:
    """A random network of up to `most` operators, at least one of them a MAC layer; with `logits` it ends in a
    fully connected layer of that many classes."""
    form = draw(st.sampled_from(forms))
    b = Builder(
        np.random.default_rng(draw(st.integers(0, 1 << 30))),
        form=form,
        kind=draw(st.sampled_from([np.int8, np.uint8])),
        opset=draw(st.sampled_from([13, 17, 21])),
        # QLinearAdd takes scalars only.
        scale_shape=draw(st.sampled_from([(), (1,)])) if form == "qdq" else (),
        free_batch=draw(st.booleans()),
    )
    image = draw(st.booleans()) or draw(st.booleans())
    shape = (draw(st.integers(1, 4)), draw(st.integers(3, 7)), draw(st.integers(3, 7)))
    x = b.input((1, *shape) if image else (1, shape[0] * shape[1]))
    done = [f"{b.form} {b.kind.__name__} opset {b.opset} {x.shape}"]
    chosen: list[Step] = [conv if image else gemm]
    x = chosen[0](draw, b, x)
    for _ in range(draw(st.integers(0, most - 1))):
        steps = {4: IMAGE_STEPS, 3: ROW_STEPS, 2: VECTOR_STEPS}[len(x.shape)]
        step = draw(st.sampled_from([s for s in steps if b.form == "qdq" or s is not pad]))
        x = step(draw, b, x)
        chosen.append(step)
    if logits is not None:
        x = flatten(draw, b, x) if len(x.shape) != 2 else x
        x = gemm(draw, b, x, logits)
    steps = tuple(done + [step.__name__ for step in chosen])
    return Sample(model=b.model(x), image=b.image(), steps=steps)


@st.composite
def convolution_models(draw: st.DrawFn) -> Sample:
    """A 1x1 convolution, then one with any window, over an image large enough for it."""
    b = Builder(
        np.random.default_rng(draw(st.integers(0, 1 << 30))),
        form=draw(st.sampled_from(["qdq", "qop"])),
        kind=draw(st.sampled_from([np.int8, np.uint8])),
    )
    x = pointwise(b, b.input((1, 2, draw(st.integers(5, 11)), draw(st.integers(5, 11)))))
    return Sample(model=b.model(conv(draw, b, x)), image=b.image(), steps=("pointwise", "conv"))


@st.composite
def pooling_models(draw: st.DrawFn) -> Sample:
    """A 1x1 convolution and an average pool over an image large enough for many rounding ties."""
    b = Builder(
        np.random.default_rng(draw(st.integers(0, 1 << 30))),
        form=draw(st.sampled_from(["qdq", "qop"])),
        kind=draw(st.sampled_from([np.int8, np.uint8])),
    )
    x = pointwise(b, b.input((1, 2, draw(st.integers(2, 14)), draw(st.integers(2, 14)))))
    step = draw(st.sampled_from([average_pool, average_pool, global_average]))
    return Sample(model=b.model(step(draw, b, x)), image=b.image(), steps=(step.__name__,))


def pointwise(b: Builder, x: Tensor) -> Tensor:
    shape = (3, x.shape[1], 1, 1)
    return b.mac(
        "Conv", x, shape, (1, 3, *x.shape[2:]), k=x.shape[1], channels=3, per_channel=False, with_bias=False,
        attributes={},
    )  # fmt: skip


# ---- the oracle


def run_unoptimised(
    model: onnx.ModelProto, names: Sequence[str], feeds: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """What ONNX Runtime computes for these tensors of `model`, every optimisation off."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names), feeds), strict=True))


def nearest(model: onnx.ModelProto, name: str, known: set[str]) -> set[str]:
    """The known tensors from which `name` is computed directly."""
    producer = {output: node for node in model.graph.node for output in node.output}
    found: set[str] = set()
    todo = list(producer[name].input)
    while todo:
        value = todo.pop()
        if value in known:
            found.add(value)
        elif value in producer:
            todo.extend(producer[value].input)
    return found


def cut_out(model: onnx.ModelProto, sources: list[str], target: str) -> onnx.ModelProto:
    """The nodes between, as a model of their own."""
    producer = {output: node for node in model.graph.node for output in node.output}
    needed: set[str] = set()
    todo = [target]
    while todo:
        value = todo.pop()
        if value not in sources and value in producer and value not in needed:
            needed.add(value)
            todo.extend(producer[value].input)
    kinds = {value.name: value for value in [*model.graph.value_info, *model.graph.input]}
    part = onnx.helper.make_graph(
        [node for node in model.graph.node if node.output[0] in needed],
        "part",
        [kinds[name] for name in sources],
        [onnx.ValueInfoProto(name=target)],
        list(model.graph.initializer),
    )
    return onnx.helper.make_model(part, opset_imports=list(model.opset_import), ir_version=9)


# ---- networks of a known shape


def resnet20(seed: int = 0) -> tuple[onnx.ModelProto, npt.NDArray[np.float32]]:
    """The ResNet-20 for CIFAR-10 (He et al., CVPR'16, sec. 4.2) with random int8 weights, QDQ, and one input."""
    b = Builder(np.random.default_rng(seed))
    x = b.input((1, 3, 32, 32))
    x = _same_conv(b, x, 16, 3, 1, "Relu")
    for stage, channels in enumerate((16, 32, 64)):
        for block in range(3):
            stride = 2 if stage > 0 and block == 0 else 1
            y = _same_conv(b, x, channels, 3, stride, "Relu")
            y = _same_conv(b, y, channels, 3, 1, "")
            same = x if stride == 1 else _same_conv(b, x, channels, 1, stride, "")
            x = b.add(y, same)
    x = b.pool("GlobalAveragePool", x, (1, 64, 1, 1), 1.0)
    x = b.moved(x, "Flatten", [], (1, 64), True)
    answer = b.mac(
        "Gemm",
        x,
        (64, 10),
        (1, 10),
        k=64,
        channels=10,
        per_channel=False,
        with_bias=True,
        axis=1,
        attributes={},
    )
    return b.model(answer), b.image()


def _same_conv(b: Builder, x: Tensor, channels: int, size: int, stride: int, activation: str) -> Tensor:
    _, cin, height, width = x.shape
    pad, k = size // 2, cin * size * size
    return b.mac(
        "Conv", x, (channels, cin, size, size), (1, channels, height // stride, width // stride),
        k=k, channels=channels, per_channel=True, with_bias=True, activation=activation,
        attributes={"pads": (pad,) * 4, "strides": (stride, stride)},
    )  # fmt: skip
