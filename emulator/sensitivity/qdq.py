"""Quantised models in the one form the gradient builder differentiates: float operators, and integers only between a
QuantizeLinear and the DequantizeLinear that read it. Names of quantised tensors are kept.

Operators that compute on integers become float ones between DequantizeLinear and QuantizeLinear, integer products
float ones of (integer - zero point), and what moves or selects integers does so with their real values. Where a scale
is computed at run time, integers stand for (integer - zero point), and the scale multiplies outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from emulator.errors import UnsupportedModel
from emulator.graph.rewriting import Rewriter
from emulator.sensitivity.rules.quantisation import constant_array, selects, taken_from
from emulator.sensitivity.rules.registry import describe

OPSET = 18  # the first with axes as inputs throughout and ScatterElements that adds
_OPSET_16_BITS = 21  # the first whose QuantizeLinear has them, and 4 bits; before, com.microsoft's had

_FLOAT, _INT32 = ir.DataType.FLOAT, ir.DataType.INT32

# What accumulators may go through before they are a float: the same on floats. The second group joins several.
_WIDE_ALONE = frozenset("Cast Expand Identity Neg Relu Reshape Slice Squeeze Transpose Unsqueeze".split())
_WIDE_TOGETHER = frozenset("Add Concat Mul Sub Sum".split())


def to_qdq(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model, in QLinear form or any other, that computes on real values only, at opset 18 or later.

    Accumulators that the model returns become floats; what else it returns keeps its type. Raises UnsupportedModel
    naming a node whose integers cannot be followed.
    """
    copy = ir.serde.from_proto(upgraded(model))
    on_reals(copy)
    return ir.serde.to_proto(copy)


