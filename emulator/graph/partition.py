"""Which part of a network is ours and which is ONNX Runtime's: operators in an order that keeps both in long runs, and
the nodes in between cut out as host segments."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir

from emulator.graph.probe import Probe, reads_of
from emulator.graph.qgraph import ElementOp, HostOp, MacLayer, Op, QTensor


@dataclass(slots=True, eq=False)
class _Item:
    """An operator of ours or a host node: what it reads and writes, by name, and its level: how often the way to it
    changes sides."""

    work: MacLayer | ElementOp | ir.Node
    reads: list[str]
    writes: list[str]
    level: int = 0
    after: list[_Item] = field(default_factory=list)

    @property
    def hosted(self) -> bool:
        return isinstance(self.work, ir.Node)


def ordered(
    model: onnx.ModelProto,
    graph: ir.Graph,
    probe: Probe,
    tensors: Sequence[QTensor],
    ours: Sequence[MacLayer | ElementOp],
    answers: Sequence[str],
) -> list[Op]:
    """Everything that leads to `answers`, in execution order, host nodes as segments. graph: that of `model`."""
    items = _needed(graph, probe, tensors, ours, answers)
    items = _levelled(items)
    order: list[Op] = []
    for level in sorted({item.level for item in items}):
        here = [item for item in items if item.level == level]
        hosted = [item for item in here if item.hosted]
        order += [_cut(model, graph, probe, segment, items, answers) for segment in _connected(hosted)]
        order += [item.work for item in here if not isinstance(item.work, ir.Node)]
    return order


def opaque(node: ir.Node, probe: Probe) -> bool:
    """Is it more than a view of what it reads? A DequantizeLinear is recomputed wherever it is needed."""
    return not (node.op_type == "DequantizeLinear" and all(n in probe.constants for n in reads_of(node)[1:]))


def _needed(
    graph: ir.Graph,
    probe: Probe,
    tensors: Sequence[QTensor],
    ours: Sequence[MacLayer | ElementOp],
    answers: Sequence[str],
) -> list[_Item]:
    """Backwards from the answers, in the order of the file."""
    made = defaultdict(list)
    for op in ours:
        item = _Item(op, _op_reads(op, tensors), [_target(op, tensors)])
        made[item.writes[0]].append(item)
    nodes = {str(value.name): node for node in graph for value in node.outputs if value.name}
    known: dict[int, _Item] = {}
    found: list[_Item] = []
    todo = list(answers)
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or name in probe.constants:
            continue
        seen.add(name)
        items = made.get(name) or _host_item(nodes.get(name), probe, nodes, known)
        for item in items:
            if item not in found:
                found.append(item)
                todo += item.reads
    rank = {id(op): i for i, op in enumerate(ours)} | {id(node): i for i, node in enumerate(graph)}
    return sorted(found, key=lambda item: rank[id(item.work)])


def _host_item(
    node: ir.Node | None, probe: Probe, nodes: Mapping[str, ir.Node], known: dict[int, _Item]
) -> list[_Item]:
    if node is None:
        return []
    if id(node) not in known:
        reads = [n for n in _seen_through(reads_of(node), probe, nodes) if n not in probe.constants]
        known[id(node)] = _Item(node, reads, [str(v.name) for v in node.outputs if v.name])
    return [known[id(node)]]


def _seen_through(names: Sequence[str], probe: Probe, nodes: Mapping[str, ir.Node]) -> list[str]:
    """What is read in truth, where a view of it is named."""
    result = []
    for name in names:
        node = nodes.get(name)
        while node is not None and not opaque(node, probe):
            name = reads_of(node)[0]
            node = nodes.get(name)
        result.append(name)
    return list(dict.fromkeys(result))


def _op_reads(op: MacLayer | ElementOp, tensors: Sequence[QTensor]) -> list[str]:
    sources = [op.source, getattr(op, "right", None)]
    if isinstance(op, MacLayer):
        sources += [op.zero_point if isinstance(op.zero_point, str) else None]
        sources += [op.weight_zero_point if isinstance(op.weight_zero_point, str) else None]
    named = [tensors[s].name if isinstance(s, int) else s for s in sources if s is not None]
    fixed = {tensor.name for tensor in tensors if tensor.constant is not None}
    return [name for name in named if name not in fixed]


def _target(op: MacLayer | ElementOp, tensors: Sequence[QTensor]) -> str:
    return tensors[op.target].name if isinstance(op.target, int) else op.target


def _levelled(items: Sequence[_Item]) -> list[_Item]:
    """In an order in which everything comes after what it reads, levels set."""
    writers = defaultdict(list)
    for item in items:
        for name in item.writes:
            writers[name].append(item)
    waiting: dict[int, int] = {}
    for item in items:
        before = [w for name in item.reads for w in writers[name] if w is not item]
        waiting[id(item)] = len(before)
        for writer in before:
            writer.after.append(item)
    rank = {id(item): i for i, item in enumerate(items)}
    ready = [(item.level, rank[id(item)]) for item in items if waiting[id(item)] == 0]
    for item in items:
        item.level = 0 if item.hosted else 1
    heapq.heapify(ready)
    result = []
    while ready:
        item = items[heapq.heappop(ready)[1]]
        result.append(item)
        for follower in item.after:
            follower.level = max(follower.level, item.level + (follower.hosted != item.hosted))
            waiting[id(follower)] -= 1
            if waiting[id(follower)] == 0:
                heapq.heappush(ready, (follower.level, rank[id(follower)]))
    return result


def _connected(items: Sequence[_Item]) -> list[list[_Item]]:
    """Host nodes of one level that feed each other, together."""
    group = {id(item): {id(item)} for item in items}
    writer = {name: item for item in items for name in item.writes}
    for item in items:
        for name in item.reads:
            other = writer.get(name)
            if other is not None and group[id(other)] is not group[id(item)]:
                merged = group[id(item)] | group[id(other)]
                group.update(dict.fromkeys(merged, merged))
    sets = {id(members): members for members in group.values()}
    return [[item for item in items if id(item) in members] for members in sets.values()]


def _cut(
    model: onnx.ModelProto,
    graph: ir.Graph,
    probe: Probe,
    segment: Sequence[_Item],
    items: Sequence[_Item],
    answers: Sequence[str],
) -> HostOp:
    """A segment as a model of its own."""
    inside = {name for item in segment for name in item.writes}
    inputs = list(dict.fromkeys(n for item in segment for n in item.reads if n not in inside))
    read = {name for item in items if item not in segment for name in item.reads} | set(answers)
    outputs = [name for item in segment for name in item.writes if name in read]
    members = {id(item.work) for item in segment}
    needed = {name for item in segment if isinstance(item.work, ir.Node) for name in reads_of(item.work)}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(list(graph)):
        written = {str(value.name) for value in node.outputs}
        view = bool(written & needed) and not opaque(node, probe) and not written & set(inputs)
        if id(node) in members or (view and not written & probe.constants.keys()):
            needed |= set(reads_of(node))
            nodes.insert(0, ir.serde.to_proto(node))
    fixed = [
        _initializer(graph, probe, name)
        for name in sorted(needed & probe.constants.keys())
        if name not in inputs
    ]
    alone = onnx.helper.make_graph(
        nodes,
        "segment",
        [_info(probe, name) for name in inputs],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        fixed,
    )
    cut = onnx.helper.make_model(
        alone, opset_imports=model.opset_import, ir_version=model.ir_version, functions=model.functions
    )
    kinds = tuple(item.work.op_type for item in segment if isinstance(item.work, ir.Node))
    return HostOp(
        name=f"host:{outputs[0]}", model=cut, inputs=tuple(inputs), outputs=tuple(outputs), nodes=kinds
    )


def _initializer(graph: ir.Graph, probe: Probe, name: str) -> onnx.TensorProto:
    value = graph.initializers.get(name)
    if value is not None and value.const_value is not None:
        proto: onnx.TensorProto = ir.serde.to_proto(value.const_value)
        proto.name = name
        return proto
    return onnx.numpy_helper.from_array(np.asarray(probe.constants[name]), name)


def _info(probe: Probe, name: str) -> onnx.ValueInfoProto:
    """Its type; the shape is left open, some depend on the data."""
    if name not in probe.dtypes:
        return onnx.ValueInfoProto(name=name)
    kind = onnx.helper.np_dtype_to_tensor_dtype(probe.dtypes[name])
    return onnx.helper.make_tensor_value_info(name, kind, None)
