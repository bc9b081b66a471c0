"""Bounds on what MAC layers give, written into the model's file: the same graph and names, and a clip behind each
quantised tensor that is bounded.

    QuantizeLinear -> y        becomes        QuantizeLinear -> DequantizeLinear -> Clip -> QuantizeLinear -> y

with Max and Min of one number a channel in place of Clip where bounds differ from channel to channel. The clip could
stand before the quantisation as well, but then ONNX Runtime would not see the integer convolution, and compute it in
float: a ResNet-20 takes 1.7 times as long so, and 1.2 times with the clip behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from emulator.errors import UnsupportedModel
from emulator.graph.load import Network
from emulator.graph.qgraph import HostOp, Int8, MacLayer, MoveOp, QTensor, QuantGraph, TableOp

# The first whose Clip takes its bounds as inputs.
_OPSET = 11
# Where the nodes that write the result of a product keep its scale; the zero point follows.
_SCALE = {"QuantizeLinear": 1, "QLinearConv": 6, "QLinearMatMul": 6, "QGemm": 7}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bounds:
    """The values that a MAC layer may give. tensor: the name its int8 result has in the file; low, high (channels,)
    int8 along `axis` of it, or (1,) for all, as stored (uint8 minus 128)."""

    layer: str
    tensor: str
    axis: int
    low: Int8 = field(repr=False)
    high: Int8 = field(repr=False)

    @property
    def share(self) -> float:
        """Of the 256 values of an int8, how much is left, the mean over the channels."""
        return float((self.high.astype(np.int64) - self.low + 1).mean()) / 256

    @property
    def stored_bytes(self) -> int:
        """That hold the bounds; 0 where they leave out nothing, as then there are none in the file."""
        return len(self.low) + len(self.high) if self.restricts else 0

    @property
    def restricts(self) -> bool:
        """Is any value left out?"""
        return bool((self.low > -128).any() or (self.high < 127).any())

    def to_json(self) -> dict[str, Any]:
        """With share and stored_bytes."""
        facts = {"layer": self.layer, "tensor": self.tensor, "share": self.share}
        return facts | {
            "stored_bytes": self.stored_bytes,
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }


def file_tensor(network: Network, layer: MacLayer) -> QTensor | None:
    """The int8 tensor that a layer's result has in the file, behind its activation: None where its sums are the result,
    or the file computes it in a function."""
    written = _written(network.original)
    at: int | str | None = layer.target
    while isinstance(at, int):
        tensor = network.graph.tensors[at]
        if tensor.name in written:
            return tensor
        at = _only_follower(network.graph, at)
    return None


def _written(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node if node.op_type in _SCALE for name in node.output}


def _only_follower(graph: QuantGraph, tensor: int) -> int | None:
    """What becomes of a tensor that one table or movement alone reads."""
    readers = [op for op in graph.readers.get(tensor, []) if not isinstance(op, HostOp)]
    return readers[0].target if len(readers) == 1 and isinstance(readers[0], TableOp | MoveOp) else None


def restricted(model: onnx.ModelProto, graph: QuantGraph, bounds: Sequence[Bounds]) -> onnx.ModelProto:
    """A copy of `model`, of which `graph` was read, that keeps to the bounds.

    Raises UnsupportedModel for operators from before opset 11, and for a tensor that a function of the model computes.
    """
    version = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)
    if version < _OPSET:
        raise UnsupportedModel(
            f"a model of opset {version}; allowed: {_OPSET} or newer, whose Clip takes bounds. Convert it: "
            f"onnx.version_converter.convert_version(model, {_OPSET})."
        )
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    wanted = {each.tensor: each for each in bounds if each.restricts}
    hidden = sorted(wanted.keys() - _written(model))
    if hidden:
        raise UnsupportedModel(
            f"tensor {hidden[0]!r} is computed in a function of the model; allowed: bounds in its graph. Inline it: "
            "onnx.inliner.inline_local_functions(model)."
        )
    names = _Names(copy.graph)
    nodes: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        found = [name for name in node.output if name in wanted]
        nodes.append(node)
        if found:
            tensor = graph.tensors[graph.index[found[0]]]
            nodes += _clipped(node, wanted[found[0]], tensor, names, copy.graph.initializer)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


class _Names:
    """Names of a graph, and new ones."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.taken = {value.name for value in (*graph.input, *graph.initializer)}
        self.taken |= {name for node in graph.node for name in (*node.output, node.name)}

    def fresh(self, name: str) -> str:
        while name in self.taken:
            name += "'"
        self.taken.add(name)
        return name


def _clipped(
    node: onnx.NodeProto, bounds: Bounds, tensor: QTensor, names: _Names, initializers: Any
) -> Iterator[onnx.NodeProto]:
    """What comes behind the node that writes a tensor, which from now on is written under another name."""
    at = _SCALE[node.op_type]
    how = [name for name in node.input[at : at + 2] if name]
    inside, real, high = (names.fresh(f"{bounds.tensor}/{part}") for part in ("unrestricted", "real", "high"))
    node.output[list(node.output).index(bounds.tensor)] = inside
    domain = node.domain if node.op_type == "QuantizeLinear" else ""
    quantise = helper.make_node("QuantizeLinear", [high, *how], [bounds.tensor], domain=domain)
    if node.op_type == "QuantizeLinear":
        quantise.attribute.extend(node.attribute)
    limits = []
    for name, stored in (("low", bounds.low), ("high", bounds.high)):
        limit = names.fresh(f"{bounds.tensor}/{name}_bound")
        initializers.append(numpy_helper.from_array(_real(stored, tensor, bounds.axis), limit))
        limits.append(limit)
    if len(bounds.low) == 1:
        clips = [helper.make_node("Clip", [real, *limits], [high])]
    else:
        low = names.fresh(f"{bounds.tensor}/low")
        clips = [
            helper.make_node("Max", [real, limits[0]], [low]),
            helper.make_node("Min", [low, limits[1]], [high]),
        ]
    for new in (
        helper.make_node("DequantizeLinear", [inside, *how], [real], domain=domain),
        *clips,
        quantise,
    ):
        new.name = names.fresh(f"{bounds.layer}/{new.op_type}")
        yield new


def _real(stored: Int8, tensor: QTensor, axis: int) -> npt.NDArray[np.float32]:
    """Bounds as real numbers, as DequantizeLinear computes them: a scalar, or shaped to stand along an axis."""
    real = tensor.real(stored)
    if len(stored) == 1:
        return real.reshape(())
    return real.reshape([-1 if place == axis else 1 for place in range(len(tensor.shape))])