def upgraded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model at opset 18, or as it is where that is newer; 21 where it quantises by operators of com.microsoft."""
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OPSET)
    wanted = _OPSET_16_BITS if any(_quantises_in_microsoft(node) for node in model.graph.node) else OPSET
    if version >= wanted:
        return model
    try:
        return onnx.version_converter.convert_version(model, wanted)
    except Exception as error:  # the converter raises whatever its C++ side throws
        raise UnsupportedModel(
            f"cannot upgrade the model from opset {version} to {wanted}: {error}; export it with opset {wanted}"
        ) from error


def _quantises_in_microsoft(node: onnx.NodeProto | ir.Node) -> bool:
    return node.domain == "com.microsoft" and node.op_type in ("QuantizeLinear", "DequantizeLinear")


def on_reals(model: ir.Model) -> None:
    """The same in place."""
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    rewriting = _Rewriting(model.graph)
    for node in list(model.graph):
        rewriting.visit(node)
    for key in [key for key in model.functions if key[0] == "emulator"]:
        del model.functions[key]


class _Grid(NamedTuple):
    """How integers are read: the scale, the zero point (None: 0), and the axis of those that are vectors."""

    scale: ir.Value
    zero_point: ir.Value | None
    axis: int

    @property
    def beside(self) -> list[ir.Value]:
        """The inputs of a QuantizeLinear or DequantizeLinear beside the first."""
        return [self.scale] if self.zero_point is None else [self.scale, self.zero_point]


class _Rewriting:
    """One graph, node by node. grids: how each integer tensor was written; wide: accumulators, int32 once and float
    now."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.r = Rewriter(graph)
        self.grids: dict[ir.Value, _Grid] = {}
        self.wide: set[ir.Value] = set()
        self._reals: dict[tuple[ir.Value, _Grid], ir.Value] = {}
        for value in graph.inputs:
            if value.dtype is not None and value.dtype.is_integer():
                self._given(value)

    def visit(self, node: ir.Node) -> None:
        """Rewrite one node; those before it have been."""
        if _quantises_in_microsoft(node):
            node.domain = ""
        build = _BUILDERS.get(node.op_type)
        if build is not None:
            build(self, node)
        elif any(value in self.wide for value in node.inputs):
            self._accumulators(node)
        elif selects(node) and any(value in self.grids for value in taken_from(node)):
            self._selected(node)

    @cached_property
    def one(self) -> ir.Value:
        """The scale of integers that are read as they are."""
        return self.r.constant("gradient/one", np.ones((), np.float32))

    # ---- what builders use

    def grid(self, node: ir.Node, scale: int | None, zero_point: int, axis: int = 1) -> _Grid:
        """Scale and zero point that a node names, of one shape; no scale is 1."""
        zero = _input(node, zero_point)
        given = self.one if scale is None else _input(node, scale)
        assert given is not None  # required by the operators
        size = max(_size(given), 1 if zero is None else _size(zero))
        if size > 1:
            given = self._vector(given, size)
            zero = None if zero is None else self._vector(zero, size)
        return _Grid(given, zero, axis)

    def _vector(self, value: ir.Value, size: int) -> ir.Value:
        found = constant_array(value)
        if found is None or (found.ndim == 1 and found.size == size):
            return value
        return self.r.constant(f"{value.name}/vector", np.broadcast_to(found.reshape(-1), (size,)).copy())

    def real(self, node: ir.Node, value: ir.Value | None, grid: _Grid) -> ir.Value:
        """The real values of integers, in front of `node`."""
        assert value is not None  # required by the operators
        if (value, grid) not in self._reals:
            self._reals[value, grid] = self._scaled(
                node, "DequantizeLinear", value, grid, f"{value.name}/real"
            )
        return self._reals[value, grid]

    def _scaled(self, node: ir.Node, op: str, value: ir.Value, grid: _Grid, name: str) -> ir.Value:
        inputs = [value, *grid.beside]
        if _size(grid.scale) == 1:
            return self.r.node(node, op, inputs, name)
        return self.r.node(node, op, inputs, name, axis=grid.axis)

    def operator(self, node: ir.Node, op: str, inputs: Sequence[ir.Value | None], *keep: str) -> ir.Value:
        """A standard operator in front of `node`, with those of its attributes that are named."""
        if "channels_last" in node.attributes and node.attributes.get_int("channels_last"):
            raise UnsupportedModel(
                f"{describe(node)} has its channels last; save the model before layouts change"
            )
        attributes = {name: node.attributes[name].value for name in keep if name in node.attributes}
        return self.r.node(node, op, inputs, f"{node.outputs[0].name}/real", **attributes)

    def quantise(self, node: ir.Node, real: ir.Value, grid: _Grid, old: ir.Value) -> ir.Value:
        """A real value as integers, in the place of `old`, an output of `node`; returns them."""
        new = self._scaled(node, "QuantizeLinear", real, grid, f"{old.name}/integers")
        dtype = ir.DataType.UINT8 if grid.zero_point is None else grid.zero_point.dtype
        self.replace(old, new, dtype)
        self.grids[new] = grid
        return new

    def replace(self, old: ir.Value, new: ir.Value, dtype: ir.DataType | None) -> None:
        """Give `new` to all readers of `old`, under its name."""
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        new.shape = old.shape
        new.type = None if dtype is None else ir.TensorType(dtype)
        name, old.name = old.name, self.r.fresh(f"{old.name}/replaced")
        new.name = name

    # ---- integers that are given, selected, or summed up

    def _given(self, value: ir.Value) -> None:
        """The grid with which a graph input is read first."""
        readers = list(value.consumers())
        for node in readers:
            if selects(node):
                readers += [reader for output in node.outputs for reader in output.consumers()]
            for at, scale, zero_point in _OPERANDS.get(node.op_type, ()):
                source = node.inputs[at]
                if source is not None and value in _origins(source):
                    self.grids[value] = self.grid(node, scale, zero_point)
                    return

    def _selected(self, node: ir.Node) -> None:
        """The same node on real values. What stands beside integers, a bound or a fill, is an integer too."""
        taken = taken_from(node)
        grid = next(self.grids[value] for value in taken if value in self.grids)
        if _size(grid.scale) > 1:
            raise UnsupportedModel(
                f"{describe(node)} works on integers with a scale a channel; put it behind the DequantizeLinear"
            )
        inputs = [self.real(node, v, grid) if any(v is t for t in taken) else v for v in node.inputs]
        op = node.op_type
        if op == "Relu" or (op == "Pad" and _input(node, 2) is None):
            # What it compares with or fills in is the integer 0, whatever that is worth.
            dtype = np.uint8 if grid.zero_point is None else _dtype(grid.zero_point)
            zero = self.real(node, self.r.constant(f"{node.outputs[0].name}/zero", np.zeros((), dtype)), grid)
            op = "Max" if op == "Relu" else op
            inputs = [inputs[0], zero] if op == "Max" else [*inputs[:2], zero, *inputs[3:]]
        new = ir.Node(
            "", op, inputs, attributes=node.attributes.values(), num_outputs=len(node.outputs), name=node.name
        )
        self.graph.insert_before(node, new)
        for index, (old, made) in enumerate(zip(node.outputs, new.outputs, strict=True)):
            made.name = self.r.fresh(f"{old.name}/real")
            if index and op in ("MaxPool", "TopK"):
                self.replace(old, made, ir.DataType.INT64)
            else:
                self.quantise(node, made, grid, old)
        self.graph.remove(node, safe=True)

    def accumulated(self, node: ir.Node, total: ir.Value) -> None:
        """A sum of products, a float, in the place of the int32 that `node` returned."""
        self.replace(node.outputs[0], total, _FLOAT)
        self.wide.add(total)
        self.graph.remove(node, safe=True)

    def _accumulators(self, node: ir.Node) -> None:
        """Floats in, floats out; an operator that is not known to do the same with floats gets the integers back."""
        known = node.op_type in _WIDE_ALONE | _WIDE_TOGETHER
        for at, value in enumerate(node.inputs):
            if value is None or (known and (value in self.wide or (at and node.op_type in _WIDE_ALONE))):
                continue
            if known or value in self.wide:
                to = int(_FLOAT if known else _INT32)
                cast = self.r.node(node, "Cast", [value], f"{value.name}/cast", to=to)
                node.replace_input_with(at, cast)
        if known and node.op_type != "Cast":
            node.outputs[0].type = ir.TensorType(_FLOAT)
            self.wide.add(node.outputs[0])


