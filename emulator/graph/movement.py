"""Operators that only move values, as one index per output element, found by letting ONNX Runtime move the
indices themselves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from emulator.graph.builder import GraphBuilder, HostOnly
from emulator.graph.qgraph import MoveOp, QTensor

Int32 = npt.NDArray[np.int32]

MOVEMENT = frozenset(
    """DepthToSpace Expand Flatten Gather Identity Pad Reshape Resize Slice SpaceToDepth Split Squeeze Tile Transpose
    Unsqueeze""".split()
)


def moves(b: GraphBuilder, node: ir.Node) -> bool:
    """Does this node only move the values of its first input, in a way known beforehand?"""
    if node.op_type not in MOVEMENT or node.domain not in ("", "ai.onnx"):
        return False
    mode = node.attributes.get("mode")
    if node.op_type == "Resize" and mode is not None and mode.value != "nearest":
        return False
    return b.rest_is_constant(node)


def import_movement(b: GraphBuilder, node: ir.Node) -> None:
    """A node that moves int8 values as they are."""
    if not moves(b, node):
        raise HostOnly("where its values go is computed")
    source = b.tensor(b.name(node, 0))
    begin = b.tensors[source]
    fill = int(_pad_value(b, node)) - begin.offset if node.op_type == "Pad" else 0
    for output in node.outputs:
        name = str(output.name)
        if output.consumers() or output.is_graph_output():
            target = b.tensor(name, like=source if b.shape(name) == begin.shape else None)
            b.move(
                str(node.name or name), source, target,
                origins(b, [node], begin, b.name(node, 0), name, b.tensors[target]), fill,
            )  # fmt: skip


def import_concat(b: GraphBuilder, node: ir.Node) -> None:
    """Concat of int8 tensors of one quantisation."""
    sources = [b.tensor(b.name(node, i)) for i in range(len(node.inputs))]
    if len({b.tensors[source].offset for source in sources}) > 1:
        raise HostOnly("it joins int8 and uint8")
    axis = node.attributes["axis"].value
    join(b, str(node.name or node.outputs[0].name), sources, b.tensor(str(node.outputs[0].name)), int(axis))


def join(b: GraphBuilder, name: str, sources: Sequence[int], target: int, axis: int) -> None:
    """Every source to its place along `axis` of the target."""
    end = b.tensors[target]
    # Where each element in ONNX order is stored.
    stored = end.in_order(np.arange(end.size, dtype=np.int32)[np.newaxis])[0]
    sizes = [b.tensors[source].shape[axis] for source in sources]
    parts = np.split(stored, np.cumsum(sizes)[:-1], axis=axis)
    for source, part in zip(sources, parts, strict=True):
        place = b.tensors[source].to_storage(part[np.newaxis])[0].astype(np.int32)
        origin = np.arange(len(place), dtype=np.int32)
        b.ops.append(MoveOp(name=name, source=source, target=target, place=place, origin=origin, fill=0))


def origins(
    b: GraphBuilder, nodes: Sequence[ir.Node], source: QTensor, feed: str, output: str, target: QTensor
) -> Int32:
    """(target size,) int32 stored source index of every stored target element; -1 where a Pad fills.

    `feed` and `output` are the value names at which the chain of nodes starts and ends.
    """
    # Float32 carries indices exactly below 2^24; index 0 is kept for padding.
    if source.size >= 1 << 24:
        raise HostOnly(f"it moves {source.size} values, 2^24 or more")
    constants = {
        name: b.probe.constants[name]
        for node in nodes
        for name in (b.name(node, i) for i in range(1, len(node.inputs)))
        if name
    }
    for node in nodes:
        if node.op_type == "Pad" and b.name(node, 2):
            constants[b.name(node, 2)] = np.zeros(constants[b.name(node, 2)].shape, np.float32)
    protos = chained(nodes)
    for proto in protos:
        for attribute in [a for a in proto.attribute if a.name == "value" and proto.op_type == "Pad"]:
            proto.attribute.remove(attribute)  # an old Pad's fill: indices are padded with 0
    logical = source.in_order(np.arange(1, source.size + 1, dtype=np.float32)[np.newaxis])[0]
    moved = b.run_alone(protos, {feed: np.ascontiguousarray(logical)}, output, constants)
    whole = np.rint(moved).astype(np.int32).reshape(1, *target.shape)
    origin: Int32 = target.to_storage(whole)[0].astype(np.int32) - 1
    return origin


def fill_of(b: GraphBuilder, nodes: Sequence[ir.Node], begin: QTensor, origin: Int32) -> int:
    """The stored value that a Pad of real values writes, in the quantisation of the tensor it pads."""
    if not (origin < 0).any():
        return 0
    pads = [node for node in nodes if node.op_type == "Pad"]
    if len(pads) > 1:
        raise HostOnly("two Pads follow each other")
    real = float(_pad_value(b, pads[0]))
    code = np.rint(np.float32(real) / np.float32(begin.scale)) + begin.zero_point
    if abs(begin.real(np.array([code]).astype(np.int8))[0] - real) > 1e-6 * max(1.0, abs(real)):
        raise HostOnly(f"it pads with {real}, which {begin.name!r} can't represent exactly")
    return int(code)


def _pad_value(b: GraphBuilder, node: ir.Node) -> Any:
    if b.name(node, 2):
        return b.probe.constants[b.name(node, 2)].reshape(-1)[0]
    value = node.attributes.get("value")
    return 0 if value is None else value.value


def chained(nodes: Sequence[ir.Node]) -> list[onnx.NodeProto]:
    """The nodes as one chain, whatever stood between them."""
    protos = [ir.serde.to_proto(node) for node in nodes]
    for before, after in pairwise(protos):
        after.input[0] = before.output[0]
    return protos
