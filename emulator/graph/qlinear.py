"""QDQ to the QLinear form: each Conv, Gemm, MatMul, Add and average pool between DequantizeLinear and
QuantizeLinear becomes the ONNX operator that computes it in integers. Everything else stays as it is.

The QLinear form is the reference: the emulator equals ONNX Runtime running it with optimisations off.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from emulator.errors import UnsupportedModel

MICROSOFT = "com.microsoft"


def to_qlinear(model: ir.Model) -> ir.Model:
    """A copy of `model` in QLinear form; tensor names of quantised values are kept."""
    copy = ir.serde.from_proto(ir.serde.to_proto(model))
    _scalar_quantisation(copy.graph)
    for quantise in [node for node in copy.graph if node.op_type == "QuantizeLinear"]:
        _rewrite_island(copy.graph, quantise)
    copy.opset_imports.setdefault(MICROSOFT, 1)
    _remove_unused(copy.graph)
    return copy


def _scalar_quantisation(graph: ir.Graph) -> None:
    """Scales and zero points of shape (1,) become scalars: QLinearAdd takes nothing else."""
    for node in graph:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for value in node.inputs[1:3]:
            constant = value.const_value if value is not None and value.is_initializer() else None
            if value is not None and constant is not None and tuple(constant.shape) == (1,):
                value.const_value = ir.tensor(constant.numpy().reshape(()), name=value.name)
                value.shape = ir.Shape(())


def _rewrite_island(graph: ir.Graph, quantise: ir.Node) -> None:
    real = quantise.inputs[0]
    node = real.producer() if real is not None else None
    if node is None or len(node.outputs[0].consumers()) != 1:
        return
    if node.op_type in ("Relu", "Clip") and _single_mac(node) is not None:
        _split_activation(graph, node, quantise)
        return
    build = _BUILDERS.get(node.op_type)
    if build is None or any(_dequantise_of(v) is None for v in _dynamic_inputs(node)):
        return
    inputs, attributes = build(node)
    domain = "" if node.op_type in ("Conv", "MatMul") else MICROSOFT
    # QLinearConv alone takes its bias after the output's scale and zero point.
    at = 6 if node.op_type == "Conv" else len(inputs)
    inputs[at:at] = _quantisation(quantise)
    output = quantise.outputs[0]
    replacement = ir.Node(
        domain, _QLINEAR[node.op_type], inputs, attributes=attributes, name=node.name, num_outputs=1
    )
    _replace(graph, quantise, replacement, output)


def _replace(graph: ir.Graph, old: ir.Node, new: ir.Node, output: ir.Value) -> None:
    """Put `new` where `old` was, its output under the old name."""
    name = output.name
    value = new.outputs[0]
    graph.insert_before(old, new)
    ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
    graph.remove(old, safe=True)
    value.name = name
    value.type, value.shape = output.type, output.shape


def _split_activation(graph: ir.Graph, activation: ir.Node, quantise: ir.Node) -> None:
    """MAC -> Relu -> Q becomes MAC -> Q -> DQ -> Relu -> Q: rounding and max commute, so nothing changes."""
    mac_output = activation.inputs[0]
    assert mac_output is not None
    scale, zero_point = _quantisation(quantise)
    first = ir.Node("", "QuantizeLinear", [mac_output, scale, zero_point], num_outputs=1)
    first.outputs[0].name = f"{mac_output.name}_quantised"
    back = ir.Node("", "DequantizeLinear", [first.outputs[0], scale, zero_point], num_outputs=1)
    back.outputs[0].name = f"{mac_output.name}_dequantised"
    graph.insert_before(activation, [first, back])
    activation.replace_input_with(0, back.outputs[0])
    _rewrite_island(graph, first)


def _single_mac(activation: ir.Node) -> ir.Node | None:
    value = activation.inputs[0]
    node = value.producer() if value is not None else None
    if (
        node is None
        or node.op_type not in ("Conv", "Gemm", "MatMul")
        or len(node.outputs[0].consumers()) != 1
    ):
        return None
    return node


def _dynamic_inputs(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _dequantise_of(value: ir.Value) -> ir.Node | None:
    node = value.producer()
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _quantisation(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear node."""
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    scale = node.inputs[1]
    if scale is None or zero_point is None:
        raise UnsupportedModel(
            f"{node.op_type} (node {node.name!r}) has no zero point; allowed: int8 or uint8 with scale and zero "
            "point. Quantise again with explicit zero points (onnxruntime.quantization writes them)."
        )
    return scale, zero_point


