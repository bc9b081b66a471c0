"""Operators that act on each element alone, as tables filled once by ONNX Runtime itself, so they are bit-exact by
construction; and what stands between a DequantizeLinear and a QuantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from emulator.graph.builder import GraphBuilder, HostOnly
from emulator.graph.channels import by_channel, channel_axis, channel_codes
from emulator.graph.movement import chained, fill_of, join, moves, origins
from emulator.graph.pools import max_pool
from emulator.graph.qgraph import PairTableOp, QTensor, TableOp
from emulator.graph.session import Arrays

Int8 = npt.NDArray[np.int8]

# Of one varying input, and of any number.
UNARY = frozenset(
    """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid
    HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus
    Softsign Sqrt Swish Tan Tanh ThresholdedRelu QuantizeLinear DequantizeLinear QuickGelu FastGelu BiasGelu""".split()
)
VARIADIC = frozenset(
    """Add Sub Mul Div Max Min Mean Sum Mod PRelu Where And Or Xor Equal Greater Less GreaterOrEqual
    LessOrEqual""".split()
)
_CODES = np.arange(-128, 128, dtype=np.int16)


def import_quantised_unary(b: GraphBuilder, node: ir.Node) -> None:
    """An elementwise node from int8 to int8: Relu or Clip on integers, QLinearSigmoid, QLinearLeakyRelu."""
    constants = {name: b.constant(node, i) for i in range(1, len(node.inputs)) if (name := b.name(node, i))}
    feed, output = b.name(node, 0), str(node.outputs[0].name)
    source = b.tensor(feed)
    target = b.tensor(output, like=source)
    table = _filled(b, [ir.serde.to_proto(node)], {feed: source}, constants, output, target)
    _append_unary(b, str(node.name or output), source, target, table)


def import_pair(b: GraphBuilder, node: ir.Node) -> None:
    """QLinearAdd or QLinearMul."""
    constants = {name: b.constant(node, i) for i in (1, 2, 4, 5, 6, 7) if (name := b.name(node, i))}
    left, right, output = b.name(node, 0), b.name(node, 3), str(node.outputs[0].name)
    _elementwise(b, [ir.serde.to_proto(node)], [left, right], constants, output)


def import_quantised_concat(b: GraphBuilder, node: ir.Node) -> None:
    """QLinearConcat: each input to the output's quantisation, then to its place."""
    output = str(node.outputs[0].name)
    target = b.tensor(output)
    end = b.tensors[target]
    b.scalar(node, 0), b.zero_point(node, 1)
    sources = []
    for i in range(2, len(node.inputs), 3):
        source = b.tensor(b.name(node, i))
        begin = b.tensors[source]
        proto = ir.serde.to_proto(node)
        del proto.input[:], proto.attribute[:]
        proto.input.extend(b.name(node, j) for j in (0, 1, i, i + 1, i + 2))
        proto.attribute.append(onnx.helper.make_attribute("axis", 0))
        used = {b.name(node, j): b.constant(node, j) for j in (0, 1, i + 1, i + 2)}
        table = _filled(b, [proto], {b.name(node, i): source}, used, output, target)
        if not _is_identity(table):
            moved = b.hidden(f"{output}/part{i}", target, begin.shape, channels_last=begin.channels_last)
            b.ops.append(TableOp(name=f"{output}/part{i}", source=source, target=moved, table=table))
            source = moved
        sources.append(source)
    axis = int(node.attributes["axis"].value) % len(end.shape)
    join(b, str(node.name or output), sources, target, axis)


def import_quantize(b: GraphBuilder, node: ir.Node) -> None:
    """A QuantizeLinear and the float operators between it and the int8 tensors it comes from. Their constants are one
    number, or one a channel."""
    b.scalar(node, 1), b.zero_point(node, 2)
    if not b.is_bytes(str(node.outputs[0].name)):
        raise HostOnly("it quantises to other than 8 bits")
    chain = _chain(b, node)
    if chain is not None and any(moves(b, link) or link.op_type == "MaxPool" for link in chain[1:]):
        _import_chain(b, node, chain)
        return
    nodes, leaves = _expression(b, node)
    constants = {
        name: b.probe.constants[name]
        for part in nodes
        for name in (str(value.name) for value in part.inputs if value is not None)
        if name in b.probe.constants
    }
    _elementwise(b, [ir.serde.to_proto(part) for part in nodes], leaves, constants, str(node.outputs[0].name))


