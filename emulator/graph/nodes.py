"""Small questions about ONNX nodes, and what to say when the answer is no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from emulator.errors import UnsupportedModel
from emulator.graph.movement import MOVEMENT
from emulator.graph.qgraph import QTensor
from emulator.graph.session import run_nodes


def no_mac_layer_reason(name: str, graph: ir.Graph) -> str:
    found = ", ".join(sorted({node.op_type for node in graph}))
    return (
        f"model {name!r} has no integer MAC layer (found: {found}); allowed: quantised Conv, Gemm or MatMul. "
        "Quantise it with onnxruntime.quantization.quantize_static (QDQ or QOperator)."
    )


def batch_one(value: ir.Value, axis: int) -> int:
    assert value.shape is not None
    size = value.shape[axis]
    if isinstance(size, int):
        if axis == 0 and size != 1:
            raise UnsupportedModel(
                f"input {value.name!r} has a fixed batch of {size}; allowed: 1 or dynamic. Export with batch 1."
            )
        return size
    if axis == 0:
        return 1
    raise UnsupportedModel(
        f"input {value.name!r}: dimension {axis} ({size}) is free; allowed: a number (only the batch may be free). "
        "Fix it when exporting."
    )


def signed_weight(weight: npt.NDArray[Any], zero_point: npt.NDArray[Any], where: str) -> npt.NDArray[np.int8]:
    """int8 weights with zero point 0; uint8 with zero point 128 is the same thing."""
    offset = 128 if weight.dtype == np.uint8 else 0
    if weight.dtype not in (np.int8, np.uint8) or np.any(zero_point.astype(np.int32) != offset):
        raise UnsupportedModel(
            f"{where}: weights {weight.dtype} with zero point {np.unique(zero_point)[:4].tolist()}; allowed: int8 "
            "with zero point 0 (symmetric). Quantise weights symmetrically (QuantType.QInt8)."
        )
    return (weight.astype(np.int16) - offset).astype(np.int8)


def attributes_of(node: ir.Node) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def protos_of(nodes: Sequence[ir.Node]) -> list[onnx.NodeProto]:
    return [ir.serde.to_proto(node) for node in nodes]


def names_of(values: Sequence[ir.Value | None]) -> set[str]:
    return {str(value.name) for value in values if value is not None}


def constant_behind(node: ir.Node, constants: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The real value of a quantised constant, by ONNX Runtime."""
    used = {name: constants[name] for name in names_of(node.inputs)}
    output, feed = str(node.outputs[0].name), str(node.inputs[0].name)  # type: ignore[union-attr]
    opsets = [onnx.helper.make_opsetid("", 21)]
    return run_nodes([ir.serde.to_proto(node)], feed, used.pop(feed), output, used, opsets)


def dequantise_node(tensor: QTensor, output: str) -> onnx.NodeProto:
    return onnx.helper.make_node("DequantizeLinear", [tensor.name, "begin_scale", "begin_zero"], [output])


def quantise_node(tensor: QTensor, value: str) -> onnx.NodeProto:
    return onnx.helper.make_node("QuantizeLinear", [value, "end_scale", "end_zero"], [tensor.name])


def where_is(node: ir.Node) -> str:
    return f"{node.op_type} (node {node.name!r})"


def source_is_quantised(node: ir.Node) -> bool:
    """Does a movement operator or pool act on int8 values directly, not on dequantised ones?"""
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type == "DequantizeLinear":
        return False
    if producer.op_type == "QuantizeLinear" or producer.op_type.startswith(("QLinear", "QGemm")):
        return True
    return producer.op_type in MOVEMENT | {"MaxPool"} and source_is_quantised(producer)


def in_float_island(node: ir.Node) -> bool:
    """Float operators are taken with the QuantizeLinear they lead to."""
    followers = [user for value in node.outputs for user in value.consumers()]
    return bool(followers) and all(
        user.op_type == "QuantizeLinear" or in_float_island(user) for user in followers
    )


def unsupported_reason(node: ir.Node) -> str:
    return (
        f"{where_is(node)} is not executed here; allowed between quantised tensors: Conv, Gemm, MatMul, Add, "
        "average and max pooling, elementwise operators of one input, "
        f"{', '.join(sorted(MOVEMENT))}. Quantise or remove this node."
    )