def _triple(value: ir.Value | None) -> list[ir.Value | None]:
    """Quantised tensor, scale, zero point behind a dequantised value."""
    node = _dequantise_of(value) if value is not None else None
    assert node is not None
    return [node.inputs[0], *_quantisation(node)]


def _weight_triple(node: ir.Node, axis: int) -> list[ir.Value | None]:
    """The weight behind input 1, whose per-channel scales must run along `axis`, that of the output channels."""
    triple = _triple(node.inputs[1])
    dequantise = _dequantise_of(node.inputs[1]) if node.inputs[1] is not None else None
    weight, scale = _array(triple[0]), _array(triple[1])
    if dequantise is None or weight is None or scale is None or scale.size == 1:
        return triple
    found = int(_attribute(dequantise, "axis", 1)) % weight.ndim
    if found != axis % weight.ndim or _attribute(dequantise, "block_size", 0):
        raise UnsupportedModel(
            f"{node.op_type} (node {node.name!r}): weight scales along axis {found}; allowed: one scale, or one an "
            f"output channel (axis {axis % weight.ndim}), no blocks. Quantise weights per output channel."
        )
    return triple


def _bias(node: ir.Node) -> ir.Value | None:
    """The int32 bias behind input 2; QLinear operators take it in units of x_scale * w_scale."""
    triples = [_dequantise_of(value) for value in node.inputs[:3] if value is not None]
    scales = [_array(triple.inputs[1]) for triple in triples if triple is not None]
    known = [scale for scale in scales if scale is not None]
    if len(known) == 3 and not np.allclose(known[2], known[0] * known[1], rtol=1e-4, atol=0):
        raise UnsupportedModel(
            f"{node.op_type} (node {node.name!r}): bias scale {known[2].reshape(-1)[:4].tolist()}; allowed: "
            "x_scale * w_scale. Quantise the bias as onnxruntime.quantization does."
        )
    bias = triples[2]
    assert bias is not None
    return bias.inputs[0]


def _array(value: ir.Value | None) -> npt.NDArray[np.float64] | None:
    constant = value.const_value if value is not None else None
    return None if constant is None else constant.numpy().astype(np.float64)


def _build_conv(node: ir.Node) -> tuple[list[ir.Value | None], list[ir.Attr]]:
    inputs = [*_triple(node.inputs[0]), *_weight_triple(node, axis=0)]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        inputs.append(_bias(node))
    return inputs, list(node.attributes.values())


def _build_gemm(node: ir.Node) -> tuple[list[ir.Value | None], list[ir.Attr]]:
    if float(_attribute(node, "beta", 1.0)) != 1.0:
        raise UnsupportedModel(
            f"Gemm (node {node.name!r}) has beta={_attribute(node, 'beta', 1.0)}; allowed: 1. "
            "Fold beta into the bias before quantising."
        )
    transposed = bool(_attribute(node, "transB", 0))
    inputs = [*_triple(node.inputs[0]), *_weight_triple(node, axis=0 if transposed else 1)]
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    inputs.append(_bias(node) if has_bias else None)
    kept = [node.attributes[key] for key in ("alpha", "transA", "transB") if key in node.attributes]
    return inputs, kept


def _build_matmul(node: ir.Node) -> tuple[list[ir.Value | None], list[ir.Attr]]:
    return [*_triple(node.inputs[0]), *_weight_triple(node, axis=-1)], []


def _build_pair(node: ir.Node) -> tuple[list[ir.Value | None], list[ir.Attr]]:
    return [*_triple(node.inputs[0]), *_triple(node.inputs[1])], []


def _build_pool(node: ir.Node) -> tuple[list[ir.Value | None], list[ir.Attr]]:
    return _triple(node.inputs[0]), list(node.attributes.values())


def _attribute(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)


def _remove_unused(graph: ir.Graph) -> None:
    outputs = set(graph.outputs)
    for node in reversed(list(graph)):
        if not any(value in outputs or value.consumers() for value in node.outputs):
            graph.remove(node, safe=True)


_QLINEAR = {
    "Conv": "QLinearConv",
    "MatMul": "QLinearMatMul",
    "Gemm": "QGemm",
    "Add": "QLinearAdd",
    "AveragePool": "QLinearAveragePool",
    "GlobalAveragePool": "QLinearGlobalAveragePool",
}
_BUILDERS = {
    "Conv": _build_conv,
    "MatMul": _build_matmul,
    "Gemm": _build_gemm,
    "Add": _build_pair,
    "AveragePool": _build_pool,
    "GlobalAveragePool": _build_pool,
}
