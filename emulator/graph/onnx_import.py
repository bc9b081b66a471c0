"""An ONNX file to the frozen integer network: what is integer becomes our operators, the rest host segments."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from emulator.errors import UnsupportedModel
from emulator.graph.builder import GraphBuilder, HostOnly
from emulator.graph.elements import (
    UNARY,
    import_pair,
    import_quantised_concat,
    import_quantised_unary,
    import_quantize,
)
from emulator.graph.macs import PLACES, import_mac
from emulator.graph.movement import MOVEMENT, import_concat, import_movement
from emulator.graph.partition import ordered
from emulator.graph.pools import import_average_pool, import_global_average_pool, import_max_pool
from emulator.graph.probe import Probe
from emulator.graph.qgraph import HostOp, MacLayer, Op, QTensor, QuantGraph
from emulator.graph.qlinear import REASON, to_qlinear

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """A loaded model: the integer graph, the QLinear form it equals, the file as it was, and its hash."""

    graph: QuantGraph
    reference: onnx.ModelProto
    original: onnx.ModelProto
    path: str
    sha256: str

    def __repr__(self) -> str:
        graph = self.graph
        return f"Network({graph.name!r}, {len(graph.layers)} MAC layers, {graph.macs:,} MACs, {self.path!r})"


def load(path: str | Path, *, shapes: Shapes | None = None) -> Network:
    """Read a quantised ONNX model. shapes: of inputs, where the file leaves dimensions free.

    Raises UnsupportedModel naming the node, why, and what to do.
    """
    file = Path(path)
    if not file.is_file():
        raise UnsupportedModel(f"model {str(path)!r} is not a file; allowed: an ONNX file. Check the path.")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    try:
        original = onnx.load(file)
        onnx.checker.check_model(original)
        model = ir.serde.from_proto(original)
        _fix_shapes(model.graph, shapes or {})
        model = ShapeInferencePass()(model).model
        reference = ir.serde.to_proto(to_qlinear(model))
    except UnsupportedModel:
        raise
    except Exception as error:  # protobuf, checker and onnx_ir each have their own for a damaged file
        reason = " ".join(str(error).split())[:300]
        raise UnsupportedModel(
            f"model {str(path)!r} can't be read as ONNX: {reason or type(error).__name__}. Export it again."
        ) from error
    try:
        graph = integer_graph(reference, file.stem)
    except (
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        OverflowError,
    ) as error:  # damaged constants, attributes
        raise UnsupportedModel(
            f"model {str(path)!r} contradicts itself ({type(error).__name__}: {error}). Export it again."
        ) from error
    return Network(
        graph=graph, reference=reference, original=original, path=str(file.resolve()), sha256=digest
    )


def _fix_shapes(graph: ir.Graph, shapes: Shapes) -> None:
    """Batch 1 where the first dimension is free, and the shapes asked for."""
    for name in shapes:
        if name not in {value.name for value in graph.inputs}:
            found = ", ".join(str(value.name) for value in graph.inputs)
            raise UnsupportedModel(f"shape of {name!r}; allowed: inputs of the model: {found}.")
    for value in graph.inputs:
        if str(value.name) in shapes:
            value.shape = ir.Shape(tuple(shapes[str(value.name)]))
        elif value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int):
            value.shape = ir.Shape((1, *value.shape.dims[1:]))
    # What was written down for free dimensions is no longer true.
    for node in graph:
        for output in node.outputs:
            if not output.is_graph_output():
                output.shape = None
    for output in graph.outputs:
        output.shape = None


def integer_graph(reference: onnx.ModelProto, name: str) -> QuantGraph:
    """The network of a model in QLinear form."""
    model = ir.serde.from_proto(reference)
    graph = model.graph
    probe = Probe(reference, graph)
    b = GraphBuilder(graph, probe, reference.opset_import)
    left: list[str] = []
    for node in graph:
        if all(str(value.name) in probe.constants for value in node.outputs):
            continue
        try:
            _HANDLERS.get(node.op_type, _other)(b, node)
        except HostOnly as reason:
            if node.op_type in _MACS:
                left.append(f"{node.op_type} {node.name!r}: {reason}")
    answers = [_behind(value, probe) for value in graph.outputs]
    if not answers:
        raise UnsupportedModel(f"model {name!r} has no output; allowed: one or more. Export it again.")
    ops = ordered(model, probe, b.tensors, b.ops, answers)
    if not any(isinstance(op, MacLayer) for op in ops):
        raise UnsupportedModel(_no_mac_layer(name, graph, left))
    tensors, renumbered = _compact(b.tensors, ops, answers)
    index = {tensor.name: i for i, tensor in enumerate(tensors)}
    return QuantGraph(
        name=name,
        inputs=probe.inputs,
        output_name=str(graph.outputs[0].name),
        output=index.get(answers[0], answers[0]),
        classes=int(np.prod(probe.shapes[answers[0]], dtype=np.int64)),
        tensors=tensors,
        ops=renumbered,
        float_macs=(*left, *_float_macs(graph)),
    )


def _behind(output: ir.Value, probe: Probe) -> str:
    """The int8 tensor an output is the real value of, else the output itself."""
    node = output.producer()
    if node is not None and node.op_type == "DequantizeLinear" and probe.is_bytes(str(node.inputs[0].name)):  # type: ignore[union-attr]
        scales = [probe.constants.get(str(value.name)) for value in node.inputs[1:] if value is not None]
        if all(scale is not None and scale.size == 1 for scale in scales):
            return str(node.inputs[0].name)  # type: ignore[union-attr]
    return str(output.name)


def _other(b: GraphBuilder, node: ir.Node) -> None:
    """A node that acts on int8 values as on any others."""
    name = b.name(node, 0)
    if not b.is_bytes(name) or not b.is_bytes(str(node.outputs[0].name)):
        raise HostOnly("it does not stay in 8 bits")
    if node.op_type in MOVEMENT:
        import_movement(b, node)
    elif node.op_type in UNARY:
        import_quantised_unary(b, node)
    else:
        raise HostOnly("ONNX Runtime runs it")


def _compact(
    tensors: Sequence[QTensor], ops: Sequence[Op], answers: Sequence[str]
) -> tuple[tuple[QTensor, ...], tuple[Op, ...]]:
    """Only the tensors somebody reads or writes, renumbered."""
    used = {number for op in ops for number in _numbers(op).values()}
    names = {name for op in ops if isinstance(op, HostOp) for name in (*op.inputs, *op.outputs)}
    kept = [i for i, t in enumerate(tensors) if i in used or t.name in names or t.name in answers]
    new = {old: i for i, old in enumerate(kept)}
    moved = [
        replace(op, **{place: new[old] for place, old in _numbers(op).items()})  # type: ignore[arg-type]
        for op in ops
    ]
    return tuple(tensors[i] for i in kept), tuple(moved)


def _numbers(op: Op) -> dict[str, int]:
    """The tensors an operator reads and writes, by field."""
    found = {place: getattr(op, place, None) for place in ("source", "right", "target")}
    return {place: number for place, number in found.items() if isinstance(number, int)}


def _float_macs(graph: ir.Graph) -> list[str]:
    """Products the file computes in float."""
    return [
        f"{node.op_type} {node.name!r}: {node.metadata_props.get(REASON, 'its operands are float')}"
        for node in graph
        if node.op_type
        in ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Einsum", "MatMulNBits")
    ]


def _no_mac_layer(name: str, graph: ir.Graph, left: Sequence[str]) -> str:
    found = ", ".join(sorted({node.op_type for node in graph})[:20])
    why = f" Not on the array: {'; '.join(left)}." if left else ""
    return (
        f"model {name!r} has no integer MAC layer (found: {found}); allowed: quantised Conv, Gemm or MatMul.{why} "
        "Quantise it: emulator quantize MODEL -o INT8.onnx --calibration X.npz."
    )


_MACS = frozenset(PLACES)
_HANDLERS: dict[str, Callable[[GraphBuilder, ir.Node], None]] = {
    "QuantizeLinear": import_quantize,
    **dict.fromkeys(_MACS, import_mac),
    "QLinearAdd": import_pair,
    "QLinearMul": import_pair,
    "QLinearConcat": import_quantised_concat,
    "QLinearSigmoid": import_quantised_unary,
    "QLinearLeakyRelu": import_quantised_unary,
    "QLinearAveragePool": import_average_pool,
    "QLinearGlobalAveragePool": import_global_average_pool,
    "MaxPool": import_max_pool,
    "Concat": import_concat,
}
