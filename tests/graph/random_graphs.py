"""Random quantised graphs, grown operator by operator along one sample that flows through as they grow.

Each operator is first evaluated by ONNX Runtime in float: what it refuses is drawn again, and what it returns gives
shape and range, from which a plausible scale and zero point are drawn. Then the operator is written in the graph's
form: "qdq" (DequantizeLinear, operator, QuantizeLinear), "qop" (QLinear operators, those of com.microsoft too) or
"dynamic" (DynamicQuantizeLinear before ConvInteger and MatMulInteger, float between).

Weights stay within 7 bits where activations are uint8: ONNX Runtime's u8 x s8 kernels saturate on some CPUs, and the
oracle must not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isqrt, prod
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from hypothesis import reject
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
T = TypeVar("T")

MICROSOFT = "com.microsoft"
FORMS = ("qdq", "qop", "dynamic")
OPSETS = (17, 13, 21, 23)
MOST_VALUES = 1500
MOST_DIMENSIONS = 5
ATTEMPTS = 12  # draws of one operator before the graph goes on without it


class Unfit(Exception):
    """This operator does not apply here; draw another."""


# ---- chance


class Dice(Protocol):
    """Where choices come from: hypothesis, which shrinks towards the low end, or a seed."""

    def integer(self, low: int, high: int) -> int: ...


@dataclass(frozen=True)
class DrawnDice:
    draw: st.DrawFn

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))


@dataclass(frozen=True)
class SeededDice:
    rng: np.random.Generator

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))


# ---- what flows


@dataclass(frozen=True, kw_only=True, eq=False)
class Scheme:
    """How codes stand for numbers: scale and zero point of shape (), (1,) or, along `axis`, (channels,)."""

    scale: Array
    zero: Array
    scale_name: str
    zero_name: str
    axis: int = 0

    @property
    def names(self) -> list[str]:
        return [self.scale_name, self.zero_name]

    def _along(self, array: Array, rank: int) -> Array:
        return array.reshape([-1 if i == self.axis else 1 for i in range(rank)]) if array.size > 1 else array

    def real(self, codes: Array) -> Array:
        scale, zero = self._along(self.scale, codes.ndim), self._along(self.zero, codes.ndim)
        return ((codes.astype(np.float32) - zero.astype(np.float32)) * scale).reshape(codes.shape)

    def rounded(self, real: Array) -> Array:
        """`real` as the codes say it; per tensor only."""
        info = np.iinfo(self.zero.dtype)
        codes = np.rint(real / self.scale.reshape(-1)[0]) + int(self.zero.reshape(-1)[0])
        return self.real(np.clip(codes, info.min, info.max))


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """A tensor of the graph: `data` is what it means for the sample, float32; scheme None: it is a float tensor."""

    name: str
    data: Array = field(repr=False)
    scheme: Scheme | None
    constant: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def triple(self) -> list[str]:
        assert self.scheme is not None
        return [self.name, *self.scheme.names]


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """An operator about to be applied. keep: the result has the scheme of the first operand (QDQ across movement).
    after: an activation between a product and its QuantizeLinear, with its constants."""

    op: str
    operands: Sequence[Value | Array | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    keep: bool = False
    after: tuple[str, tuple[Array, ...]] | None = None

    @property
    def values(self) -> list[Value]:
        return [operand for operand in self.operands if isinstance(operand, Value)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A model, one feed for it (batch 1), and how it was made."""

    model: onnx.ModelProto
    feeds: dict[str, Array]
    form: str
    steps: tuple[str, ...]

    @property
    def image(self) -> Array:
        """The first input without the batch."""
        return next(iter(self.feeds.values()))[0]

    def __repr__(self) -> str:
        return f"Sample({' > '.join(self.steps)})"


# ---- the graph


