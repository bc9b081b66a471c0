"""The integer graph under construction: tensors made when somebody asks for them, operators as the file has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from emulator.graph.probe import Probe
from emulator.graph.qgraph import ElementOp, MacLayer, MoveOp, QTensor
from emulator.graph.session import Arrays, run_nodes
from emulator.graph.wide import OFFSETS, signed_zero

Array = npt.NDArray[Any]

# Where operators keep the scale and zero point of their output.
_OUTPUT_SCALE = {
    "QuantizeLinear": 1,
    "QLinearConv": 6,
    "QLinearMatMul": 6,
    "QGemm": 7,
    "QLinearAdd": 6,
    "QLinearMul": 6,
    "QLinearConcat": 0,
    "QLinearAveragePool": 3,
    "QLinearGlobalAveragePool": 3,
    "QLinearSigmoid": 3,
    "QLinearLeakyRelu": 3,
    "QLinearSoftmax": 3,
}
_SPATIAL = frozenset(
    ("QLinearConv", "ConvInteger", "MaxPool", "QLinearAveragePool", "QLinearGlobalAveragePool")
)
# What may stand between a convolution and the tensor that its bounded result is.
_BOUNDS = frozenset("DequantizeLinear Relu Clip Max Min QuantizeLinear".split())


class HostOnly(Exception):
    """Why a node is left to ONNX Runtime."""


class GraphBuilder:
    """What handlers work with. tensors: as handlers asked for them; ops: in the order of the file."""

    def __init__(self, graph: ir.Graph, probe: Probe, opsets: Sequence[onnx.OperatorSetIdProto]) -> None:
        self.probe = probe
        self.opsets = list(opsets)
        self.tensors: list[QTensor] = []
        self.index: dict[str, int] = {}
        self.ops: list[MacLayer | ElementOp] = []
        self._producers = {str(value.name): node for node in graph for value in node.outputs}
        self._spatial = _spatial_names(graph)
        self._laid: dict[tuple[int, bool], int] = {}

    # ---- what a handler began and gave up

    def mark(self) -> tuple[int, int]:
        """How much there is now, for `back_to`."""
        return len(self.tensors), len(self.ops)

    def back_to(self, mark: tuple[int, int]) -> None:
        """Forget the tensors and operators made since."""
        tensors, ops = mark
        del self.tensors[tensors:], self.ops[ops:]
        self.index = {name: i for name, i in self.index.items() if i < tensors}
        self._laid = {key: i for key, i in self._laid.items() if i < tensors}

    # ---- questions

    def name(self, node: ir.Node, position: int) -> str:
        """The name of an input, "" where there is none."""
        value = node.inputs[position] if position < len(node.inputs) else None
        return "" if value is None else str(value.name)

    def constant(self, node: ir.Node, position: int) -> Array:
        """A constant input; raises HostOnly for a computed one."""
        name = self.name(node, position)
        if name not in self.probe.constants:
            raise HostOnly(f"its input {name!r} is computed")
        return self.probe.constants[name]

    def optional(self, node: ir.Node, position: int) -> Array | None:
        return self.constant(node, position) if self.name(node, position) else None

    def rest_is_constant(self, node: ir.Node) -> bool:
        """Are all inputs but the first constant?"""
        names = [self.name(node, i) for i in range(1, len(node.inputs))]
        return all(name in self.probe.constants for name in names if name)

    def scalar(self, node: ir.Node, position: int) -> float:
        values = self.constant(node, position)
        if values.size != 1 or values.dtype != np.float32:
            raise HostOnly(f"its input {self.name(node, position)!r} is not one float32 scale")
        return float(values.reshape(-1)[0])

    def zero_point(self, node: ir.Node, position: int) -> int:
        """A constant zero point of one value, as stored."""
        name = self.name(node, position)
        if not name:
            return 0
        values = self.constant(node, position)
        if values.size != 1 or values.dtype not in (np.int8, np.uint8):
            raise HostOnly(f"its zero point {name!r} is not one 8-bit integer")
        return int(signed_zero(values)[0])

    def is_bytes(self, name: str) -> bool:
        return self.probe.is_bytes(name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.probe.shapes[name]

    def run_alone(
        self, nodes: Sequence[onnx.NodeProto], feeds: Arrays, output: str, constants: Arrays
    ) -> Array:
        """What ONNX Runtime makes of nodes on their own; raises HostOnly where they only run in their network."""
        try:
            return run_nodes(nodes, feeds, output, constants, self.opsets)
        except Exception as error:  # ONNX Runtime's, of many classes
            raise HostOnly("ONNX Runtime does not run it alone") from error

    # ---- tensors

    def tensor(self, name: str, *, like: int | None = None) -> int:
        """The tensor of a byte value. like: stored in the order of this one, where it is made now."""
        if name in self.index:
            return self.index[name]
        if not self.is_bytes(name):
            raise HostOnly(f"{name!r} is {self.probe.dtypes.get(name, 'no tensor')}, not int8 or uint8")
        shape = self.shape(name)
        if 0 in shape:
            raise HostOnly(f"{name!r} is empty")
        scale, zero_point = self.quantisation(name)
        last = name in self._spatial if like is None else self.tensors[like].channels_last
        made = QTensor(
            name=name,
            shape=shape,
            scale=scale,
            zero_point=zero_point,
            offset=OFFSETS.get(self.probe.dtypes[name], 0),
            channels_last=last and len(shape) > 2,
        )
        if name in self.probe.constants:
            stored = made.from_onnx(self.probe.constants[name])
            made = _replaced(made, constant=stored)
        return self._add(made)

    def hidden(self, name: str, like: int, shape: tuple[int, ...], *, channels_last: bool) -> int:
        """A tensor the file does not name, with the quantisation of `like`."""
        while name in self.index or name in self.probe.shapes:
            name += "'"
        changes = {"name": name, "shape": shape, "channels_last": channels_last, "constant": None}
        return self._add(_replaced(self.tensors[like], **changes))

    def in_order(self, index: int, *, channels_last: bool) -> int:
        """The tensor in this storage order, moved if need be."""
        tensor = self.tensors[index]
        wanted = channels_last and len(tensor.shape) > 2
        if tensor.channels_last == wanted:
            return index
        key = (index, wanted)
        if key not in self._laid:
            target = self.hidden(f"{tensor.name}/ordered", index, tensor.shape, channels_last=wanted)
            self._lay_over(f"{tensor.name}/ordered", index, target)
            self._laid[key] = target
        return self._laid[key]

    def written(self, target: int, *, channels_last: bool) -> int:
        """The tensor in this order that an operator writes for `target`; if another, it is moved there."""
        like = self.tensors[target]
        wanted = channels_last and len(like.shape) > 2
        if like.channels_last == wanted:
            return target
        source = self.hidden(f"{like.name}/produced", target, like.shape, channels_last=wanted)
        self._lay_over(f"{like.name}/ordered", source, target)
        return source

    def expanded(self, index: int, shape: tuple[int, ...], *, channels_last: bool) -> int:
        """The tensor broadcast to `shape`, in this storage order."""
        tensor = self.tensors[index]
        if tensor.shape == shape:
            return self.in_order(index, channels_last=channels_last)
        target = self.hidden(f"{tensor.name}/expanded", index, shape, channels_last=channels_last)
        self._lay_over(f"{tensor.name}/expanded", index, target)
        return target

    def move(self, name: str, source: int, target: int, origin: npt.NDArray[np.int32], fill: int = 0) -> None:
        """A movement that writes all of `target`."""
        place = np.arange(len(origin), dtype=np.int32)
        self.ops.append(
            MoveOp(name=name, source=source, target=target, place=place, origin=origin, fill=fill)
        )

    def _lay_over(self, name: str, source: int, target: int) -> None:
        """The values of one tensor in the storage order of another, broadcast to its shape."""
        begin, end = self.tensors[source], self.tensors[target]
        logical = begin.in_order(np.arange(begin.size, dtype=np.int32)[np.newaxis])[0]
        whole = np.broadcast_to(logical, end.shape)[np.newaxis]
        self.move(name, source, target, end.to_storage(whole)[0].astype(np.int32))

    def _add(self, tensor: QTensor) -> int:
        self.index[tensor.name] = len(self.tensors)
        self.tensors.append(tensor)
        return self.index[tensor.name]

    def quantisation(self, name: str) -> tuple[float, int]:
        """Scale and zero point, as stored, with which a byte value is written; 1 and 0 where nobody says."""
        offset = OFFSETS.get(self.probe.dtypes[name], 0)
        node = self._producers.get(name)
        at = _OUTPUT_SCALE.get(node.op_type) if node is not None else None
        if node is not None and at is not None:
            scale, zero = (self.probe.constants.get(self.name(node, at + i)) for i in (0, 1))
            if scale is not None and scale.size == 1 and (zero is None or zero.size == 1):
                code = 0 if zero is None else int(zero.reshape(-1)[0])
                return float(scale.reshape(-1)[0]), code - offset
        if node is not None and node.inputs and self.is_bytes(self.name(node, 0)):
            return self.quantisation(self.name(node, 0))
        return 1.0, -offset


def _replaced(tensor: QTensor, **changes: Any) -> QTensor:
    fields = {name: getattr(tensor, name) for name in QTensor.__slots__}
    return QTensor(**fields | changes)


def _spatial_names(graph: ir.Graph) -> set[str]:
    """Values that convolutions and pools read or write, and those that join or change them element by element."""
    found = {
        str(value.name)
        for node in graph
        if node.op_type in _SPATIAL
        for value in (*node.inputs[:1], *node.outputs)
        if value is not None
    }
    for node in graph:
        if node.op_type in ("QLinearAdd", "QLinearMul", "QLinearConcat"):
            inputs = {str(v.name) for v in node.inputs if v is not None}
            if inputs & found:
                found |= inputs | {str(value.name) for value in node.outputs}
        elif node.op_type in _BOUNDS and any(v is not None and v.name in found for v in node.inputs):
            found |= {str(value.name) for value in node.outputs}
    return found
