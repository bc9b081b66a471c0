"""Pools over int8 tensors."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from emulator.graph.builder import GraphBuilder, HostOnly
from emulator.graph.qgraph import AveragePoolOp, GlobalAveragePoolOp, MaxPoolOp
from emulator.graph.rewriting import attributes_of
from emulator.graph.taps import taps_of


def import_max_pool(b: GraphBuilder, node: ir.Node) -> None:
    """MaxPool directly on int8 values."""
    max_pool(b, node, b.tensor(b.name(node, 0)), b.tensor(str(node.outputs[0].name)))


def max_pool(b: GraphBuilder, node: ir.Node, source: int, target: int) -> None:
    """Append the pool; source and target have the same quantisation."""
    if len(node.outputs) > 1:
        raise HostOnly("its indices are read")
    shape, out = b.tensors[source].shape, b.tensors[target].shape
    attributes = attributes_of(node)
    taps = taps_of(attributes, attributes["kernel_shape"], shape, out)
    source, written = b.in_order(source, channels_last=True), b.written(target, channels_last=True)
    name = str(node.name or node.outputs[0].name)
    b.ops.append(MaxPoolOp(name=name, source=source, target=written, channels=shape[1], taps=taps))


def import_average_pool(b: GraphBuilder, node: ir.Node) -> None:
    """QLinearAveragePool; a window over the whole image is what ONNX Runtime computes as a global pool, in integers."""
    source, target = _ends(b, node)
    shape, out = b.tensors[source].shape, b.tensors[target].shape
    attributes = attributes_of(node)
    if attributes.get("ceil_mode", 0) or attributes.get("channels_last", 0):
        raise HostOnly("it has ceil_mode or channels_last")
    kernel = tuple(attributes["kernel_shape"])
    # With auto_pad a window of this size is padded unless there is but one.
    if kernel == shape[2:] and np.prod(out[2:]) == 1 and not any(attributes.get("pads", ())):
        _global_average(b, node, source, target)
        return
    written = b.written(target, channels_last=True)
    b.ops.append(
        AveragePoolOp(
            name=str(node.name or node.outputs[0].name),
            source=b.in_order(source, channels_last=True),
            target=written,
            channels=shape[1],
            taps=taps_of(attributes, kernel, shape, out),
            count_include_pad=bool(attributes.get("count_include_pad", 0)),
        )
    )


def import_global_average_pool(b: GraphBuilder, node: ir.Node) -> None:
    """QLinearGlobalAveragePool."""
    if attributes_of(node).get("channels_last", 0):
        raise HostOnly("it is channels last")
    _global_average(b, node, *_ends(b, node))


def _global_average(b: GraphBuilder, node: ir.Node, source: int, target: int) -> None:
    begin, end = b.tensors[source], b.tensors[target]
    if begin.shape[0] != 1:
        raise HostOnly("it pools a batch")
    channels = begin.shape[1]
    positions = begin.size // channels
    scale = np.float32(begin.scale) / (np.float32(end.scale) * np.float32(positions))
    b.ops.append(
        GlobalAveragePoolOp(
            name=str(node.name or node.outputs[0].name),
            source=b.in_order(source, channels_last=True),
            # One value a channel: both orders are the same.
            target=target,
            positions=positions,
            channels=channels,
            scale=float(scale),
        )
    )


def _ends(b: GraphBuilder, node: ir.Node) -> tuple[int, int]:
    """Source and target; what the pool says of their quantisation must be what their tensors say."""
    source, target = b.tensor(b.name(node, 0)), b.tensor(str(node.outputs[0].name))
    tensor = b.tensors[source]
    if (b.scalar(node, 1), b.zero_point(node, 2)) != (tensor.scale, tensor.zero_point):
        raise HostOnly(f"it reads {tensor.name!r} with another scale or zero point than it was written with")
    b.scalar(node, 3), b.zero_point(node, 4)
    if len(tensor.shape) < 3:
        raise HostOnly(f"its input has rank {len(tensor.shape)}")
    return source, target
