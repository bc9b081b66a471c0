"""The range of the values that the answer is taken from, in the model's file: a narrower one has finer steps.

Two int8 logits that are equal leave the answer to the order of the classes, and whatever moves one of them by a step
decides it. Steps of half the size leave half as many such ties; what saturates in return are the largest logits, of
answers that nothing hangs on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from emulator.errors import BadConfig, UnsupportedModel
from emulator.graph.movement import REARRANGED

# Where a node that writes or reads the answer as an integer has its scale.
_SCALE = {"QuantizeLinear": 1, "DequantizeLinear": 1, "QLinearConv": 6, "QLinearMatMul": 6, "QGemm": 7}
# What may stand between the product and the answer.
_PASSED = REARRANGED | {"QuantizeLinear", "DequantizeLinear", "Clip", "Max", "Min"}
_PRODUCTS = {"Conv", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "QGemm"}


def with_answer_range(model: onnx.ModelProto, answer: str, share: float) -> onnx.ModelProto:
    """A copy of `model` whose answer, the output of this name, has `share` of its range: its scale is so much smaller.

    Raises BadConfig for a share outside (0, 1], UnsupportedModel where the answer is not the 8-bit result of a product.
    """
    if not 0 < share <= 1:
        raise BadConfig(f"answer range {share:g}; allowed: above 0, up to 1. Use 1 to keep all of it.")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if share == 1:
        return copy
    nodes = list(_back_to_product(copy.graph, answer))
    last = next((node for node in nodes if node.op_type not in REARRANGED), None)
    scales = {tensor.name: tensor for tensor in copy.graph.initializer}
    if last is None or last.op_type != "DequantizeLinear" or last.input[1] not in scales:
        raise UnsupportedModel(
            f"answer {answer!r} is not dequantised from a stored scale; allowed: a product whose 8-bit result is the "
            "answer. Keep its range."
        )
    if nodes[-1].op_type not in _PRODUCTS:
        raise UnsupportedModel(
            f"answer {answer!r} is the result of {nodes[-1].op_type}; allowed: of Conv, Gemm or MatMul, with "
            "bounds and movements between. Keep its range."
        )
    old = last.input[1]
    value = numpy_helper.to_array(scales[old])
    new = f"{old}/answer_range"
    # Under a name of its own: other tensors may have the same scale.
    copy.graph.initializer.append(
        numpy_helper.from_array((value * np.float32(share)).astype(value.dtype), new)
    )
    for node in nodes:
        at = _SCALE.get(node.op_type)
        if at is not None and node.input[at] == old:
            node.input[at] = new
    return copy


def _back_to_product(graph: onnx.GraphProto, answer: str) -> Iterator[onnx.NodeProto]:
    """From the node that makes the answer back to the first that does more than bound, move or store values."""
    maker = {name: node for node in graph.node for name in node.output}
    name = answer
    while name in maker:
        yield maker[name]
        if maker[name].op_type not in _PASSED:
            return
        name = maker[name].input[0]