# ---- operators


def _quantize(w: _Rewriting, node: ir.Node) -> None:
    """A scale known at run time only divides outside."""
    scale = node.inputs[1]
    if constant_array(scale) is not None:
        w.grids[node.outputs[0]] = w.grid(node, 1, 2, node.attributes.get_int("axis", 1))
        return
    steps = w.r.node(node, "Div", [node.inputs[0], scale], f"{node.outputs[0].name}/steps")
    w.quantise(node, steps, _Grid(w.one, _input(node, 2), 1), node.outputs[0])
    w.graph.remove(node, safe=True)


def _dynamic(w: _Rewriting, node: ir.Node) -> None:
    """Scale and zero point stay its own; its integers come from a QuantizeLinear."""
    integers, scale, zero_point = node.outputs
    after = ir.Node("", "Div", [node.inputs[0], scale], num_outputs=1)
    after.outputs[0].name = w.r.fresh(f"{integers.name}/steps")
    quantise = ir.Node("", "QuantizeLinear", [after.outputs[0], w.one, zero_point], num_outputs=1)
    w.graph.insert_after(node, [after, quantise])
    w.replace(integers, quantise.outputs[0], ir.DataType.UINT8)
    w.grids[quantise.outputs[0]] = _Grid(w.one, zero_point, 1)


def _dequantize(w: _Rewriting, node: ir.Node) -> None:
    """A scale known at run time only multiplies outside; so does that of accumulators, which are floats by now."""
    value, scale = node.inputs[0], node.inputs[1]
    assert value is not None
    if value not in w.wide and constant_array(scale) is not None:
        return
    if value not in w.wide:
        value = w.real(node, value, _Grid(w.one, _input(node, 2), 1))
    real = w.r.node(node, "Mul", [value, scale], f"{node.outputs[0].name}/scaled")
    w.replace(node.outputs[0], real, _FLOAT)
    w.graph.remove(node, safe=True)


def _cast(w: _Rewriting, node: ir.Node) -> None:
    """Integers read as numbers are real values of scale 1."""
    value = node.inputs[0]
    if value in w.wide:
        return
    if value in w.grids and node.attributes.get_int("to") == int(_FLOAT):
        w.replace(node.outputs[0], w.real(node, value, _Grid(w.one, None, 1)), _FLOAT)
        w.graph.remove(node, safe=True)


def _integer_product(op: str, axes: tuple[int, int], *keep: str) -> _Builder:
    """(a - zero point) times (b - zero point); axes: of zero points that are vectors."""

    def build(w: _Rewriting, node: ir.Node) -> None:
        operands = [w.real(node, node.inputs[at], w.grid(node, None, 2 + at, axes[at])) for at in (0, 1)]
        w.accumulated(node, w.operator(node, op, operands, *keep))

    return build


