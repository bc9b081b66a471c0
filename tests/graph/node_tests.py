"""The onnx package's own backend node tests as networks with an integer product, so that the emulator can load them.

Integer products are taken as they are, their weights made constants. Operators that quantise get a product beside
them that reads their 8-bit tensor. Float operators are put between DequantizeLinear and QuantizeLinear, with a
product behind where they are none themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from random_graphs import session_of

Array = npt.NDArray[Any]
Feeds = dict[str, Array]

PRODUCTS = {"QLinearConv": (0,), "QLinearMatMul": (0, 3), "ConvInteger": (0,), "MatMulInteger": (0, 1)}
"""Integer products and which of their inputs are computed."""

QUANTISERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")

FLOATS = tuple(
    """Conv ConvTranspose Gemm MatMul Add Sub Mul Div Max Min Mean Sum Pow PRelu Relu Clip Sigmoid LeakyRelu
    HardSigmoid HardSwish Elu Selu Celu Tanh Erf Gelu Mish Softplus Softsign Abs Neg Exp Sqrt Reciprocal Floor Ceil
    Round Sign Sin Cos MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool Concat Split Slice Transpose Reshape
    Flatten Squeeze Unsqueeze Pad Resize Gather GatherElements GatherND Expand Tile DepthToSpace SpaceToDepth Identity
    Softmax LogSoftmax Hardmax LayerNormalization RMSNormalization BatchNormalization InstanceNormalization LRN
    ReduceMean ReduceMax ReduceMin ReduceSum ReduceL2 TopK Attention""".split()
)

OPERATORS = (*PRODUCTS, *QUANTISERS, *FLOATS)
WEIGHTED = ("Conv", "ConvTranspose", "Gemm")
OPSETS = (23, 21, 17, 13)  # tried where ONNX Runtime does not know a test's own yet
QDQ_OPSET = 13  # QuantizeLinear as every later opset has it


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeTest:
    """One test, ready to load; expected: the outputs as onnx has them, where the operator is as in the test."""

    name: str
    operator: str
    model: onnx.ModelProto = field(repr=False)
    feeds: Feeds = field(repr=False)
    expected: Feeds = field(repr=False)


def node_tests(operators: Sequence[str] = OPERATORS) -> Iterator[NodeTest]:
    """Those of `operators` with one node that ONNX Runtime runs at all, in the order of the onnx package."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        tests = load_model_tests(kind="node")
    for test in tests:
        graph = test.model.graph
        if len(graph.node) != 1 or graph.node[0].op_type not in operators or graph.node[0].domain:
            continue
        given, wanted = test.data_sets[0]
        if all(isinstance(value, np.ndarray | np.generic) for value in (*given, *wanted)):
            yield from _forms(
                test.name, graph, _named(graph.input, given), _named(graph.output, wanted),
                test.model.opset_import[0].version,
            )  # fmt: skip


def _named(infos: Sequence[onnx.ValueInfoProto], arrays: Sequence[Any]) -> Feeds:
    return {info.name: np.asarray(array) for info, array in zip(infos, arrays, strict=False)}


def _forms(
    name: str, graph: onnx.GraphProto, inputs: Feeds, outputs: Feeds, opset: int
) -> Iterator[NodeTest]:
    node = graph.node[0]
    for version in (opset, *(v for v in OPSETS if v < opset)):
        if node.op_type in PRODUCTS:
            built = [(name, *_as_it_is(graph, inputs, version), outputs)]
        elif node.op_type in QUANTISERS:
            data = [inputs[node.input[0]], *outputs.values()]
            if not any(array.dtype in (np.int8, np.uint8) for array in data):
                return
            built = [(name, *_with_product(graph, inputs, outputs, version), outputs)]
        else:
            built = [
                (f"{name}_{kind.__name__}", *_quantised(graph, inputs, outputs, kind, version), {})
                for kind in (np.int8, np.uint8)
                if _can_be_quantised(inputs, outputs)
            ]
        found = [
            NodeTest(name=title, operator=node.op_type, model=model, feeds=feeds, expected=expected)
            for title, model, feeds, expected in built
            if _runs(model, feeds)
        ]
        if found:
            yield from found
            return


def _runs(model: onnx.ModelProto, feeds: Feeds) -> bool:
    try:
        onnx.checker.check_model(model)
        session_of(model).run(None, feeds)
    except Exception:  # ONNX Runtime has many classes for what it doesn't know
        return False
    return True


def _can_be_quantised(inputs: Feeds, outputs: Feeds) -> bool:
    """float32 in and out, and something to compute with."""
    first = next(iter(inputs.values()), None)
    return (
        first is not None
        and first.dtype == np.float32
        and all(a.size for a in (*inputs.values(), *outputs.values()))
        and next(iter(outputs.values())).dtype == np.float32
    )


# ---- the three forms


def _model(
    nodes: Sequence[onnx.NodeProto], feeds: Feeds, constants: Feeds, outputs: Sequence[str], opset: int
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes), "node_test",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", max(opset, QDQ_OPSET))], ir_version=10
    )
    inferred = onnx.shape_inference.infer_shapes(model)
    known = {info.name: info for info in [*inferred.graph.value_info, *inferred.graph.output]}
    for output in model.graph.output:
        output.CopyFrom(known[output.name])
    return model


