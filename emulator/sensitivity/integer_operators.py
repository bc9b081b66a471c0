"""Operators that compute on integers, each as a float one between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from emulator.errors import UnsupportedModel
from emulator.sensitivity.reals import FLOAT, Grid, Reals, input_of
from emulator.sensitivity.rules.quantisation import constant_array
from emulator.sensitivity.rules.registry import describe

Builder = Callable[[Reals, ir.Node], None]


def _quantize(w: Reals, node: ir.Node) -> None:
    """A scale known at run time only divides outside."""
    scale = node.inputs[1]
    if constant_array(scale) is not None:
        w.grids[node.outputs[0]] = w.grid(node, 1, 2, node.attributes.get_int("axis", 1))
        return
    steps = w.r.node(node, "Div", [node.inputs[0], scale], f"{node.outputs[0].name}/steps")
    w.quantise(node, steps, Grid(w.one, input_of(node, 2), 1), node.outputs[0])
    w.graph.remove(node, safe=True)


def _dynamic(w: Reals, node: ir.Node) -> None:
    _dynamic_integers(w, node)


def _dynamic_integers(w: Reals, node: ir.Node) -> tuple[ir.Value, Grid]:
    """Of a DynamicQuantizeLinear, whose scale and zero point stay its own; they come from a QuantizeLinear."""
    integers, scale, zero_point = node.outputs
    after = ir.Node("", "Div", [node.inputs[0], scale], num_outputs=1)
    after.outputs[0].name = w.r.fresh(f"{integers.name}/steps")
    quantise = ir.Node("", "QuantizeLinear", [after.outputs[0], w.one, zero_point], num_outputs=1)
    w.graph.insert_after(node, [after, quantise])
    w.replace(integers, quantise.outputs[0], ir.DataType.UINT8)
    grid = w.grids[quantise.outputs[0]] = Grid(w.one, zero_point, 1)
    return quantise.outputs[0], grid


def _dequantize(w: Reals, node: ir.Node) -> None:
    """A scale known at run time only multiplies outside; so does that of accumulators, which are floats by now."""
    value, scale = node.inputs[0], node.inputs[1]
    assert value is not None
    if value not in w.wide and constant_array(scale) is not None:
        return
    if value not in w.wide:
        value = w.real(node, value, Grid(w.one, input_of(node, 2), 1))
    real = w.r.node(node, "Mul", [value, scale], f"{node.outputs[0].name}/scaled")
    w.replace(node.outputs[0], real, FLOAT)
    w.graph.remove(node, safe=True)


def _cast(w: Reals, node: ir.Node) -> None:
    """Integers read as numbers are real values of scale 1."""
    value = node.inputs[0]
    if value in w.wide:
        return
    if value in w.grids and node.attributes.get_int("to") == int(FLOAT):
        w.replace(node.outputs[0], w.real(node, value, Grid(w.one, None, 1)), FLOAT)
        w.graph.remove(node, safe=True)


def _integer_product(op: str, axes: tuple[int, int], *keep: str) -> Builder:
    """(a - zero point) times (b - zero point); axes: of zero points that are vectors."""

    def build(w: Reals, node: ir.Node) -> None:
        operands = [w.real(node, node.inputs[at], w.grid(node, None, 2 + at, axes[at])) for at in (0, 1)]
        w.accumulated(node, w.operator(node, op, operands, *keep))

    return build


def _dynamic_product(w: Reals, node: ir.Node) -> None:
    """DynamicQuantizeMatMul: a, b, b_scale, b_zero_point, bias."""
    name = node.outputs[0].name
    quantise = ir.Node("", "DynamicQuantizeLinear", [node.inputs[0]], num_outputs=3)
    w.graph.insert_before(node, quantise)
    for output, tag in zip(quantise.outputs, ("integers", "scale", "zero_point"), strict=True):
        output.name = w.r.fresh(f"{name}/{tag}")
    scale, act = quantise.outputs[1], w.real(node, *_dynamic_integers(w, quantise))
    _to_float(w, node, act, w.grid(node, None, 3, -1), [scale, node.inputs[2]], 4)


def _product_to_float(w: Reals, node: ir.Node) -> None:
    """MatMulIntegerToFloat: a, b, a_scale, b_scale, a_zero_point, b_zero_point, bias."""
    act = w.real(node, node.inputs[0], w.grid(node, None, 4, -2))
    _to_float(w, node, act, w.grid(node, None, 5, -1), node.inputs[2:4], 6)


def _to_float(
    w: Reals, node: ir.Node, act: ir.Value, right: Grid, scales: Sequence[ir.Value | None], bias: int
) -> None:
    real = w.operator(node, "MatMul", [act, w.real(node, node.inputs[1], right)])
    name = node.outputs[0].name
    real = w.r.node(node, "Mul", [real, w.r.node(node, "Mul", scales, f"{name}/unit")], f"{name}/scaled")
    if input_of(node, bias) is not None:
        real = w.r.node(node, "Add", [real, node.inputs[bias]], f"{name}/biased")
    w.replace(node.outputs[0], real, FLOAT)
    w.graph.remove(node, safe=True)


def _bias(w: Reals, node: ir.Node, at: int) -> list[ir.Value]:
    """An int32 bias as a real vector: its scale is that of the products."""
    bias = input_of(node, at)
    if bias is None:
        return []
    unit = w.r.node(node, "Mul", [node.inputs[1], node.inputs[4]], f"{bias.name}/unit")
    whole = w.r.node(node, "Cast", [bias], f"{bias.name}/float", to=int(FLOAT))
    return [w.r.node(node, "Mul", [whole, unit], f"{bias.name}/real")]


def _finish(w: Reals, node: ir.Node, real: ir.Value, out: int) -> None:
    """Quantised as inputs `out` and the next say; left real where there are none."""
    if input_of(node, out) is None:
        w.replace(node.outputs[0], real, FLOAT)
    else:
        w.quantise(node, real, w.grid(node, out, out + 1), node.outputs[0])
    w.graph.remove(node, safe=True)


def _product(op: str, axes: tuple[int, int], bias: int | None, out: int, *keep: str) -> Builder:
    def build(w: Reals, node: ir.Node) -> None:
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


def _elementwise(op: str, places: Sequence[int], out: int, *keep: str) -> Builder:
    """Operands at `places`, each with its scale and zero point."""

    def build(w: Reals, node: ir.Node) -> None:
        operands = [w.real(node, node.inputs[at], w.grid(node, at + 1, at + 2)) for at in places]
        _finish(w, node, w.operator(node, op, operands, *keep), out)

    return build


def _concat(w: Reals, node: ir.Node) -> None:
    places = range(2, len(node.inputs), 3)
    operands = [w.real(node, node.inputs[at], w.grid(node, at + 1, at + 2)) for at in places]
    _finish(w, node, w.operator(node, "Concat", operands, "axis"), 0)


def _where(w: Reals, node: ir.Node) -> None:
    operands = [w.real(node, node.inputs[at], w.grid(node, at + 1, at + 2)) for at in (1, 4)]
    _finish(w, node, w.operator(node, "Where", [node.inputs[0], *operands]), 7)


def _softmax(w: Reals, node: ir.Node) -> None:
    """Before opset 13 it went over all axes from `axis` on."""
    axis, shape = node.attributes.get_int("axis", -1), node.outputs[0].shape
    old = node.attributes.get_int("opset", 13) < 13
    if old and axis != -1 and (shape is None or axis != len(shape) - 1):
        raise UnsupportedModel(
            f"{describe(node)} goes over several axes; export the model with opset 13 or later"
        )
    _elementwise("Softmax", (0,), 3, "axis")(w, node)


_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides")
_CONV_INTEGER = _integer_product("Conv", (1, 0), *_CONV)
_MATMUL_INTEGER = _integer_product("MatMul", (-2, -1))

BUILDERS: dict[str, Builder] = {
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
