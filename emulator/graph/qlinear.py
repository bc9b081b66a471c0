"""QDQ to the QLinear form: each Conv, Gemm, MatMul, Add, Mul, Concat and average pool between DequantizeLinear and
QuantizeLinear becomes the ONNX operator that computes it in integers; a product whose result stays float, the integer
product and its scale. Everything else stays as it is.

The QLinear form is the reference: the emulator equals ONNX Runtime running it with optimisations off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from emulator.graph.bounds import PRODUCTS, first_bound, split
from emulator.graph.normalise import normalise
from emulator.graph.rewriting import (
    Inputs,
    Quantised,
    Rewriter,
    StaysFloat,
    array_of,
    attribute_of,
    attributes_of,
    dequantised,
    quantisation_of,
)
from emulator.graph.sixteen_bits import CONV16, DOMAIN, MATMUL16, add_functions
from emulator.graph.transposed import to_convolution

MICROSOFT = "com.microsoft"

# Where a node that stays float says why.
REASON = "emulator.stays_float"


def to_qlinear(model: ir.Model) -> ir.Model:
    """A copy of `model` in QLinear form; tensor names of quantised values are kept."""
    copy = ir.serde.from_proto(ir.serde.to_proto(model))
    r = Rewriter(copy.graph)
    normalise(r)
    for op, rewrite in (
        ("ConvTranspose", to_convolution),
        ("DynamicQuantizeMatMul", _split_dynamic),
        ("MatMulIntegerToFloat", _split_to_float),
    ):
        for node in [node for node in copy.graph if node.op_type == op]:
            _attempt(r, node, rewrite)
    for gemm in [node for node in copy.graph if node.op_type == "QGemm"]:
        act = Quantised(value=gemm.inputs[0], scale=gemm.inputs[1], zero_point=gemm.inputs[2], axis=0)  # type: ignore[arg-type]
        gemm.replace_input_with(0, _upright(r, gemm, act).value)
        gemm.attributes.pop("transA", None)
    for quantise in [node for node in copy.graph if node.op_type == "QuantizeLinear"]:
        _rewrite_island(r, quantise)
    for product in [node for node in copy.graph if node.op_type in PRODUCTS]:
        _attempt(r, product, _to_integer_product)
    copy.opset_imports.setdefault(MICROSOFT, 1)
    _remove_unused(copy.graph)
    add_functions(copy)
    return copy


def _attempt(r: Rewriter, node: ir.Node, rewrite: Callable[[Rewriter, ir.Node], None]) -> None:
    try:
        rewrite(r, node)
    except StaysFloat as reason:
        node.metadata_props[REASON] = str(reason)


def _rewrite_island(r: Rewriter, quantise: ir.Node) -> None:
    real = quantise.inputs[0]
    node = real.producer() if real is not None else None
    if node is None or len(node.outputs[0].uses()) != 1 or node.outputs[0].is_graph_output():
        return
    first = first_bound(node)
    if first is not None:
        _rewrite_island(r, split(r, first, quantise))
        return
    build = _BUILDERS.get(node.op_type)
    if build is None:
        return
    try:
        out = quantisation_of(quantise, quantise.outputs[0]).per_tensor()
        inputs, attributes = build(r, node, out)
    except StaysFloat as reason:
        node.metadata_props[REASON] = str(reason)
        return
    domain = "" if node.op_type in ("Conv", "MatMul") else MICROSOFT
    new = ir.Node(
        domain,
        _QLINEAR[node.op_type],
        inputs,
        attributes=ir.convenience.convert_attributes(attributes),
        name=node.name,
        num_outputs=1,
    )
    wanted, made = out.zero.dtype, _type_of(inputs, node.op_type)
    if wanted == made:
        r.replace(quantise, new)
    else:
        _replace_retyped(r, quantise, new, out)


def _type_of(inputs: Inputs, op: str) -> np.dtype[np.generic]:
    """The type an integer operator has for its output: that of its first operand."""
    zero = array_of(inputs[4] if op == "Concat" else inputs[2])
    assert zero is not None
    return zero.dtype


def _replace_retyped(r: Rewriter, quantise: ir.Node, new: ir.Node, out: Quantised) -> None:
    """int8 in, uint8 out or the other way round: the same numbers, moved by 128 afterwards."""
    zero = _moved_by_128(r, out)
    at = next(i for i, value in enumerate(new.inputs) if value is out.zero_point)
    new.replace_input_with(at, zero)
    r.graph.insert_before(quantise, new)
    new.outputs[0].name = r.fresh(f"{quantise.outputs[0].name}/other_sign")
    real = r.node(
        quantise, "DequantizeLinear", [new.outputs[0], out.scale, zero], f"{quantise.outputs[0].name}/real"
    )
    quantise.replace_input_with(0, real)


def _moved_by_128(r: Rewriter, q: Quantised) -> ir.Value:
    """The zero point for the same reals in the other byte type."""
    signed = q.zero.dtype == np.int8
    moved = q.zero.astype(np.int16) + (128 if signed else -128)
    return r.constant(f"{q.value.name}/other_zero", moved.astype(np.uint8 if signed else np.int8))


# ---- operands


def _weight(node: ir.Node, axis: int) -> Quantised:
    """Input 1, whose per-channel scales must run along `axis`, that of the output columns."""
    q = dequantised(node.inputs[1])
    weight = array_of(q.value)
    if q.zero.dtype not in (np.int8, np.uint8):
        raise StaysFloat(f"its weights are {q.zero.dtype}")
    if q.scales.size > 1:
        rank = weight.ndim if weight is not None else 2
        if rank < 2 or q.axis % rank != axis % rank or q.scales.ndim != 1:
            raise StaysFloat(
                f"its weight scales run along axis {q.axis}, not along that of the output channels"
            )
    return q


def _same_sign(r: Rewriter, act: Quantised, wgt: Quantised, before: ir.Node) -> Quantised:
    """Integer operators that requantise take no unsigned weights for signed activations: the same numbers, signed."""
    if not (act.zero.dtype == np.int8 and wgt.zero.dtype == np.uint8):
        return wgt
    zero = _moved_by_128(r, wgt)
    weight = array_of(wgt.value)
    if weight is not None:
        moved = (weight.astype(np.int16) - 128).astype(np.int8)
        value = r.constant(f"{wgt.value.name}/signed", moved)
    else:
        real = r.node(before, "DequantizeLinear", wgt.triple, f"{wgt.value.name}/real")
        value = r.node(before, "QuantizeLinear", [real, wgt.scale, zero], f"{wgt.value.name}/signed")
    return Quantised(value=value, scale=wgt.scale, zero_point=zero, axis=wgt.axis)


def _bias(r: Rewriter, node: ir.Node, act: Quantised, wgt: Quantised, factor: float = 1.0) -> ir.Value | None:
    """The bias in units of x_scale * w_scale, int32; QLinear operators take no other."""
    given = node.inputs[2] if len(node.inputs) > 2 else None
    if given is None:
        return None
    unit = act.scales.astype(np.float64) * wgt.scales.astype(np.float64)
    try:
        q = dequantised(given)
        integers, scales = array_of(q.value), q.scales.astype(np.float64)
        same = scales.size in (1, unit.size) and np.allclose(scales, unit, rtol=1e-4, atol=0)
        if same and integers is not None and integers.dtype == np.int32 and factor == 1.0:
            return q.value
        real = None if integers is None else (integers.astype(np.float64) - q.zero) * scales
    except StaysFloat:
        found = array_of(given)
        real = None if found is None else found.astype(np.float64)
    if real is None:
        raise StaysFloat("its bias is computed")
    rounded = np.rint(real * factor / unit)
    if not np.isfinite(rounded).all() or np.abs(rounded).max(initial=0) >= 1 << 31:
        raise StaysFloat("its bias does not fit 32 bits")
    return r.constant(f"{given.name}/int32", rounded.astype(np.int32))


def _build_conv(r: Rewriter, node: ir.Node, out: Quantised) -> _Built:
    act = dequantised(node.inputs[0]).per_tensor()
    wgt = _same_sign(r, act, _weight(node, axis=0), node)
    if wgt.zero.size > 1 and np.any(wgt.zero != wgt.zero.reshape(-1)[0]):
        raise StaysFloat("its weights have several zero points")
    inputs = [*act.triple, *wgt.triple, out.scale, out.zero_point]
    bias = _bias(r, node, act, wgt)
    return [*inputs, bias] if bias is not None else inputs, attributes_of(node)


def _build_gemm(r: Rewriter, node: ir.Node, out: Quantised) -> _Built:
    act = _upright(r, node, dequantised(node.inputs[0]).per_tensor())
    transposed = bool(attribute_of(node, "transB", 0))
    wgt = _same_sign(r, act, _weight(node, axis=0 if transposed else 1), node)
    alpha, beta = (float(attribute_of(node, name, 1.0)) for name in ("alpha", "beta"))
    if alpha <= 0:
        raise StaysFloat(f"its alpha is {alpha}")
    bias = _bias(r, node, act, wgt, beta / alpha)
    found = array_of(bias)
    if found is not None and found.ndim > 1 and found.size != found.shape[-1]:
        raise StaysFloat("its bias is a matrix")
    attributes = {key: value for key, value in attributes_of(node).items() if key in ("alpha", "transB")}
    return [*act.triple, *wgt.triple, bias, out.scale, out.zero_point], attributes


def _upright(r: Rewriter, node: ir.Node, act: Quantised) -> Quantised:
    """The left operand of a Gemm, transposed beforehand where Gemm would do it."""
    if not attribute_of(node, "transA", 0):
        return act
    value = r.node(node, "Transpose", [act.value], f"{node.outputs[0].name}/upright", perm=[1, 0])
    return Quantised(value=value, scale=act.scale, zero_point=act.zero_point, axis=act.axis)


def _build_matmul(r: Rewriter, node: ir.Node, out: Quantised) -> _Built:
    act = dequantised(node.inputs[0]).per_tensor()
    wgt = _same_sign(r, act, _weight(node, axis=-1), node)
    weight = array_of(wgt.value)
    if wgt.scales.size > 1 and weight is not None and weight.ndim > 2:
        raise StaysFloat("its stacked weights have several scales")
    return [*act.triple, *wgt.triple, out.scale, out.zero_point], {}


def _build_pair(r: Rewriter, node: ir.Node, out: Quantised) -> _Built:
    left, right = (dequantised(value).per_tensor() for value in node.inputs[:2])
    if not left.zero.dtype == right.zero.dtype == out.zero.dtype:
        raise StaysFloat("int8 and uint8 meet")
    return [*left.triple, *right.triple, out.scale, out.zero_point], {}


def _build_concat(r: Rewriter, node: ir.Node, out: Quantised) -> _Built:
    parts = [dequantised(value).per_tensor() for value in node.inputs]
    if {part.zero.dtype for part in parts} != {out.zero.dtype}:
        raise StaysFloat("int8 and uint8 meet")
    flat = [value for part in parts for value in part.triple]
    return [out.scale, out.zero_point, *flat], attributes_of(node)


def _build_pool(r: Rewriter, node: ir.Node, out: Quantised) -> _Built:
    act = dequantised(node.inputs[0]).per_tensor()
    if act.zero.dtype != out.zero.dtype or any(d != 1 for d in attribute_of(node, "dilations", ())):
        raise StaysFloat("int8 and uint8 meet, or it is dilated")
    attributes = {key: value for key, value in attributes_of(node).items() if key != "dilations"}
    return [*act.triple, out.scale, out.zero_point], attributes


# ---- products whose result stays float


def _to_integer_product(r: Rewriter, node: ir.Node) -> None:
    """Conv, Gemm or MatMul of dequantised operands, read as a float: the int32 accumulators, and their scale."""
    transposed = bool(attribute_of(node, "transB", 0))
    axis = {"Conv": 0, "MatMul": -1}.get(node.op_type, 0 if transposed else 1)
    act, wgt = dequantised(node.inputs[0]), _weight(node, axis)
    wide = act.zero.dtype in (np.int16, np.uint16)
    if not wide:
        act.per_tensor()
    elif act.scales.size != 1:
        raise StaysFloat("its activations have several scales")
    alpha, beta = (float(attribute_of(node, name, 1.0)) for name in ("alpha", "beta"))
    if alpha <= 0:
        raise StaysFloat(f"its alpha is {alpha}")
    act = _upright(r, node, act)
    if wgt.zero.size > 1 and np.any(wgt.zero != wgt.zero.reshape(-1)[0]):
        raise StaysFloat("its weights have several zero points")
    bias, name = _bias(r, node, act, wgt, beta / alpha), node.outputs[0].name
    weight = wgt.value
    if transposed:
        weight = r.node(node, "Transpose", [weight], f"{name}/weight", perm=[1, 0])
    zero = wgt.zero_point
    if wgt.zero.size > 1:
        zero = r.constant(f"{name}/weight_zero", wgt.zero.reshape(-1)[:1].reshape(()))
    operands = [act.value, weight, act.zero_point, zero]
    conv = node.op_type == "Conv"
    if wide:
        op, domain = CONV16 if conv else MATMUL16, DOMAIN
    else:
        op, domain = "ConvInteger" if conv else "MatMulInteger", ""
    attributes = attributes_of(node) if conv else {}
    total = r.node(node, op, operands, f"{name}/accumulator", domain=domain, **attributes)
    unit = (np.float32(alpha) * act.scales * wgt.scales.reshape(-1)).astype(np.float32)
    tail = (-1, *(1,) * _spatial_rank(wgt)) if node.op_type == "Conv" else (-1,)
    if bias is not None:
        found = array_of(bias)
        assert found is not None
        shaped = r.constant(f"{name}/bias", found if found.ndim > 1 else found.reshape(tail))
        total = r.node(node, "Add", [total, shaped], f"{name}/biased")
    real = r.node(node, "Cast", [total], f"{name}/float", to=int(ir.DataType.FLOAT))
    unit = unit.reshape(()) if unit.size == 1 else unit.reshape(tail)
    r.replace(
        node, ir.Node("", "Mul", [real, r.constant(f"{name}/unit", unit)], num_outputs=1, name=node.name)
    )


def _spatial_rank(wgt: Quantised) -> int:
    weight = array_of(wgt.value)
    if weight is None:
        raise StaysFloat("its weights are computed")
    return weight.ndim - 2


def _split_dynamic(r: Rewriter, node: ir.Node) -> None:
    """DynamicQuantizeMatMul: quantise, multiply in integers, scale."""
    name = node.outputs[0].name
    quantise = ir.Node("", "DynamicQuantizeLinear", [node.inputs[0]], num_outputs=3)
    for output, tag in zip(quantise.outputs, ("quantised", "scale", "zero_point"), strict=True):
        output.name = r.fresh(f"{name}/{tag}")
    r.graph.insert_before(node, quantise)
    act, scale, zero = quantise.outputs
    rest = [*node.inputs[1:], *[None] * 3]
    _scaled_product(r, node, [act, rest[0], zero, rest[2]], [scale, rest[1]], rest[3])


def _split_to_float(r: Rewriter, node: ir.Node) -> None:
    """MatMulIntegerToFloat: multiply in integers, scale."""
    a, b, a_scale, b_scale, *rest = node.inputs
    a_zero, b_zero, bias = [*rest, *[None] * 3][:3]
    _scaled_product(r, node, [a, b, a_zero, b_zero], [a_scale, b_scale], bias)


def _scaled_product(
    r: Rewriter, node: ir.Node, operands: Inputs, scales: Inputs, bias: ir.Value | None
) -> None:
    name = node.outputs[0].name
    total = r.node(node, "MatMulInteger", operands, f"{name}/accumulator")
    real = r.node(node, "Cast", [total], f"{name}/float", to=int(ir.DataType.FLOAT))
    unit = r.node(node, "Mul", scales, f"{name}/unit")
    if bias is None:
        r.replace(node, ir.Node("", "Mul", [real, unit], num_outputs=1, name=node.name))
        return
    scaled = r.node(node, "Mul", [real, unit], f"{name}/scaled")
    r.replace(node, ir.Node("", "Add", [scaled, bias], num_outputs=1, name=node.name))


def _remove_unused(graph: ir.Graph) -> None:
    outputs = set(graph.outputs)
    for node in reversed(list(graph)):
        if not any(value in outputs or value.uses() for value in node.outputs):
            graph.remove(node, safe=True)


Attributes = dict[str, Any]
_Built = tuple[list[ir.Value | None], Attributes]
_QLINEAR = {
    "Conv": "QLinearConv",
    "MatMul": "QLinearMatMul",
    "Gemm": "QGemm",
    "Add": "QLinearAdd",
    "Mul": "QLinearMul",
    "Concat": "QLinearConcat",
    "AveragePool": "QLinearAveragePool",
    "GlobalAveragePool": "QLinearGlobalAveragePool",
}
_BUILDERS: dict[str, Callable[[Rewriter, ir.Node, Quantised], _Built]] = {
    "Conv": _build_conv,
    "MatMul": _build_matmul,
    "Gemm": _build_gemm,
    "Add": _build_pair,
    "Mul": _build_pair,
    "Concat": _build_concat,
    "AveragePool": _build_pool,
    "GlobalAveragePool": _build_pool,
}
