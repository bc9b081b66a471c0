"""Quantised models in the one form the gradient builder differentiates: float operators, and integers only between a
QuantizeLinear and the DequantizeLinear that read it. Names of quantised tensors are kept.

Operators that compute on integers become float ones between DequantizeLinear and QuantizeLinear, integer products
float ones of (integer - zero point), and what moves or selects integers does so with their real values. Where a scale
is computed at run time, integers stand for (integer - zero point), and the scale multiplies outside.
"""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from emulator.errors import UnsupportedModel
from emulator.sensitivity.integer_operators import BUILDERS
from emulator.sensitivity.reals import Reals
from emulator.sensitivity.rules.quantisation import selects, taken_from

OPSET = 18  # the first with axes as inputs throughout and ScatterElements that adds
_OPSET_16_BITS = 21  # the first whose QuantizeLinear has them, and 4 bits; before, com.microsoft's had


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
    reals = Reals(model.graph)
    for node in list(model.graph):
        _visit(reals, node)
    for key in [key for key in model.functions if key[0] == "emulator"]:
        del model.functions[key]


def _visit(w: Reals, node: ir.Node) -> None:
    """Rewrite one node; those before it have been."""
    if _quantises_in_microsoft(node):
        node.domain = ""
    build = BUILDERS.get(node.op_type)
    if build is not None:
        build(w, node)
    elif any(value in w.wide for value in node.inputs):
        w.accumulators(node)
    elif selects(node) and any(value in w.grids for value in taken_from(node)):
        w.selected(node)
