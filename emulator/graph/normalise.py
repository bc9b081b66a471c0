"""Quantised models as exporters write them, brought to one form: QuantizeLinear has a scalar scale and a zero point,
weights have 8 bits, and values are moved before they are dequantised, not after."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from emulator.graph.rewriting import Rewriter, array_of, attribute_of, attributes_of

# ONNX type codes of what a QuantizeLinear may be told to give.
_TYPES: dict[int, type[np.generic]] = {2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16}

# One input moved, the others say how; what they do to an integer is what they do to its real value.
_MOVING = frozenset("Flatten Gather Identity Reshape Slice Squeeze Transpose Unsqueeze Expand".split())


def normalise(r: Rewriter) -> None:
    """All of it, in place."""
    for node in list(r.graph):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain in (
            "",
            "ai.onnx",
            "com.microsoft",
        ):
            _complete(r, node)
            _standard_domain(node)
    for node in list(r.graph):
        if node.op_type == "DequantizeLinear":
            _widen(r, node)
    for node in list(r.graph):
        if node.op_type in _MOVING and len(node.outputs) == 1:
            _move_integers(r, node)


def _complete(r: Rewriter, node: ir.Node) -> None:
    """Scales and zero points of shape (1,) become scalars, QLinearAdd takes nothing else; a missing zero point is 0."""
    for place in (1, 2):
        value = node.inputs[place] if len(node.inputs) > place else None
        found = array_of(value)
        if value is not None and found is not None and found.shape == (1,):
            node.replace_input_with(place, r.constant(f"{value.name}/scalar", found.reshape(())))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        return
    if node.op_type == "QuantizeLinear":
        kind = _TYPES.get(int(attribute_of(node, "output_dtype", 0)) or 2)
    else:
        integers = node.inputs[0]
        kind = None if integers is None or integers.dtype is None else integers.dtype.numpy().type
    scale = array_of(node.inputs[1])
    if kind is None or scale is None:
        return
    zero = r.constant(f"{node.outputs[0].name}/zero_point", np.zeros(scale.shape, kind))
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, zero)


def _standard_domain(node: ir.Node) -> None:
    """com.microsoft's Q and DQ, the same operators from before the standard had 16 bits."""
    if node.domain == "com.microsoft":
        node.domain = ""


def _widen(r: Rewriter, node: ir.Node) -> None:
    """Constants of 4 bits as the same numbers in 8: integer operators take no others."""
    weight, zero = array_of(node.inputs[0]), array_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if weight is None or zero is None or weight.dtype.name not in ("int4", "uint4"):
        return
    kind = np.int8 if weight.dtype.name == "int4" else np.uint8
    node.replace_input_with(0, r.constant(f"{node.outputs[0].name}/weight8", weight.astype(kind)))
    node.replace_input_with(2, r.constant(f"{node.outputs[0].name}/zero8", zero.astype(kind)))


def _move_integers(r: Rewriter, node: ir.Node) -> None:
    """DequantizeLinear then movement becomes movement then DequantizeLinear, where a product reads the result."""
    value = node.inputs[0]
    source = value.producer() if value is not None else None
    readers = [use.op_type for use in node.outputs[0].consumers()]
    if (
        source is None
        or source.op_type != "DequantizeLinear"
        or not {"Conv", "MatMul", "Gemm"} & set(readers)
    ):
        return
    scale = array_of(source.inputs[1])
    if scale is None or attribute_of(source, "block_size", 0):
        return
    axis = attribute_of(source, "axis", 1)
    if scale.size > 1:
        if node.op_type != "Transpose":
            return
        order = attribute_of(node, "perm", range(scale_rank(source))[::-1])
        axis = list(order).index(axis % len(order))
    name = node.outputs[0].name
    integers = [source.inputs[0], *node.inputs[1:]]
    moved = r.node(node, node.op_type, integers, f"{name}/integers", **attributes_of(node))
    moved.type = source.inputs[0].type if source.inputs[0] is not None else None
    again = ir.Node(
        "",
        "DequantizeLinear",
        [moved, *source.inputs[1:]],
        attributes=[ir.AttrInt64("axis", axis)],
        num_outputs=1,
    )
    r.replace(node, again)


def scale_rank(dequantise: ir.Node) -> int:
    """Rank of a constant that is dequantised, 2 where that is not known."""
    weight = array_of(dequantise.inputs[0])
    return 2 if weight is None else weight.ndim
