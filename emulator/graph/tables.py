"""Elementwise operators as tables, filled once by ONNX Runtime itself, so they are bit-exact by construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from emulator.graph.qgraph import QTensor
from emulator.graph.session import open_session, run_nodes

Constants = Mapping[str, npt.NDArray[Any]]

# Operators that act on each element alone, given one varying input.
ELEMENTWISE = frozenset(
    """Abs Cast Ceil Celu Clip Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log Mish
    Neg Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Tan Tanh ThresholdedRelu
    QuantizeLinear DequantizeLinear""".split()
)


def every_code(tensor: QTensor) -> npt.NDArray[np.int8 | np.uint8]:
    """The 256 ONNX values of the tensor, in the order of stored -128 .. 127."""
    codes = np.arange(-128, 128, dtype=np.int16) + tensor.offset
    return codes.astype(np.uint8 if tensor.offset else np.int8)


def unary_table(
    nodes: Sequence[onnx.NodeProto],
    source: QTensor,
    target: QTensor,
    constants: Constants,
    opsets: Sequence[onnx.OperatorSetIdProto],
) -> npt.NDArray[np.int8]:
    """(256,) int8 of the chain of nodes from `source` to `target`."""
    values = run_nodes(nodes, source.name, every_code(source), target.name, dict(constants), opsets)
    return _stored(values, target)


def pair_table(
    node: onnx.NodeProto,
    constants: Constants,
    opsets: Sequence[onnx.OperatorSetIdProto],
    *,
    left: QTensor,
    right: QTensor,
    target: QTensor,
) -> npt.NDArray[np.int8]:
    """(65536,) int8, index (left + 128) * 256 + right + 128."""
    a = np.repeat(every_code(left), 256)
    b = np.tile(every_code(right), 256)
    renamed = onnx.NodeProto()
    renamed.CopyFrom(node)
    renamed.input[0], renamed.input[3], renamed.output[0] = "left", "right", "target"
    infos = [_info("left", a), _info("right", b)]
    arrays = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = onnx.helper.make_graph([renamed], "pair", infos, [onnx.ValueInfoProto(name="target")], arrays)
    model = onnx.helper.make_model(graph, opset_imports=list(opsets), ir_version=10)
    return _stored(open_session(model).run(["target"], {"left": a, "right": b})[0], target)


def _info(name: str, array: npt.NDArray[Any]) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, array.shape)


def _stored(values: npt.NDArray[Any], tensor: QTensor) -> npt.NDArray[np.int8]:
    return (values.astype(np.int16) - tensor.offset).astype(np.int8).reshape(-1)
