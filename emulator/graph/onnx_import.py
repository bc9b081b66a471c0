"""A model in QLinear form to the frozen integer network: our operators for what is integer, host segments else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir

from emulator.errors import UnsupportedModel
from emulator.graph.builder import GraphBuilder, HostOnly
from emulator.graph.elements import (
    UNARY,
    import_pair,
    import_quantised_concat,
    import_quantised_unary,
    import_quantize,
)
from emulator.graph.folding import with_bounds_folded
from emulator.graph.macs import PLACES, import_mac
from emulator.graph.movement import MOVEMENT, import_concat, import_movement
from emulator.graph.partition import ordered
from emulator.graph.pools import import_average_pool, import_global_average_pool, import_max_pool
from emulator.graph.probe import Probe
from emulator.graph.qgraph import HostOp, MacLayer, Op, QTensor, QuantGraph
from emulator.graph.qlinear import REASON


def integer_graph(reference: onnx.ModelProto, name: str, wanted: str | None = None) -> QuantGraph:
    """The network of a model in QLinear form with fixed shapes. wanted: the output that is the answer, by default
    the first of several real or 8-bit numbers. Raises UnsupportedModel."""
    graph = ir.serde.from_proto(reference).graph
    probe = Probe(reference, graph)
    b = GraphBuilder(graph, probe, reference.opset_import)
    left: list[str] = []
    for node in graph:
        if all(str(value.name) in probe.constants for value in node.outputs):
            continue
        before = b.mark()
        try:
            _HANDLERS.get(node.op_type, _other)(b, node)
        except HostOnly as reason:
            b.back_to(before)
            if node.op_type in _MACS:
                left.append(f"{node.op_type} {node.name!r}: {reason}")
    answers = [_behind(value, b) for value in graph.outputs]
    if not answers:
        raise UnsupportedModel(f"model {name!r} has no output; allowed: one or more. Export it again.")
    answer = _answer([str(value.name) for value in graph.outputs], answers, probe, wanted)
    if probe.is_bytes(answers[answer]) and 0 not in probe.shapes[answers[answer]]:
        b.tensor(answers[answer])  # with its scale, whoever writes it
    ops = with_bounds_folded(ordered(reference, graph, probe, b.tensors, b.ops, answers), b.tensors, answers)
    if not any(isinstance(op, MacLayer) for op in ops):
        raise UnsupportedModel(_no_mac_layer(name, graph, [*left, *_float_macs(graph)]))
    tensors, renumbered = _compact(b.tensors, ops, answers)
    index = {tensor.name: i for i, tensor in enumerate(tensors)}
    return QuantGraph(
        name=name,
        inputs=probe.inputs,
        output_name=str(graph.outputs[answer].name),
        output=index.get(answers[answer], answers[answer]),
        classes=int(np.prod(probe.shapes[answers[answer]], dtype=np.int64)),
        tensors=tensors,
        ops=renumbered,
        float_macs=(*left, *_float_macs(graph)),
    )


def _answer(outputs: Sequence[str], answers: Sequence[str], probe: Probe, wanted: str | None) -> int:
    """Which output is the answer."""
    if wanted is not None:
        if wanted not in outputs:
            raise UnsupportedModel(f"output {wanted!r}; allowed: those of the model: {', '.join(outputs)}.")
        return outputs.index(wanted)
    for i, name in enumerate(answers):
        real = probe.is_bytes(name) or (name in probe.dtypes and probe.dtypes[name].kind == "f")
        if real and np.prod(probe.shapes[name], dtype=np.int64) > 1:
            return i
    if answers[0] not in probe.shapes:
        raise UnsupportedModel(
            f"output {outputs[0]!r} is no tensor; allowed: tensors. Cut what follows the logits off."
        )
    return 0


def _behind(output: ir.Value, b: GraphBuilder) -> str:
    """The int8 tensor an output is the real value of, else the output itself."""
    node = output.producer()
    if node is None or node.op_type != "DequantizeLinear" or not b.is_bytes(b.name(node, 0)):
        return str(output.name)
    try:
        read = b.scalar(node, 1), b.zero_point(node, 2)
    except HostOnly:
        return str(output.name)
    # Read otherwise than written, its real values are another tensor's.
    return b.name(node, 0) if read == b.quantisation(b.name(node, 0)) else str(output.name)


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
    """Products that are not on the array, and why."""
    why = dict.fromkeys(_FLOAT_MACS, "its operands are float")
    why |= dict.fromkeys(_CLOSED_MACS, "its products are inside an operator of ONNX Runtime")
    return [
        f"{node.op_type} {node.name!r}: {node.metadata_props.get(REASON, why[node.op_type])}"
        for node in graph
        if node.op_type in why
    ]


def _no_mac_layer(name: str, graph: ir.Graph, left: Sequence[str]) -> str:
    found = ", ".join(sorted({node.op_type for node in graph})[:20])
    why = f" Not on the array: {'; '.join(left[:5])}." if left else ""
    return (
        f"model {name!r} has no integer MAC layer (found: {found}); allowed: quantised Conv, Gemm or MatMul.{why} "
        "Quantise it: emulator quantize MODEL -o INT8.onnx --calibration X.npz."
    )


_MACS = frozenset(PLACES)
_FLOAT_MACS = frozenset("Conv ConvTranspose Gemm MatMul LSTM GRU RNN Einsum MatMulNBits Attention".split())
_CLOSED_MACS = frozenset("QAttention DynamicQuantizeLSTM QOrderedMatMul QEmbedLayerNormalization".split())
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