def _as_it_is(graph: onnx.GraphProto, inputs: Feeds, opset: int) -> tuple[onnx.ModelProto, Feeds]:
    node = graph.node[0]
    computed = {node.input[i] for i in PRODUCTS[node.op_type]}
    feeds = {name: array for name, array in inputs.items() if name in computed}
    constants = {name: array for name, array in inputs.items() if name not in computed}
    return _model([node], feeds, constants, [o.name for o in graph.output], opset), feeds


def _with_product(
    graph: onnx.GraphProto, inputs: Feeds, outputs: Feeds, opset: int
) -> tuple[onnx.ModelProto, Feeds]:
    """MatMulInteger of the first 8-bit tensor, flattened, and ones."""
    node = graph.node[0]
    first = node.input[0]
    feeds = {first: inputs[first]}
    constants = {name: array for name, array in inputs.items() if name != first}
    read = next(n for n, a in {**outputs, **feeds}.items() if a.dtype in (np.int8, np.uint8))
    size = {**outputs, **feeds}[read].size
    constants |= {"flat": np.array([1, -1], np.int64), "ones": np.ones((size, 2), np.int8)}
    nodes = [
        node,
        helper.make_node("Reshape", [read, "flat"], ["row"], name="row"),
        helper.make_node("MatMulInteger", ["row", "ones"], ["sums"], name="sums"),
    ]
    return _model(nodes, feeds, constants, [*(o.name for o in graph.output), "sums"], opset), feeds


def _quantised(
    graph: onnx.GraphProto, inputs: Feeds, outputs: Feeds, kind: Any, opset: int
) -> tuple[onnx.ModelProto, Feeds]:
    """DequantizeLinear, the operator, QuantizeLinear, and a product behind each float output of what is no product."""
    q = _Quantiser(kind)
    node = onnx.NodeProto()
    node.CopyFrom(graph.node[0])
    node.name = "tested"
    weighted = node.op_type in WEIGHTED
    for i, name in enumerate(node.input):
        if not name:
            continue
        array = inputs[name]
        if array.dtype != np.float32 or (node.op_type == "Resize" and i > 0):
            q.constants[name] = array
        elif weighted and i == 2:
            node.input[i] = q.bias(name, array)
        elif weighted and i == 1:
            node.input[i] = q.weight(name, array)
        else:
            node.input[i] = q.activation(name, array)
    q.nodes.append(node)
    ends = [
        q.result(name, array, weighted or node.op_type == "MatMul") for name, array in outputs.items() if name
    ]
    return _model(q.nodes, q.feeds, q.constants, ends, opset), q.feeds


class _Quantiser:
    """Grows the QDQ model around one node."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.nodes: list[onnx.NodeProto] = []
        self.feeds: Feeds = {}
        self.constants: Feeds = {}
        self.scales: list[np.float32] = []

    def scheme(self, name: str, array: Array) -> list[str]:
        """Scale and zero point that hold the array's range."""
        most = max(float(np.abs(array[np.isfinite(array)]).max(initial=0.0)), 0.01)
        scale = np.float32(most / 127)
        self.scales.append(scale)
        self.constants[f"{name}_scale"] = np.array(scale)
        self.constants[f"{name}_zero"] = np.array(128 if self.kind == np.uint8 else 0, self.kind)
        return [f"{name}_scale", f"{name}_zero"]

    def activation(self, name: str, array: Array) -> str:
        self.feeds[name] = array
        scheme = self.scheme(name, array)
        self.nodes += [
            helper.make_node("QuantizeLinear", [name, *scheme], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", *scheme], [f"{name}_r"]),
        ]
        return f"{name}_r"

    def weight(self, name: str, array: Array) -> str:
        """int8 within 7 bits: ONNX Runtime's u8 x s8 kernels saturate on some CPUs."""
        scale = np.float32(max(float(np.abs(array).max()), 0.01) / 63)
        self.scales.append(scale)
        self.constants |= {
            f"{name}_q": np.rint(array / scale).astype(np.int8),
            f"{name}_scale": np.array(scale),
            f"{name}_zero": np.array(0, np.int8),
        }
        inputs = [f"{name}_q", f"{name}_scale", f"{name}_zero"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_r"]))
        return f"{name}_r"

    def bias(self, name: str, array: Array) -> str:
        scale = np.float32(self.scales[0] * self.scales[1])
        self.constants |= {
            f"{name}_q": np.rint(array / scale).astype(np.int32), f"{name}_scale": np.array(scale),
        }  # fmt: skip
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_scale"], [f"{name}_r"]))
        return f"{name}_r"

    def result(self, name: str, array: Array, product: bool) -> str:
        """The name of what becomes of an output."""
        if array.dtype != np.float32:
            return name
        scheme = self.scheme(name, array)
        self.nodes += [
            helper.make_node("QuantizeLinear", [name, *scheme], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", *scheme], [f"{name}_r"]),
        ]
        if product:
            return f"{name}_r"
        ones = self.weight(f"{name}_ones", np.ones((array.size, 2), np.float32))
        self.constants[f"{name}_flat"] = np.array([1, -1], np.int64)
        scheme = self.scheme(f"{name}_sum", np.array([np.abs(np.nan_to_num(array)).sum()], np.float32))
        self.nodes += [
            helper.make_node("Reshape", [f"{name}_r", f"{name}_flat"], [f"{name}_row"]),
            helper.make_node("MatMul", [f"{name}_row", ones], [f"{name}_sum"]),
            helper.make_node("QuantizeLinear", [f"{name}_sum", *scheme], [f"{name}_sum_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_sum_q", *scheme], [f"{name}_sum_r"]),
        ]
        return f"{name}_sum_r"