def _elementwise(
    b: GraphBuilder, protos: Sequence[onnx.NodeProto], leaves: Sequence[str], constants: Arrays, output: str
) -> None:
    """A table of one tensor, or of two that broadcast against each other; of one also a table a channel."""
    sources = list(dict.fromkeys(b.tensor(name) for name in leaves))
    shape = b.shape(output)
    axis = channel_axis(shape, constants)
    if axis is not None:
        _channelwise(b, protos, leaves, constants, output, axis)
        return
    first = max(sources, key=lambda source: b.tensors[source].size)
    target = b.tensor(output, like=first)
    feeds = {name: b.tensor(name) for name in leaves}
    table = _filled(b, protos, feeds, constants, output, target)
    last = b.tensors[target].channels_last
    sources = [b.expanded(source, shape, channels_last=last) for source in sources]
    if len(sources) == 1:
        _append_unary(b, output, sources[0], target, table)
        return
    b.ops.append(PairTableOp(name=output, source=sources[0], right=sources[1], target=target, table=table))


def _channelwise(
    b: GraphBuilder,
    protos: Sequence[onnx.NodeProto],
    leaves: Sequence[str],
    constants: Arrays,
    output: str,
    axis: int,
) -> None:
    """A table for each channel, all channels of `axis`, of one tensor."""
    shape = b.shape(output)
    if len(leaves) != 1 or b.shape(leaves[0]) != shape:
        raise HostOnly(
            "constants that differ from channel to channel meet other than one int8 tensor of that shape"
        )
    last = axis == len(shape) - 1
    source = b.in_order(b.tensor(leaves[0]), channels_last=not last)
    target = b.tensor(output, like=source)
    feed = {leaves[0]: _typed(channel_codes(shape, axis), b.tensors[source])}
    found = b.run_alone(protos, feed, output, constants)
    table = _stored(by_channel(found, axis), b.tensors[target])
    _append_unary(b, output, source, target, table)


def _expression(b: GraphBuilder, quantise: ir.Node) -> tuple[list[ir.Node], list[str]]:
    """The elementwise nodes behind a QuantizeLinear, itself included, in order, and the names of the one or two int8
    tensors they start from."""
    nodes: list[ir.Node] = []
    leaves: list[str] = []

    def visit(node: ir.Node) -> None:
        if node in nodes:
            return
        if node.op_type == "DequantizeLinear" and b.is_bytes(b.name(node, 0)):
            b.scalar(node, 1), b.zero_point(node, 2)
            leaves.append(b.name(node, 0))
        elif (
            node.op_type in UNARY
            or node.op_type in VARIADIC
            or (
                # ONNX Runtime computes a power by one exponent otherwise than element by element.
                node.op_type == "Pow" and _is_number(b.probe.constants.get(b.name(node, 1)))
            )
        ):
            for value in node.inputs:
                _visit_value(value)
        else:
            raise HostOnly(f"it follows {node.op_type}")
        nodes.append(node)

    def _visit_value(value: ir.Value | None) -> None:
        if value is None:
            return
        name = str(value.name)
        if name in b.probe.constants:
            return
        producer = value.producer()
        if producer is None:
            raise HostOnly(f"it quantises the input {name!r}")
        visit(producer)

    visit(quantise)
    leaves = list(dict.fromkeys(leaves))
    if not 1 <= len(leaves) <= 2:
        raise HostOnly(f"it depends on {len(leaves)} int8 tensors")
    return nodes, leaves


def _chain(b: GraphBuilder, quantise: ir.Node) -> list[ir.Node] | None:
    """DequantizeLinear and what follows it up to `quantise` (excluded), each of one computed input; None if there is
    more to it."""
    chain: list[ir.Node] = []
    value = quantise.inputs[0]
    while value is not None:
        node = value.producer()
        if node is None or not b.rest_is_constant(node):
            return None
        chain.insert(0, node)
        if node.op_type == "DequantizeLinear":
            return chain if b.is_bytes(b.name(node, 0)) else None
        if not (moves(b, node) or node.op_type in UNARY or node.op_type == "MaxPool"):
            return None
        value = node.inputs[0] if node.inputs else None
    return None


