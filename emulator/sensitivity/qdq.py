"""The QLinear form back as a float graph with QuantizeLinear / DequantizeLinear around every operator: the
form the gradient builder differentiates. Names of quantised tensors are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Nodes = list[onnx.NodeProto]


def to_qdq(reference: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a QLinear-form model in which every QLinear operator is a float one between DQ and Q."""
    rewriter = _Rewriter(reference)
    nodes = [new for node in reference.graph.node for new in rewriter.rewrite(node)]
    model = onnx.ModelProto()
    model.CopyFrom(reference)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(rewriter.new_constants)
    del model.graph.value_info[:]
    return model


class _Rewriter:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.new_constants: list[onnx.TensorProto] = []

    def rewrite(self, node: onnx.NodeProto) -> Nodes:
        build = _BUILDERS.get(node.op_type)
        return [node] if build is None else build(self, node)

    def dequantise(
        self, node: onnx.NodeProto, triple: Sequence[str], tag: str, axis: int = 0
    ) -> onnx.NodeProto:
        """DequantizeLinear of (tensor, scale, zero point); `axis` matters only for per-channel scales."""
        return helper.make_node("DequantizeLinear", list(triple), [f"{node.output[0]}/{tag}"], axis=axis)

    def wrap(
        self, node: onnx.NodeProto, op: str, inputs: Nodes, out: Sequence[str], drop: Sequence[str] = ()
    ) -> Nodes:
        """inputs -> op -> QuantizeLinear under the node's own output name."""
        real = f"{node.output[0]}/real"
        body = helper.make_node(op, [i.output[0] for i in inputs], [real], name=node.name)
        body.attribute.extend(a for a in node.attribute if a.name not in drop)
        return [*inputs, body, helper.make_node("QuantizeLinear", [real, *out], [node.output[0]])]

    def bias(self, node: onnx.NodeProto, name: str, x_scale: str, w_scale: str) -> onnx.NodeProto:
        """The int32 bias as a real vector: its scale is x_scale * w_scale."""
        scale = self.array(x_scale).astype(np.float64) * self.array(w_scale).astype(np.float64)
        real = (self.array(name).astype(np.float64) * scale.reshape(-1)).astype(np.float32)
        constant = f"{node.output[0]}/bias"
        self.new_constants.append(numpy_helper.from_array(real, constant))
        return helper.make_node("Identity", [constant], [f"{node.output[0]}/bias_real"])

    def array(self, name: str) -> Any:
        return numpy_helper.to_array(self.constants[name])


def _conv(r: _Rewriter, node: onnx.NodeProto) -> Nodes:
    i = node.input
    inputs = [r.dequantise(node, i[0:3], "x"), r.dequantise(node, i[3:6], "w")]
    if len(i) > 8 and i[8]:
        inputs.append(r.bias(node, i[8], i[1], i[4]))
    return r.wrap(node, "Conv", inputs, i[6:8])


def _gemm(r: _Rewriter, node: onnx.NodeProto) -> Nodes:
    i = node.input
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    inputs = [r.dequantise(node, i[0:3], "x"), r.dequantise(node, i[3:6], "w", axis=0 if transposed else 1)]
    if i[6]:
        inputs.append(r.bias(node, i[6], i[1], i[4]))
    return r.wrap(node, "Gemm", inputs, i[7:9])


def _matmul(r: _Rewriter, node: onnx.NodeProto) -> Nodes:
    i = node.input
    inputs = [r.dequantise(node, i[0:3], "x"), r.dequantise(node, i[3:6], "w", axis=1)]
    return r.wrap(node, "MatMul", inputs, i[6:8])


def _pair(op: str) -> Callable[[_Rewriter, onnx.NodeProto], Nodes]:
    def build(r: _Rewriter, node: onnx.NodeProto) -> Nodes:
        i = node.input
        inputs = [r.dequantise(node, i[0:3], "a"), r.dequantise(node, i[3:6], "b")]
        return r.wrap(node, op, inputs, i[6:8])

    return build


def _pool(op: str) -> Callable[[_Rewriter, onnx.NodeProto], Nodes]:
    def build(r: _Rewriter, node: onnx.NodeProto) -> Nodes:
        return r.wrap(
            node, op, [r.dequantise(node, node.input[0:3], "x")], node.input[3:5], ("channels_last",)
        )

    return build


_BUILDERS: dict[str, Callable[[_Rewriter, onnx.NodeProto], Nodes]] = {
    "QLinearConv": _conv,
    "QGemm": _gemm,
    "QLinearMatMul": _matmul,
    "QLinearAdd": _pair("Add"),
    "QLinearMul": _pair("Mul"),
    "QLinearAveragePool": _pool("AveragePool"),
    "QLinearGlobalAveragePool": _pool("GlobalAveragePool"),
}