def _dynamic_product(w: _Rewriting, node: ir.Node) -> None:
    """DynamicQuantizeMatMul: a, b, b_scale, b_zero_point, bias."""
    name = node.outputs[0].name
    quantise = ir.Node("", "DynamicQuantizeLinear", [node.inputs[0]], num_outputs=3)
    w.graph.insert_before(node, quantise)
    for output, tag in zip(quantise.outputs, ("integers", "scale", "zero_point"), strict=True):
        output.name = w.r.fresh(f"{name}/{tag}")
    integers, scale, zero_point = quantise.outputs
    left = _Grid(w.one, zero_point, 1)
    steps = w.r.node(node, "Div", [node.inputs[0], scale], f"{name}/steps")
    act = w.real(node, w.quantise(node, steps, left, integers), left)
    _to_float(w, node, act, w.grid(node, None, 3, -1), [scale, node.inputs[2]], 4)


def _product_to_float(w: _Rewriting, node: ir.Node) -> None:
    """MatMulIntegerToFloat: a, b, a_scale, b_scale, a_zero_point, b_zero_point, bias."""
    act = w.real(node, node.inputs[0], w.grid(node, None, 4, -2))
    _to_float(w, node, act, w.grid(node, None, 5, -1), node.inputs[2:4], 6)


def _to_float(
    w: _Rewriting, node: ir.Node, act: ir.Value, right: _Grid, scales: Sequence[ir.Value | None], bias: int
) -> None:
    real = w.operator(node, "MatMul", [act, w.real(node, node.inputs[1], right)])
    name = node.outputs[0].name
    real = w.r.node(node, "Mul", [real, w.r.node(node, "Mul", scales, f"{name}/unit")], f"{name}/scaled")
    if _input(node, bias) is not None:
        real = w.r.node(node, "Add", [real, node.inputs[bias]], f"{name}/biased")
    w.replace(node.outputs[0], real, _FLOAT)
    w.graph.remove(node, safe=True)


def _bias(w: _Rewriting, node: ir.Node, at: int) -> list[ir.Value]:
    """An int32 bias as a real vector: its scale is that of the products."""
    bias = _input(node, at)
    if bias is None:
        return []
    unit = w.r.node(node, "Mul", [node.inputs[1], node.inputs[4]], f"{bias.name}/unit")
    whole = w.r.node(node, "Cast", [bias], f"{bias.name}/float", to=int(_FLOAT))
    return [w.r.node(node, "Mul", [whole, unit], f"{bias.name}/real")]


def _finish(w: _Rewriting, node: ir.Node, real: ir.Value, out: int) -> None:
    """Quantised as inputs `out` and the next say; left real where there are none."""
    if _input(node, out) is None:
        w.replace(node.outputs[0], real, _FLOAT)
    else:
        w.quantise(node, real, w.grid(node, out, out + 1), node.outputs[0])
    w.graph.remove(node, safe=True)


def _product(op: str, axes: tuple[int, int], bias: int | None, out: int, *keep: str) -> _Builder:
    def build(w: _Rewriting, node: ir.Node) -> None:
        axis = axes[1]
        if op == "Gemm":
            axis = 0 if node.attributes.get_int("transB", 0) else 1
        operands = [
            w.real(node, node.inputs[0], w.grid(node, 1, 2, axes[0])),
            w.real(node, node.inputs[3], w.grid(node, 4, 5, axis)),
            *([] if bias is None else _bias(w, node, bias)),
        ]
        real = w.operator(node, op, operands, *keep)
        if op == "Gemm" and len(operands) > 2 and node.attributes.get_float("alpha", 1.0) != 1.0:
            # The bias is in units of the products, so alpha holds for it too.
            made = real.producer()
            assert made is not None
            made.attributes["beta"] = ir.AttrFloat32("beta", node.attributes.get_float("alpha", 1.0))
        _finish(w, node, real, out)

    return build


def _elementwise(op: str, places: Sequence[int], out: int, *keep: str) -> _Builder:
    """Operands at `places`, each with its scale and zero point."""

    def build(w: _Rewriting, node: ir.Node) -> None:
        operands = [w.real(node, node.inputs[at], w.grid(node, at + 1, at + 2)) for at in places]
        _finish(w, node, w.operator(node, op, operands, *keep), out)

    return build


