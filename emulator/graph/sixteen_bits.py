"""Products of 16-bit activations and 8-bit weights, which no ONNX operator computes in integers: two functions of our
own, whose bodies ONNX Runtime runs.

With u = x - zero point (17 bits), u = 2^14 h2 + 2^7 h1 + h0 with h0, h1 in 0 .. 127 and h2 in -8 .. 7, all int8, the
accumulator is 2^14 (h2 * w) + 2^7 (h1 * w) + (h0 * w), modulo 2^32.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import helper

DOMAIN = "emulator"
CONV16, MATMUL16 = "ConvInteger16", "MatMulInteger16"

_TYPES = onnx.AttributeProto
_CONV_ATTRIBUTES = dict.fromkeys(("dilations", "kernel_shape", "pads", "strides"), _TYPES.INTS)
_CONV_ATTRIBUTES |= {"auto_pad": _TYPES.STRING, "group": _TYPES.INT}
_OPSET = 17


def add_functions(model: ir.Model) -> None:
    """Put the functions into a model that uses them."""
    used = {node.op_type for node in model.graph if node.domain == DOMAIN}
    for name in sorted(used):
        function = ir.serde.deserialize_function(_function(name))
        model.functions[function.identifier()] = function
        model.opset_imports[DOMAIN] = 1


def _function(name: str) -> onnx.FunctionProto:
    """(x 16-bit, w 8-bit, x_zero, w_zero) -> int32."""
    op, attributes = ("ConvInteger", _CONV_ATTRIBUTES) if name == CONV16 else ("MatMulInteger", {})
    int32, int8 = int(onnx.TensorProto.INT32), int(onnx.TensorProto.INT8)

    def number(output: str, value: int) -> onnx.NodeProto:
        return helper.make_node(
            "Constant", [], [output], value=helper.make_tensor(output, int32, [], [value])
        )

    nodes = [number(f"c{value}", value) for value in (8, 128, 16384, 131072)]
    nodes += [
        helper.make_node("Cast", ["x"], ["x32"], to=int32),
        helper.make_node("Cast", ["x_zero"], ["zero32"], to=int32),
        helper.make_node("Sub", ["x32", "zero32"], ["u"]),
        # Above 0, so that division rounds down.
        helper.make_node("Add", ["u", "c131072"], ["v"]),
        helper.make_node("Mod", ["v", "c128"], ["low"]),
        helper.make_node("Div", ["v", "c128"], ["rest"]),
        helper.make_node("Mod", ["rest", "c128"], ["middle"]),
        helper.make_node("Div", ["v", "c16384"], ["shifted"]),
        helper.make_node("Sub", ["shifted", "c8"], ["high"]),
        helper.make_node("Constant", [], ["none"], value=helper.make_tensor("none", int8, [], [0])),
    ]
    for part in ("low", "middle", "high"):
        nodes.append(helper.make_node("Cast", [part], [f"{part}8"], to=int8))
        product = helper.make_node(op, [f"{part}8", "w", "none", "w_zero"], [f"{part}_sum"])
        for attribute, kind in attributes.items():
            product.attribute.append(onnx.AttributeProto(name=attribute, ref_attr_name=attribute, type=kind))
        nodes.append(product)
    nodes += [
        helper.make_node("Mul", ["high_sum", "c16384"], ["high_part"]),
        helper.make_node("Mul", ["middle_sum", "c128"], ["middle_part"]),
        helper.make_node("Add", ["high_part", "middle_part"], ["both"]),
        helper.make_node("Add", ["both", "low_sum"], ["y"]),
    ]
    return helper.make_function(
        DOMAIN,
        name,
        ["x", "w", "x_zero", "w_zero"],
        ["y"],
        nodes,
        [helper.make_opsetid("", _OPSET)],
        list(attributes),
    )
