"""Relu, Clip, Max and Min behind a product, before it is quantised: they can as well come after."""

from __future__ import annotations

import onnx_ir as ir

from emulator.graph.rewriting import Rewriter, array_of

PRODUCTS = ("Conv", "Gemm", "MatMul")
_BOUNDS = ("Relu", "Clip", "Max", "Min")


def first_bound(node: ir.Node) -> ir.Node | None:
    """The first of the nodes from a product to `node` that bound what it gives, each the only reader of the one before;
    None where there is anything else."""
    while node.op_type in _BOUNDS:
        value = _bounded(node)
        before = value.producer() if value is not None else None
        if before is None or len(before.outputs[0].uses()) != 1 or before.outputs[0].is_graph_output():
            return None
        if before.op_type in PRODUCTS:
            return node
        node = before
    return None


def split(r: Rewriter, bound: ir.Node, quantise: ir.Node) -> ir.Node:
    """MAC -> Relu -> Q becomes MAC -> Q -> DQ -> Relu -> Q: rounding commutes with max and min, so nothing changes.
    bound: the first behind the MAC. Returns its new QuantizeLinear."""
    real = _bounded(bound)
    assert real is not None
    how, name = quantise.inputs[1:], real.name
    first = r.node(bound, "QuantizeLinear", [real, *how], f"{name}_quantised")
    back = r.node(bound, "DequantizeLinear", [first, *how], f"{name}_dequantised")
    bound.replace_input_with(bound.inputs.index(real), back)
    made = first.producer()
    assert made is not None
    return made


def _bounded(node: ir.Node) -> ir.Value | None:
    """What a Relu, Clip, Max or Min bounds, None unless all else is constant."""
    computed = [value for value in node.inputs if value is not None and array_of(value) is None]
    return computed[0] if len(computed) == 1 else None