def _concat(w: _Rewriting, node: ir.Node) -> None:
    places = range(2, len(node.inputs), 3)
    operands = [w.real(node, node.inputs[at], w.grid(node, at + 1, at + 2)) for at in places]
    _finish(w, node, w.operator(node, "Concat", operands, "axis"), 0)


def _where(w: _Rewriting, node: ir.Node) -> None:
    operands = [w.real(node, node.inputs[at], w.grid(node, at + 1, at + 2)) for at in (1, 4)]
    _finish(w, node, w.operator(node, "Where", [node.inputs[0], *operands]), 7)


def _softmax(w: _Rewriting, node: ir.Node) -> None:
    """Before opset 13 it went over all axes from `axis` on."""
    axis, shape = node.attributes.get_int("axis", -1), node.outputs[0].shape
    old = node.attributes.get_int("opset", 13) < 13
    if old and axis != -1 and (shape is None or axis != len(shape) - 1):
        raise UnsupportedModel(
            f"{describe(node)} goes over several axes; export the model with opset 13 or later"
        )
    _elementwise("Softmax", (0,), 3, "axis")(w, node)


def _input(node: ir.Node, at: int) -> ir.Value | None:
    return node.inputs[at] if at < len(node.inputs) else None


def _size(value: ir.Value) -> int:
    """Elements of a constant; 1 for a scale or zero point computed at run time."""
    found = constant_array(value)
    return 1 if found is None else found.size


def _dtype(value: ir.Value) -> np.dtype[np.generic]:
    return np.dtype(np.uint8) if value.dtype is None else value.dtype.numpy()


def _origins(value: ir.Value) -> list[ir.Value]:
    """A value and what it was selected from."""
    found = [value]
    for each in found:
        node = each.producer()
        if node is not None and selects(node):
            found += taken_from(node)
    return found


_Builder = Callable[[_Rewriting, ir.Node], None]
_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides")
_CONV_INTEGER = _integer_product("Conv", (1, 0), *_CONV)
_MATMUL_INTEGER = _integer_product("MatMul", (-2, -1))

_BUILDERS: dict[str, _Builder] = {
    "Cast": _cast,
    "ConvInteger": _CONV_INTEGER,
    "ConvInteger16": _CONV_INTEGER,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "DynamicQuantizeMatMul": _dynamic_product,
    "MatMulInteger": _MATMUL_INTEGER,
    "MatMulInteger16": _MATMUL_INTEGER,
    "MatMulIntegerToFloat": _product_to_float,
    "QGemm": _product("Gemm", (1, 1), 6, 7, "alpha", "transA", "transB"),
    "QLinearAdd": _elementwise("Add", (0, 3), 6),
    "QLinearAveragePool": _elementwise("AveragePool", (0,), 3, *_POOL),
    "QLinearConcat": _concat,
    "QLinearConv": _product("Conv", (1, 0), 8, 6, *_CONV),
    "QLinearGlobalAveragePool": _elementwise("GlobalAveragePool", (0,), 3),
    "QLinearLeakyRelu": _elementwise("LeakyRelu", (0,), 3, "alpha"),
    "QLinearMatMul": _product("MatMul", (-2, -1), None, 6),
    "QLinearMul": _elementwise("Mul", (0, 3), 6),
    "QLinearSigmoid": _elementwise("Sigmoid", (0,), 3),
    "QLinearSoftmax": _softmax,
    "QLinearWhere": _where,
    "QuantizeLinear": _quantize,
}

# Inputs that are integers: (place, that of the scale, that of the zero point).
_OPERANDS: dict[str, tuple[tuple[int, int | None, int], ...]] = {
    "ConvInteger": ((0, None, 2),),
    "ConvInteger16": ((0, None, 2),),
    "DequantizeLinear": ((0, 1, 2),),
    "MatMulInteger": ((0, None, 2), (1, None, 3)),
    "MatMulInteger16": ((0, None, 2),),
    "QLinearAdd": ((0, 1, 2), (3, 4, 5)),
    "QLinearAveragePool": ((0, 1, 2),),
    "QLinearConv": ((0, 1, 2),),
    "QLinearGlobalAveragePool": ((0, 1, 2),),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5)),
    "QLinearMul": ((0, 1, 2), (3, 4, 5)),
    "QLinearConcat": ((2, 3, 4), (5, 6, 7)),
    "QGemm": ((0, 1, 2),),
}