@dataclass(kw_only=True)
class Net:
    """Grows a model. kind, weight_kind: np.int8 or np.uint8; shared: one DequantizeLinear serves all readers."""

    dice: Dice
    rng: np.random.Generator
    form: str
    kind: Any
    weight_kind: Any
    opset: int
    scale_shape: tuple[int, ...]
    shared: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    reals: dict[str, str] = field(default_factory=dict)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    feeds: dict[str, Array] = field(default_factory=dict)
    count: int = 0

    # choices

    def pick(self, options: Sequence[T]) -> T:
        return options[self.dice.integer(0, len(options) - 1)]

    def flag(self) -> bool:
        return bool(self.dice.integer(0, 1))

    def sometimes(self) -> bool:
        return self.dice.integer(0, 4) == 4

    def numbers(self, count: int, low: int, high: int) -> list[int]:
        return [self.dice.integer(low, high) for _ in range(count)]

    def source(self, *ranks: int) -> Value:
        """Mostly the newest tensor, else any, of one of these ranks (none: any rank)."""
        fit = [v for v in self.values if not ranks or len(v.shape) in ranks]
        if not fit:
            raise Unfit
        return fit[-1] if self.dice.integer(0, 3) else self.pick(fit)

    # writing

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def stored(self, stem: str, array: Any) -> str:
        name = self.name(stem)
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(
        self, op: str, inputs: Sequence[str], outputs: int = 1, domain: str = "", **attributes: Any
    ) -> list[str]:
        names = [self.name(op.lower()) for _ in range(outputs)]
        self.nodes.append(
            helper.make_node(op, inputs, names, name=f"node_{names[0]}", domain=domain, **attributes)
        )
        return names

    def scheme(self, data: Array) -> Scheme:
        """For a tensor that holds `data`: some saturate, some use half their range; a power of two now and then,
        since simple ratios of scales make rounding ties common."""
        low, high = min(float(data.min()), 0.0), max(float(data.max()), 0.0)
        scale = max(high - low, 1e-3) / 255 * float(self.rng.uniform(0.6, 1.6))
        if self.sometimes():
            scale = float(2.0 ** np.round(np.log2(scale)))
        info = np.iinfo(self.kind)
        zero = int(np.clip(round(info.min - low / scale), info.min, info.max))
        zero = self.pick([zero, zero, (info.min + info.max + 1) // 2, info.min])
        scales = np.full(self.scale_shape, scale, np.float32)
        zeros = np.full(self.scale_shape, zero, self.kind)
        return Scheme(
            scale=scales, zero=zeros, scale_name=self.stored("scale", scales), zero_name=self.stored("zero", zeros)
        )  # fmt: skip

    def weight(self, shape: Sequence[int], axis: int, *, channels: bool) -> Value:
        """A constant; per channel along `axis` where `channels` and chance allow."""
        signed = self.weight_kind == np.int8
        most = 64 if signed and self.kind == np.uint8 else 128
        codes = self.rng.integers(-most if self.sometimes() else 1 - most, most, shape)
        middle = 0 if signed else int(self.rng.integers(100, 157))
        codes = (codes if signed else codes + 128).astype(self.weight_kind)
        size = (shape[axis],) if channels and self.flag() else self.scale_shape
        scale = self.rng.uniform(0.002, 0.02, size).astype(np.float32)
        zero = np.full(size, middle, self.weight_kind)
        scheme = Scheme(
            scale=scale, zero=zero, axis=axis,
            scale_name=self.stored("weight_scale", scale), zero_name=self.stored("weight_zero", zero),
        )  # fmt: skip
        name = self.stored("weight", codes)
        return Value(name=name, data=scheme.real(codes), scheme=scheme, constant=True)

    def constant(self, data: Array) -> Value:
        """A constant operand of Add, Mul and the like, in the graph's form."""
        data = data.astype(np.float32)
        if self.form == "dynamic":
            return Value(name=self.stored("constant", data), data=data, scheme=None, constant=True)
        scheme = self.scheme(data)
        info = np.iinfo(self.kind)
        codes = np.rint(data / scheme.scale.reshape(-1)[0]) + int(scheme.zero.reshape(-1)[0])
        codes = np.clip(codes, info.min, info.max).astype(self.kind)
        return Value(
            name=self.stored("constant", codes), data=scheme.real(codes), scheme=scheme, constant=True
        )

    def bias(self, x: Value, weight: Value, channels: int, reach: int) -> Value | Array:
        """int32 in steps of x scale times weight scale, as large as a sum over `reach` products; or in float."""
        assert weight.scheme is not None
        step = np.float32(1 / 128) if x.scheme is None else x.scheme.scale.reshape(-1)[0]
        scale = (step * weight.scheme.scale).astype(np.float32)
        scale = np.broadcast_to(scale, (channels,)) if scale.size == 1 and self.flag() else scale
        codes = (self.rng.integers(-2000, 2000, channels) * (isqrt(reach) + 1)).astype(np.int32)
        if self.form == "dynamic" or (self.form == "qdq" and self.sometimes()):
            return np.asarray(codes * scale, np.float32)
        zero = np.zeros(scale.shape, np.int32)
        scheme = Scheme(
            scale=scale, zero=zero, scale_name=self.stored("bias_scale", scale),
            zero_name="" if self.flag() else self.stored("bias_zero", zero),
        )  # fmt: skip
        name = self.stored("bias", codes)
        return Value(name=name, data=scheme.real(codes), scheme=scheme, constant=True)

    def real(self, value: Value) -> str:
        """The name of `value` as a float tensor."""
        if value.scheme is None:
            return value.name
        if self.shared and value.name in self.reals:
            return self.reals[value.name]
        inputs = [n for n in value.triple if n]
        axis = {"axis": value.scheme.axis} if value.scheme.scale.ndim else {}
        (name,) = self.node("DequantizeLinear", inputs, **axis)
        self.reals[value.name] = name
        return name

    # applying

    def apply(self, call: Call) -> list[Value]:
        """Write the operator in the graph's form and return its results; raises Unfit, having written nothing."""
        arrays = self.evaluate(call)
        self.read |= {value.name for value in call.values}
        if self.form == "qop" and call.op in QLINEAR and _has_qlinear(call):
            results = self._qlinear(call, arrays)
        elif self.form == "qop" and call.op in MOVEMENT and len(call.values) == 1:
            results = self._moved(call, arrays)
        elif self.form == "dynamic" and call.op in ("Conv", "MatMul", "Gemm"):
            results = [dynamic_product(self, call, arrays[0])]
        else:
            results = self._island(call, arrays)
        self.values += results
        return results

    def evaluate(self, call: Call) -> list[Array]:
        """What the operator returns for the sample, in float."""
        arrays = [None if o is None else o.data if isinstance(o, Value) else o for o in call.operands]
        results = evaluate(call.op, arrays, call.attributes, call.outputs, self.opset)
        if call.after is not None:
            op, rest = call.after
            results = evaluate(op, [results[0], *rest], {}, 1, self.opset)
        if any(
            a.dtype != np.float32 or not 0 < a.size <= MOST_VALUES or not 0 < a.ndim <= MOST_DIMENSIONS
            for a in results
        ) or not all(np.isfinite(a).all() for a in results):
            raise Unfit
        return results

    def result(self, name: str, data: Array, scheme: Scheme | None) -> Value:
        return Value(name=name, data=data if scheme is None else scheme.rounded(data), scheme=scheme)

    def _plain(self, operand: Value | Array | None) -> str:
        if operand is None:
            return ""
        return self.real(operand) if isinstance(operand, Value) else self.stored("constant", operand)

    def _island(self, call: Call, arrays: list[Array]) -> list[Value]:
        """Float, and QuantizeLinear behind it unless the graph is in float anyway."""
        names = self.node(call.op, [self._plain(o) for o in call.operands], call.outputs, **call.attributes)
        if call.after is not None:
            op, rest = call.after
            names = self.node(op, [names[0], *(self.stored("bound", r) for r in rest)])
        if self.form == "dynamic":
            return [self.result(n, a, None) for n, a in zip(names, arrays, strict=True)]
        results = []
        for name, data in zip(names, arrays, strict=True):
            first = call.values[0].scheme
            scheme = first if call.keep and first is not None else self.scheme(data)
            (quantised,) = self.node("QuantizeLinear", [name, *scheme.names])
            results.append(self.result(quantised, data, scheme))
        return results

    def _moved(self, call: Call, arrays: list[Array]) -> list[Value]:
        """Movement on the integers themselves."""
        inputs = [o.name if isinstance(o, Value) else self._plain(o) for o in call.operands]
        if call.op == "Pad" and len(inputs) > 2:  # what is filled in is then a code
            inputs[2] = self.stored("fill", np.array(call.values[0].scheme.zero.reshape(-1)[0]))  # type: ignore[union-attr]
        names = self.node(call.op, inputs, call.outputs, **call.attributes)
        return [self.result(n, a, call.values[0].scheme) for n, a in zip(names, arrays, strict=True)]

    def _qlinear(self, call: Call, arrays: list[Array]) -> list[Value]:
        op, place = QLINEAR[call.op]
        scheme = self.scheme(arrays[0])
        bias_at = 2 if call.op in ("Conv", "Gemm") else 99
        bias = [o.name for o in call.operands[bias_at:] if isinstance(o, Value)]
        triples = [name for o in call.operands[:bias_at] if isinstance(o, Value) for name in o.triple]
        inputs = {
            "first": [*scheme.names, *triples],
            "last": [*triples, *scheme.names, *bias],
            "gemm": [*triples, *(bias or [""]), *scheme.names],
        }[place]
        attributes = dict(call.attributes)
        if call.op == "Softmax":
            attributes["opset"] = 13
        domain = "" if op in ("QLinearConv", "QLinearMatMul") else MICROSOFT
        (name,) = self.node(op, inputs, domain=domain, **attributes)
        return [self.result(name, arrays[0], scheme)]

    def model(self, answer: str, kind: int, shape: Sequence[int], *, free_batch: bool) -> onnx.ModelProto:
        used = {name for node in self.nodes for name in node.input}
        batch = "N" if free_batch else 1
        for info in self.inputs:
            if free_batch:
                info.type.tensor_type.shape.dim[0].dim_param = batch  # type: ignore[assignment]
        graph = helper.make_graph(
            self.nodes, "random", self.inputs,
            [helper.make_tensor_value_info(answer, kind, [batch, *shape[1:]])],
            [tensor for tensor in self.constants if tensor.name in used],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


QLINEAR = {
    "Conv": ("QLinearConv", "last"),
    "MatMul": ("QLinearMatMul", "last"),
    "Gemm": ("QGemm", "gemm"),
    "Add": ("QLinearAdd", "last"),
    "Mul": ("QLinearMul", "last"),
    "Concat": ("QLinearConcat", "first"),
    "GlobalAveragePool": ("QLinearGlobalAveragePool", "last"),
    "AveragePool": ("QLinearAveragePool", "last"),
    "Sigmoid": ("QLinearSigmoid", "last"),
    "LeakyRelu": ("QLinearLeakyRelu", "last"),
    "Softmax": ("QLinearSoftmax", "last"),
}
"""Operator to its QLinear form and where scale and zero point of the result stand."""

MOVEMENT = set("Reshape Transpose Squeeze Unsqueeze Slice Split Gather Pad MaxPool Expand Tile".split())


def _has_qlinear(call: Call) -> bool:
    return call.after is None and all(isinstance(o, Value) for o in call.operands)


def evaluate(
    op: str, arrays: Sequence[Array | None], attributes: dict[str, Any], outputs: int, opset: int
) -> list[Array]:
    """One operator in ONNX Runtime; raises Unfit with whatever it refuses."""
    names = ["" if array is None else f"i{i}" for i, array in enumerate(arrays)]
    given = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    results = [f"o{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, results, **attributes)], "one", [],
        [onnx.ValueInfoProto(name=name) for name in results],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    try:
        onnx.defs.get_schema(op, opset, "")  # ONNX Runtime knows some operators in opsets that never had them
        found: list[Array] = session_of(model).run(results, {})
    except Exception as error:  # whatever class it is, the operator is not for us
        raise Unfit from error
    return found


def session_of(model: onnx.ModelProto) -> Any:
    """ONNX Runtime with every optimisation off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


# ---- dynamic quantisation


def dynamic_product(net: Net, call: Call, data: Array) -> Value:
    """Conv, Gemm or MatMul of float tensors by way of ConvInteger or MatMulInteger, or a fused form."""
    x, y, *rest = call.operands
    assert isinstance(x, Value) and isinstance(y, Value)
    convolution = call.op == "Conv"
    if not convolution and y.constant and len(y.shape) == 2 and net.sometimes():
        (name,) = net.node("DynamicQuantizeMatMul", [x.name, *y.triple], domain=MICROSOFT)
    else:
        name = _scaled_sums(net, call, x, y)
    for bias in rest:
        if bias is not None:
            assert isinstance(bias, np.ndarray)
            shape = (-1, *[1] * (len(y.shape) - 2)) if convolution else (-1,)
            (name,) = net.node("Add", [name, net.stored("bias", bias.reshape(shape))])
    if call.after is not None:
        op, bounds = call.after
        (name,) = net.node(op, [name, *(net.stored("bound", b) for b in bounds)])
    return net.result(name, data, None)


def _scaled_sums(net: Net, call: Call, x: Value, y: Value) -> str:
    """Integer sums of products, times both scales."""
    code, scale, zero = net.node("DynamicQuantizeLinear", [x.name], 3)
    other = y.triple if y.scheme is not None else net.node("DynamicQuantizeLinear", [y.name], 3)
    if call.op != "Conv" and net.sometimes():
        fused = [code, other[0], scale, other[1], zero, other[2]]
        return net.node("MatMulIntegerToFloat", fused, domain=MICROSOFT)[0]
    if call.op == "Conv" and y.scheme is not None and y.scheme.scale.size > 1:
        other[1] = net.stored("weight_scale", y.scheme.scale.reshape(-1, *[1] * (len(y.shape) - 2)))
        other[2] = net.stored("weight_zero", y.scheme.zero[0])  # one for all channels
    inputs = [code, other[0], zero, other[2]]
    if call.op == "Conv":
        (sums,) = net.node("ConvInteger", inputs, **call.attributes)
    else:
        (sums,) = net.node("MatMulInteger", inputs)
    (real,) = net.node("Cast", [sums], to=TensorProto.FLOAT)
    return net.node("Mul", [real, net.node("Mul", [scale, other[1]])[0]])[0]


# ---- operators: each draws its parameters and applies itself once


def inner_axis(net: Net, x: Value) -> int:
    """Not the batch, where there is another."""
    return net.dice.integer(1, len(x.shape) - 1) if len(x.shape) > 1 else 0


def activation(net: Net) -> tuple[str, tuple[Array, ...]] | None:
    """What may stand between a product and its QuantizeLinear."""
    if net.form == "qop":
        return None
    bounds = (np.float32(0), np.float32(net.dice.integer(1, 6)))
    options = [None, None, ("Relu", ()), ("Clip", tuple(np.array(b) for b in bounds))]
    return net.pick(options)


def windows(net: Net, spatial: Sequence[int], *, dilated: bool = True) -> dict[str, Any]:
    """Kernel, strides, dilations and pads, or auto_pad, for these sizes; not always possible."""
    n = len(spatial)
    kernel = [net.dice.integer(1, min(3, size)) for size in spatial]
    found: dict[str, Any] = {"kernel_shape": kernel, "strides": net.numbers(n, 1, 2)}
    if dilated and net.sometimes():
        found["dilations"] = net.numbers(n, 1, 2)
    how = net.pick(["pads", "none", "SAME_UPPER", "SAME_LOWER", "VALID"])
    if how == "pads":
        found["pads"] = [net.dice.integer(0, k - 1) for k in (*kernel, *kernel)]
    elif how != "none":
        found["auto_pad"] = how
    return found


def conv(net: Net) -> None:
    x = net.source(4, 4, 3, 5)
    _, cin, *spatial = x.shape
    group = net.pick([g for g in (1, 2, 3, cin) if cin % g == 0])
    cout = group * net.dice.integer(1, max(1, 8 // group))
    attributes = windows(net, spatial)
    attributes["strides"][0] = net.pick([attributes["strides"][0], 3])
    weight = net.weight((cout, cin // group, *attributes["kernel_shape"]), 0, channels=True)
    if net.flag():
        del attributes["kernel_shape"]
    operands: list[Value | Array | None] = [x, weight]
    if net.flag():
        operands.append(net.bias(x, weight, cout, prod(weight.shape[1:])))
    net.apply(
        Call(op="Conv", operands=operands, attributes={**attributes, "group": group}, after=activation(net))
    )


def conv_transpose(net: Net) -> None:
    x = net.source(4, 3)
    _, cin, *spatial = x.shape
    group = net.pick([g for g in (1, 2) if cin % g == 0])
    attributes = windows(net, [3] * len(spatial))
    attributes.pop("auto_pad", None)
    if net.flag() and min(attributes["strides"]) > 1:
        attributes["output_padding"] = [1] * len(spatial)
    each = net.dice.integer(1, 3)
    weight = net.weight((cin, each, *attributes["kernel_shape"]), 1, channels=group == 1)
    operands: list[Value | Array | None] = [x, weight]
    if net.flag() and (group == 1 or weight.scheme.scale.size == 1):  # type: ignore[union-attr]
        operands.append(net.bias(x, weight, each * group, prod(weight.shape[1:])))
    net.apply(
        Call(
            op="ConvTranspose", operands=operands, attributes={**attributes, "group": group},
            after=activation(net),
        )
    )  # fmt: skip


def gemm(net: Net) -> None:
    x = net.source(2)
    attributes = gemm_attributes(net)
    k = x.shape[0 if "transA" in attributes else 1]
    n = net.dice.integer(1, 8)
    turned = "transB" in attributes
    weight = net.weight((n, k) if turned else (k, n), 0 if turned else 1, channels=True)
    operands: list[Value | Array | None] = [x, weight]
    if net.flag():
        operands.append(net.bias(x, weight, n, k))
    net.apply(Call(op="Gemm", operands=operands, attributes=attributes, after=activation(net)))


def gemm_attributes(net: Net) -> dict[str, Any]:
    """Dynamic quantisers take none (they transpose the weight), QGemm no beta."""
    attributes: dict[str, Any] = {}
    if net.form != "dynamic" and net.flag():
        attributes["transB"] = 1
    if net.form != "dynamic" and net.sometimes():
        attributes["transA"] = 1
    if net.form != "dynamic" and net.sometimes():
        attributes["alpha"] = net.pick([0.5, 2.0, 0.3])
    if net.form == "qdq" and net.sometimes():
        attributes["beta"] = net.pick([0.5, 2.0])
    return attributes


def matmul(net: Net) -> None:
    """By a constant: two-dimensional, or one matrix for each of a batch, which broadcasts."""
    x = net.source(2, 3, 4)
    n = net.dice.integer(1, 8)
    batch = [net.pick([1, size]) for size in x.shape[1:-2]] if net.sometimes() else []
    weight = net.weight((*batch, x.shape[-1], n), len(batch) + 1, channels=not batch)
    net.apply(Call(op="MatMul", operands=[x, weight], after=activation(net)))


def attention(net: Net) -> None:
    """Two computed operands: x by its own transpose, or by a slice of it that broadcasts over the batch."""
    x = net.source(3, 4, 2)
    order = list(range(len(x.shape)))
    order[-1], order[-2] = order[-2], order[-1]
    (turned,) = net.apply(Call(op="Transpose", operands=[x], attributes={"perm": order}, keep=net.flag()))
    if len(x.shape) > 2 and net.sometimes():
        ends = [np.array([v], np.int64) for v in (0, 1, 1)]
        (turned,) = net.apply(Call(op="Slice", operands=[turned, *ends], keep=net.flag()))
    pair = [x, turned] if net.flag() else [turned, x]
    net.apply(Call(op="MatMul", operands=pair))


def pair(net: Net) -> None:
    """Add, Mul or Sub of two tensors, or of a tensor and a constant; shapes equal or broadcast."""
    x = net.source()
    op = net.pick(["Add", "Mul", "Sub"])
    fit = [v for v in net.values if broadcasts(v.shape, x.shape)]
    how = net.pick(["value", "value", "scalar", "channel", "whole"])
    shape = {
        "value": (), "scalar": (), "channel": (x.shape[1], *[1] * (len(x.shape) - 2)) if len(x.shape) > 1 else (),
        "whole": x.shape,
    }[how]  # fmt: skip
    reach = float(np.abs(x.data).max()) + 0.1
    numbers = net.rng.uniform(-reach, reach, shape).astype(np.float32)
    other: Value | Array = net.pick(fit) if how == "value" else net.constant(numbers)
    if how != "value" and net.form != "dynamic" and net.sometimes():
        other = numbers  # a float among the quantised
    operands = [x, other] if net.flag() else [other, x]
    net.apply(Call(op=op, operands=operands, after=net.pick([None, None, activation(net)])))


def broadcasts(small: Sequence[int], large: Sequence[int]) -> bool:
    return len(small) <= len(large) and all(
        a in (1, b) for a, b in zip(reversed(small), reversed(large), strict=False)
    )


def gate(net: Net) -> None:
    """Squeeze and excitation: x times the sigmoid of its own mean."""
    x = net.source(4, 3)
    (mean,) = net.apply(Call(op="GlobalAveragePool", operands=[x]))
    (weight,) = net.apply(Call(op="Sigmoid", operands=[mean]))
    net.apply(Call(op="Mul", operands=[x, weight]))


def unary(net: Net) -> None:
    x = net.source()
    ops: dict[str, dict[str, Any]] = {
        "Relu": {}, "Sigmoid": {}, "LeakyRelu": {"alpha": 0.1}, "Tanh": {}, "HardSigmoid": {}, "HardSwish": {},
        "Elu": {}, "Softplus": {}, "Erf": {}, "Neg": {}, "Abs": {}, "Gelu": {}, "Clip": {}, "PRelu": {},
    }  # fmt: skip
    op = net.pick(list(ops))
    rest: list[Array] = []
    if op == "Clip":
        rest = [np.array(np.float32(-net.dice.integer(0, 2))), np.array(np.float32(net.dice.integer(1, 6)))]
    if op == "PRelu":
        rest = [net.rng.uniform(-0.3, 0.3, (x.shape[1], *[1] * (len(x.shape) - 2))).astype(np.float32)]
    net.apply(Call(op=op, operands=[x, *rest], attributes=ops[op]))


def softmax(net: Net) -> None:
    x = net.source()
    axis = net.pick([-1, *range(1, len(x.shape))])
    net.apply(Call(op="Softmax", operands=[x], attributes={"axis": axis}))


def normalise(net: Net) -> None:
    x = net.source()
    size = x.shape[-1]
    gain, shift = (net.rng.uniform(low, 1.5, size).astype(np.float32) for low in (0.5, -1.5))
    net.apply(
        Call(
            op="LayerNormalization",
            operands=[x, gain, *([shift] if net.flag() else [])],
            attributes={"axis": -1},
        )
    )


def pool(net: Net) -> None:
    x = net.source(4, 4, 3, 5)
    op = net.pick(["MaxPool", "AveragePool"])
    attributes = windows(net, x.shape[2:], dilated=op == "MaxPool")
    if net.sometimes():
        attributes["ceil_mode"] = 1
    if op == "AveragePool" and net.flag():
        attributes["count_include_pad"] = 1
    net.apply(Call(op=op, operands=[x], attributes=attributes, keep=op == "MaxPool" and net.flag()))


def whole_pool(net: Net) -> None:
    op = net.pick(["GlobalAveragePool", "GlobalMaxPool"])
    net.apply(Call(op=op, operands=[net.source(4, 3)]))


def reduce(net: Net) -> None:
    x = net.source()
    op = net.pick(["ReduceMean", "ReduceMax"])
    axes = sorted({inner_axis(net, x), inner_axis(net, x)})
    attributes: dict[str, Any] = {"keepdims": net.dice.integer(0, 1)}
    as_input = net.opset >= 18
    rest = [np.array(axes, np.int64)] if as_input else []
    net.apply(
        Call(op=op, operands=[x, *rest], attributes=attributes if as_input else {**attributes, "axes": axes})
    )


def concat(net: Net) -> None:
    """Of tensors that agree in all other axes; a tensor with itself at the least."""
    x = net.source()
    axis = inner_axis(net, x)
    fit = [
        v for v in net.values
        if len(v.shape) == len(x.shape) and {i for i in range(len(x.shape)) if v.shape[i] != x.shape[i]} <= {axis}
    ]  # fmt: skip
    others = [net.pick(fit) for _ in range(net.dice.integer(1, 2))]
    net.apply(Call(op="Concat", operands=[x, *others], attributes={"axis": axis}, keep=net.flag()))


def split(net: Net) -> None:
    x = net.source()
    axis = inner_axis(net, x)
    if x.shape[axis] < 2:
        raise Unfit
    first = net.dice.integer(1, x.shape[axis] - 1)
    sizes = np.array([first, x.shape[axis] - first], np.int64)
    net.apply(Call(op="Split", operands=[x, sizes], attributes={"axis": axis}, outputs=2, keep=net.flag()))


def cut(net: Net) -> None:
    """Forwards with a step, or backwards."""
    x = net.source()
    axis = inner_axis(net, x)
    size = x.shape[axis]
    ends = net.pick([(0, size, axis, 2), (size // 2, size, axis, 1), (-1, -size - 1, axis, -1)])
    net.apply(Call(op="Slice", operands=[x, *(np.array([v], np.int64) for v in ends)], keep=net.flag()))


def gather(net: Net) -> None:
    x = net.source()
    axis = inner_axis(net, x)
    size = x.shape[axis]
    wanted = net.numbers(net.dice.integer(1, 4), -size, size - 1)
    indices = np.array(wanted[0] if net.sometimes() else wanted, np.int64)
    net.apply(Call(op="Gather", operands=[x, indices], attributes={"axis": axis}, keep=net.flag()))


def transpose(net: Net) -> None:
    x = net.source()
    rest = list(range(1, len(x.shape)))
    order = [0]
    while rest:
        order.append(rest.pop(net.dice.integer(0, len(rest) - 1)))
    net.apply(Call(op="Transpose", operands=[x], attributes={"perm": order}, keep=net.flag()))


def reshape(net: Net) -> None:
    """To another rank: flattened, rows, an image, or heads."""
    x = net.source()
    size = prod(x.shape)
    part = net.pick([d for d in (1, 2, 3, 4, x.shape[-1]) if size % d == 0])
    inner = net.pick([d for d in (1, 2, 3, 4) if size // part % d == 0])
    shapes = [[1, -1], [1, part, -1], [1, part, inner, -1], [0, part, -1]]
    target = np.array(net.pick(shapes), np.int64)
    net.apply(Call(op="Reshape", operands=[x, target], keep=net.flag()))


def squeeze(net: Net) -> None:
    x = net.source()
    ones = [i for i, size in enumerate(x.shape) if i and size == 1]
    if ones and len(x.shape) > 2 and net.flag():
        net.apply(Call(op="Squeeze", operands=[x, np.array([net.pick(ones)], np.int64)], keep=net.flag()))
        return
    axis = np.array([net.dice.integer(1, len(x.shape))], np.int64)
    net.apply(Call(op="Unsqueeze", operands=[x, axis], keep=net.flag()))


def pad(net: Net) -> None:
    x = net.source()
    rank = len(x.shape)
    amount = [0, *net.numbers(rank - 1, 0, 2), 0, *net.numbers(rank - 1, 0, 2)]
    mode = net.pick(["constant", "constant", "edge", "reflect"])
    operands: list[Value | Array | None] = [x, np.array(amount, np.int64)]
    if mode == "constant" and (net.form == "qop" or net.flag()):
        operands.append(np.array(np.float32(0)))
    net.apply(Call(op="Pad", operands=operands, attributes={"mode": mode}, keep=net.flag()))


def resize(net: Net) -> None:
    x = net.source(4, 3)
    n = len(x.shape) - 2
    scales = np.array([1, 1, *[net.pick([2.0, 1.0, 1.5, 0.5]) for _ in range(n)]], np.float32)
    mode = net.pick(["nearest", "linear"])
    how = net.pick(["asymmetric", "half_pixel", "align_corners"])
    attributes = {"mode": mode, "coordinate_transformation_mode": how}
    if mode == "nearest":
        attributes["nearest_mode"] = "floor"
    net.apply(Call(op="Resize", operands=[x, None, scales], attributes=attributes, keep=net.flag()))


def expand(net: Net) -> None:
    x = net.source()
    if net.flag():
        shape = [2 if size == 1 and i else size for i, size in enumerate(x.shape)]
        net.apply(Call(op="Expand", operands=[x, np.array(shape, np.int64)], keep=net.flag()))
    else:
        times = np.array([1, *net.numbers(len(x.shape) - 1, 1, 2)], np.int64)
        net.apply(Call(op="Tile", operands=[x, times], keep=net.flag()))


Step = Callable[[Net], None]

PRODUCTS: tuple[Step, ...] = (conv, gemm, matmul)
STEPS: tuple[Step, ...] = (
    conv, conv, conv, gemm, gemm, matmul, matmul, attention, attention, conv_transpose,
    pair, pair, gate, unary, unary, softmax, normalise, pool, pool, whole_pool, reduce,
    concat, split, cut, gather, transpose, reshape, reshape, squeeze, pad, resize, expand,
)  # fmt: skip


# ---- whole graphs


def add_input(net: Net, shape: tuple[int, ...]) -> None:
    """A float input quantised at once, or one that is already quantised."""
    name = f"input{len(net.inputs) or ''}"
    data = net.rng.normal(0, 1.2, shape).astype(np.float32)
    integer = net.form != "dynamic" and net.sometimes()
    if net.form == "dynamic":
        net.values.append(Value(name=name, data=data, scheme=None))
    else:
        scheme = net.scheme(data)
        code = name if integer else net.node("QuantizeLinear", [name, *scheme.names])[0]
        net.values.append(Value(name=code, data=scheme.rounded(data), scheme=scheme))
    if integer:
        info = np.iinfo(net.kind)
        data = net.rng.integers(info.min, info.max + 1, shape).astype(net.kind)
    net.inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(data.dtype), shape))
    net.feeds[name] = data


def started(dice: Dice, forms: Sequence[str]) -> Net:
    form = forms[dice.integer(0, len(forms) - 1)]
    rng = np.random.default_rng(dice.integer(0, 1 << 30))
    kinds = [(np.int8, np.int8), (np.uint8, np.int8), (np.uint8, np.uint8)]
    kind, weight_kind = kinds[dice.integer(0, 2)]
    return Net(
        dice=dice, rng=rng, form=form, weight_kind=weight_kind,
        kind=np.uint8 if form == "dynamic" else kind,
        opset=OPSETS[dice.integer(0, len(OPSETS) - 1)],
        # QLinearAdd and the other operators of com.microsoft take scalars only.
        scale_shape=((), (1,))[dice.integer(0, 1)] if form == "qdq" else (),
        shared=bool(dice.integer(0, 1)),
    )  # fmt: skip


def attempt(net: Net, steps: Sequence[Step]) -> str:
    """Apply one of `steps`; returns which, or nothing where none of the draws fits."""
    for _ in range(ATTEMPTS):
        step = net.pick(steps)
        try:
            step(net)
        except Unfit:
            continue
        return step.__name__
    return ""


def joined(net: Net, logits: int | None) -> Value:
    """Every tensor nobody reads, flattened and concatenated; with `logits`, a fully connected layer behind."""
    leaves = [value for value in net.values if value.name not in net.read]
    flat = [
        net.apply(Call(op="Reshape", operands=[v, np.array([1, -1], np.int64)], keep=True))[0]
        if len(v.shape) != 2 or v.shape[0] != 1 else v
        for v in leaves
    ]  # fmt: skip
    last = flat[0]
    if len(flat) > 1:
        (last,) = net.apply(Call(op="Concat", operands=flat, attributes={"axis": 1}))
    if logits is not None:
        weight = net.weight((last.shape[1], logits), 1, channels=True)
        (last,) = net.apply(Call(op="MatMul", operands=[last, weight]))
    return last


def random_graph(
    dice: Dice,
    *,
    forms: Sequence[str] = FORMS,
    most: int = 9,
    logits: int | None = None,
    steps: Sequence[Step] = STEPS,
) -> Sample:
    """A graph of up to `most` drawn operators, the first a product; raises Unfit if ONNX Runtime won't run it."""
    net = started(dice, forms)
    rank = net.pick([4, 2, 3, 4, 5])
    shape = (1, *net.numbers(rank - 1, 1 if rank < 5 else 2, 6))
    add_input(net, shape)
    if net.sometimes():
        add_input(net, shape)
    done = [f"{net.form} {net.kind.__name__} x {net.weight_kind.__name__} opset {net.opset} {shape}"]
    done.append(attempt(net, PRODUCTS))
    if not done[-1]:
        raise Unfit
    done += [attempt(net, steps) for _ in range(net.dice.integer(0, most - 1))]
    answer = joined(net, logits)
    if answer.scheme is None or net.sometimes():
        name = answer.name
        kind = (
            TensorProto.FLOAT
            if answer.scheme is None
            else helper.np_dtype_to_tensor_dtype(np.dtype(net.kind))
        )
    else:
        name, kind = net.real(answer), TensorProto.FLOAT
    model = net.model(name, kind, answer.shape, free_batch=net.flag())
    sample = Sample(model=model, feeds=net.feeds, form=net.form, steps=tuple(step for step in done if step))
    verify(sample)
    return sample


def verify(sample: Sample) -> None:
    """Valid ONNX, and ONNX Runtime runs it as written; raises Unfit."""
    onnx.checker.check_model(sample.model)
    try:
        session_of(sample.model).run(None, sample.feeds)
    except Exception as error:
        raise Unfit(f"{sample}: {error}") from error


def seeded_graph(seed: int, **scope: Any) -> Sample:
    """The graph of a seed: what hypothesis would draw, without hypothesis. Raises Unfit as random_graph does."""
    return random_graph(SeededDice(np.random.default_rng(seed)), **scope)


@st.composite
def random_graphs(draw: st.DrawFn, **scope: Any) -> Sample:
    """hypothesis strategy; see random_graph."""
    try:
        return random_graph(DrawnDice(draw), **scope)
    except Unfit:
        reject()