def _import_chain(b: GraphBuilder, quantise: ir.Node, chain: Sequence[ir.Node]) -> None:
    """A chain between two quantised tensors: pools, movement and one table.

    Max pooling and movement commute with a table, and the maximum with a monotone one, so the chain becomes
    movement and pools on integers, then the table of everything else.
    """
    start, links = chain[0], list(chain[1:])
    b.scalar(start, 1), b.zero_point(start, 2)
    moving = [node for node in links if moves(b, node)]
    pools = [node for node in links if node.op_type == "MaxPool"]
    if pools and len(links) > 1:
        raise HostOnly("other operators stand beside a MaxPool")
    first_table = min((i for i, node in enumerate(links) if node not in moving), default=len(links))
    # The table comes last here, so what a Pad fills in would go through it.
    if any(node.op_type == "Pad" for node in links[first_table:]):
        raise HostOnly("it pads behind an elementwise operator")
    if any(len(node.outputs) > 1 for node in moving[:-1]):
        raise HostOnly("a part of a Split goes on")
    output = str(quantise.outputs[0].name)
    source, target = b.tensor(b.name(start, 0)), b.tensor(output)
    begin, end = b.tensors[source], b.tensors[target]
    if (b.scalar(start, 1), b.zero_point(start, 2)) != (begin.scale, begin.zero_point):
        raise HostOnly(f"it reads {begin.name!r} with another quantisation than it was written with")
    table = _chain_table(
        b, [start, *(node for node in links if node not in moving + pools), quantise], target
    )
    middle = target
    if not _is_identity(table):
        middle = b.hidden(f"{output}/moved", source, end.shape, channels_last=end.channels_last)
    if pools:
        max_pool(b, pools[0], source, middle)
    else:
        last = str(quantise.inputs[0].name) if links[-1] in moving else str(moving[-1].outputs[0].name)  # type: ignore[union-attr]
        origin = origins(b, moving, begin, b.name(moving[0], 0), last, b.tensors[middle])
        b.move(output, source, middle, origin, fill_of(b, moving, begin, origin))
    if middle != target:
        b.ops.append(TableOp(name=f"{output}/requantise", source=middle, target=target, table=table))


def _chain_table(b: GraphBuilder, nodes: Sequence[ir.Node], target: int) -> Int8:
    """The elementwise nodes of a chain, one after the other, on the 256 codes of the source."""
    protos = chained(nodes)
    names = {name for proto in protos for name in proto.input}
    constants = {name: b.probe.constants[name] for name in names if name in b.probe.constants}
    wide = sorted(name for name, constant in constants.items() if not _is_number(constant))
    if wide:
        # Those of 256 elements would meet the 256 codes one by one.
        raise HostOnly(f"constant {wide[0]!r} in a chain of movements differs from element to element")
    feed = protos[0].input[0]
    return _filled(b, protos, {feed: b.tensor(feed)}, constants, protos[-1].output[0], target)


def _append_unary(b: GraphBuilder, name: str, source: int, target: int, table: Int8) -> None:
    written = b.written(target, channels_last=b.tensors[source].channels_last)
    b.ops.append(TableOp(name=name, source=source, target=written, table=table))


def _is_number(constant: npt.NDArray[np.generic] | None) -> bool:
    return constant is not None and constant.size == 1


def _is_identity(table: Int8) -> bool:
    return bool(np.array_equal(table, _CODES))


def _filled(
    b: GraphBuilder,
    protos: Sequence[onnx.NodeProto],
    feeds: Mapping[str, int],
    constants: Arrays,
    output: str,
    target: int,
) -> Int8:
    """(256,) int8 of one fed tensor, (65536,) of two: index (first + 128) * 256 + second + 128."""
    tensors = [b.tensors[index] for index in dict.fromkeys(feeds.values())]
    codes = [_CODES] if len(tensors) == 1 else [np.repeat(_CODES, 256), np.tile(_CODES, 256)]
    arrays = {
        name: _typed(codes[tensors.index(b.tensors[index])], b.tensors[index])
        for name, index in feeds.items()
    }
    values = b.run_alone(protos, arrays, output, constants)
    return _stored(values, b.tensors[target]).reshape(-1)


def _stored(values: npt.NDArray[np.generic], tensor: QTensor) -> Int8:
    stored: Int8 = (values.astype(np.int16) - tensor.offset).astype(np.int8)
    return stored


def _typed(codes: npt.NDArray[np.int16], tensor: QTensor) -> npt.NDArray[np.int8 | np.uint8]:
    return (codes + tensor.offset).astype(np.uint8 if tensor.offset else np.int8)
