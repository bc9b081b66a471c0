"""An ONNX file, in QDQ or QOperator form, to the frozen integer network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from emulator.errors import UnsupportedModel
from emulator.graph.lowering import MacNode, lower, window_of
from emulator.graph.movement import MOVEMENT, origins, pad_values
from emulator.graph.nodes import (
    attributes_of,
    batch_one,
    constant_behind,
    dequantise_node,
    in_float_island,
    names_of,
    no_mac_layer_reason,
    protos_of,
    quantise_node,
    signed_weight,
    source_is_quantised,
    unsupported_reason,
    where_is,
)
from emulator.graph.qgraph import (
    AveragePoolOp,
    GlobalAveragePoolOp,
    MaxPoolOp,
    MoveOp,
    Op,
    PairTableOp,
    QTensor,
    QuantGraph,
    TableOp,
)
from emulator.graph.qlinear import to_qlinear
from emulator.graph.session import open_session, with_outputs
from emulator.graph.tables import ELEMENTWISE, pair_table, unary_table

_QUANTISED = (ir.DataType.INT8, ir.DataType.UINT8)


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


def load(path: str | Path) -> Network:
    """Read a quantised ONNX model; raises UnsupportedModel naming the node, why, and what to do."""
    file = Path(path)
    if not file.is_file():
        raise UnsupportedModel(f"model {str(path)!r} is not a file; allowed: an ONNX file. Check the path.")
    data = file.read_bytes()
    try:
        original = onnx.load_model_from_string(data)
        onnx.checker.check_model(original)
        reference = ir.serde.to_proto(to_qlinear(ir.serde.from_proto(original)))
    except UnsupportedModel:
        raise
    except Exception as error:  # protobuf, checker and onnx_ir each have their own error classes
        reason = " ".join(str(error).split())[:300]
        raise UnsupportedModel(
            f"model {str(path)!r} can't be read as ONNX: {reason or type(error).__name__}. Export it again."
        ) from error
    try:
        graph = _Importer(reference, file.stem).graph()
    except (ValueError, KeyError, IndexError) as error:  # what a damaged constant or attribute ends in
        raise UnsupportedModel(
            f"model {str(path)!r} contradicts itself ({type(error).__name__}: {error}). Export it again."
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    return Network(
        graph=graph, reference=reference, original=original, path=str(file.resolve()), sha256=digest
    )


class _Importer:
    """Walks the QLinear form once, in order; each quantised tensor becomes a QTensor."""

    def __init__(self, reference: onnx.ModelProto, name: str) -> None:
        self.name = name
        self.reference = reference
        model = ir.serde.from_proto(reference)
        self.nodes = model.graph
        self.opsets = list(reference.opset_import)
        self.constants = {
            key: value.const_value.numpy()
            for key, value in model.graph.initializers.items()
            if value.const_value is not None
        }
        for node in model.graph:
            if node.op_type == "Constant" and "value" in node.attributes:
                self.constants[str(node.outputs[0].name)] = node.attributes["value"].value.numpy()
            if node.op_type == "DequantizeLinear" and names_of(node.inputs) <= self.constants.keys():
                self.constants[str(node.outputs[0].name)] = constant_behind(node, self.constants)
        self.tensors: list[QTensor] = []
        self.index: dict[str, int] = {}
        self.ops: list[Op] = []
        self.shapes = self._probe(model.graph)

    # ---- the whole

    def graph(self) -> QuantGraph:
        for node in self.nodes:
            self._import_node(node)
        output_name = str(self.nodes.outputs[0].name)
        output = self._answer(self.nodes.outputs[0])
        graph = QuantGraph(
            name=self.name,
            input_name=str(self.nodes.inputs[0].name),
            input=0,
            output_name=output_name,
            output=output,
            tensors=tuple(self.tensors),
            ops=tuple(self.ops),
        )
        if not graph.layers:
            raise UnsupportedModel(no_mac_layer_reason(self.name, self.nodes))
        return graph

    def _probe(self, graph: ir.Graph) -> dict[str, tuple[int, ...]]:
        """The shape of every quantised tensor at batch 1, from one run of the reference on zeros."""
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise UnsupportedModel(
                f"model {self.name!r} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; "
                "allowed: one of each. Cut the model to one input and one answer."
            )
        source = graph.inputs[0]
        if source.dtype != ir.DataType.FLOAT:
            raise UnsupportedModel(
                f"input {source.name!r} is {source.dtype}; allowed: float32 followed by QuantizeLinear."
            )
        shape = [batch_one(source, axis) for axis in range(len(source.shape or ()))]
        names = [str(v.name) for node in graph for v in node.outputs if self._is_quantised(node)]
        if not names:
            raise UnsupportedModel(no_mac_layer_reason(self.name, graph))
        session = open_session(with_outputs(self.reference, names))
        feeds = {str(source.name): np.zeros(shape, np.float32)}
        try:
            values = session.run(names, feeds)
        except Exception as error:  # ONNX Runtime finds contradictions between nodes only when it runs them
            reason = " ".join(str(error).split())[:400]
            raise UnsupportedModel(f"ONNX Runtime can't run the model: {reason}. Export it again.") from error
        return {name: value.shape for name, value in zip(names, values, strict=True)}

    def _is_quantised(self, node: ir.Node) -> bool:
        if node.op_type == "QuantizeLinear" or node.op_type.startswith(("QLinear", "QGemm")):
            return True
        return node.op_type in MOVEMENT | {"MaxPool"} and source_is_quantised(node)

    # ---- tensors

    def _add_tensor(self, name: str, scale: float, zero_point: npt.NDArray[Any], where: str) -> int:
        if zero_point.dtype not in (np.int8, np.uint8):
            raise UnsupportedModel(
                f"{where}: tensor {name!r} is quantised to {zero_point.dtype}; allowed: int8, uint8. "
                "Quantise activations to 8 bits."
            )
        shape = self.shapes[name]
        if not shape or shape[0] != 1:
            raise UnsupportedModel(
                f"{where}: tensor {name!r} has shape {shape} at batch 1; allowed: a leading dimension of 1. "
                "Keep the batch dimension first."
            )
        if not (np.isfinite(scale) and scale > 0):
            raise UnsupportedModel(
                f"{where}: tensor {name!r} has scale {scale}; allowed: above 0. Quantise again."
            )
        offset = 128 if zero_point.dtype == np.uint8 else 0
        tensor = QTensor(
            name=name,
            shape=tuple(self.shapes[name]),
            scale=scale,
            zero_point=int(zero_point.reshape(-1)[0]) - offset,
            offset=offset,
        )
        self.index[name] = len(self.tensors)
        self.tensors.append(tensor)
        return self.index[name]

    def _constant(self, node: ir.Node, position: int) -> npt.NDArray[Any]:
        value = node.inputs[position] if position < len(node.inputs) else None
        name = str(value.name) if value is not None else ""
        if name not in self.constants:
            raise UnsupportedModel(
                f"{node.op_type} (node {node.name!r}): input {position} ({name!r}) is not a constant; allowed: "
                "weights, scales and zero points stored in the file. Fold constants before quantising."
            )
        return self.constants[name]

    def _scalar(self, node: ir.Node, position: int) -> float:
        values = self._constant(node, position)
        if values.size != 1:
            raise UnsupportedModel(
                f"{node.op_type} (node {node.name!r}): {values.size} activation scales; allowed: one. "
                "Quantise activations per tensor."
            )
        return float(values.reshape(-1)[0])

    def _source(self, node: ir.Node, position: int = 0) -> int:
        value = node.inputs[position]
        name = str(value.name) if value is not None else ""
        if name not in self.index:
            raise UnsupportedModel(
                f"{node.op_type} (node {node.name!r}): input {name!r} is not a quantised tensor; allowed: "
                "tensors between QuantizeLinear and DequantizeLinear. Quantise the whole path to it."
            )
        self._agree(node, position, self.tensors[self.index[name]])
        return self.index[name]

    def _agree(self, node: ir.Node, position: int, tensor: QTensor) -> None:
        """Who reads a tensor must read it with the scale and zero point it was written with."""
        if node.op_type != "DequantizeLinear" and not node.op_type.startswith(("QLinear", "QGemm")):
            return
        scale = self._scalar(node, position + 1)
        zero_point = int(self._constant(node, position + 2).reshape(-1)[0]) - tensor.offset
        if (scale, zero_point) != (tensor.scale, tensor.zero_point):
            raise UnsupportedModel(
                f"{where_is(node)} reads {tensor.name!r} with scale {scale:.6g} and zero point "
                f"{zero_point + tensor.offset}, written with {tensor.scale:.6g} and "
                f"{tensor.zero_point + tensor.offset}; allowed: the same. Quantise the model again."
            )

    def _target(self, node: ir.Node, scale_at: int) -> int:
        scale, zero_point = self._scalar(node, scale_at), self._constant(node, scale_at + 1)
        return self._add_tensor(str(node.outputs[0].name), scale, zero_point, where_is(node))

    def _same_quantisation(self, node: ir.Node, source: int) -> int:
        like = self.tensors[source]
        name = str(node.outputs[0].name)
        zero_point = np.array(like.zero_point + like.offset, np.uint8 if like.offset else np.int8)
        return self._add_tensor(name, like.scale, zero_point, where_is(node))

    # ---- operators

    def _import_node(self, node: ir.Node) -> None:
        handler = _HANDLERS.get(node.op_type)
        if handler is not None:
            handler(self, node)
        elif node.op_type in MOVEMENT | {"MaxPool"} and source_is_quantised(node):
            source = self._source(node)
            self._island([node], source, self._same_quantisation(node, source), str(node.inputs[0].name))  # type: ignore[union-attr]
        elif node.op_type not in ("DequantizeLinear", "Constant") and not in_float_island(node):
            raise UnsupportedModel(unsupported_reason(node))

    def _import_quantize(self, node: ir.Node) -> None:
        value = node.inputs[0]
        assert value is not None
        if value.is_graph_input():
            self._import_input(node)
            return
        chain, start = self._float_chain(node)
        source = self._source(start)
        target = self._target(node, 1)
        self._island(chain, source, target, str(start.outputs[0].name))

    def _import_input(self, node: ir.Node) -> None:
        """QuantizeLinear of the graph input; a second one must say the same, and then is the same tensor."""
        if not self.tensors:
            self._target(node, 1)
            return
        first = self.tensors[0]
        scale, zero_point = self._scalar(node, 1), int(self._constant(node, 2).reshape(-1)[0]) - first.offset
        if (scale, zero_point) != (first.scale, first.zero_point):
            raise UnsupportedModel(
                f"{where_is(node)} quantises the input again, differently; allowed: one quantisation of the input."
            )
        self.index[str(node.outputs[0].name)] = 0

    def _float_chain(self, quantise: ir.Node) -> tuple[list[ir.Node], ir.Node]:
        """The float operators from a DequantizeLinear (excluded) to `quantise` (excluded), in order."""
        chain: list[ir.Node] = []
        value = quantise.inputs[0]
        while value is not None:
            node = value.producer()
            if node is None:
                break
            if node.op_type == "DequantizeLinear":
                return chain, node
            if node.op_type not in ELEMENTWISE | MOVEMENT | {"MaxPool"}:
                raise UnsupportedModel(unsupported_reason(node))
            others = [v for v in node.inputs[1:] if v is not None and str(v.name) not in self.constants]
            if others:
                raise UnsupportedModel(unsupported_reason(node))
            chain.insert(0, node)
            value = node.inputs[0]
        raise UnsupportedModel(
            f"QuantizeLinear (node {quantise.name!r}) is not fed by a quantised tensor; allowed: the graph input or "
            "a DequantizeLinear before it. Quantise the whole model."
        )

    def _island(self, chain: Sequence[ir.Node], source: int, target: int, feed: str) -> None:
        """A chain of one-input operators between two quantised tensors: pools, movement and one table.

        Max pooling and movement commute with a table, and the maximum with a monotone one, so the chain becomes
        movement and pools on integers, then the table of everything else.
        """
        moving = [node for node in chain if node.op_type in MOVEMENT]
        pools = [node for node in chain if node.op_type == "MaxPool"]
        if pools and len(chain) > 1:
            raise UnsupportedModel(unsupported_reason(pools[0]))
        first_table = min(
            (i for i, node in enumerate(chain) if node.op_type in ELEMENTWISE), default=len(chain)
        )
        # The table comes last here, so what a Pad fills in would go through it.
        if any(node.op_type == "Pad" for node in chain[first_table:]):
            raise UnsupportedModel(unsupported_reason(chain[first_table]))
        table = self._island_table(chain, source, target, feed)
        identity = bool(np.array_equal(table, np.arange(-128, 128)))
        where = chain[-1].name or self.tensors[target].name if chain else self.tensors[target].name
        if not pools and not moving:
            self.ops.append(TableOp(name=str(where), source=source, target=target, table=table))
            return
        middle = target if identity else self._hidden_tensor(source, target)
        if pools:
            shape, out = self.tensors[source].shape, self.tensors[target].shape
            window = window_of(attributes_of(pools[0]), shape, out, where_is(pools[0]))
            self.ops.append(MaxPoolOp(name=str(where), source=source, target=middle, window=window))
        else:
            self.ops.append(self._move(moving, source, target, middle, str(where), table))
        if middle != target:
            self.ops.append(TableOp(name=f"{where}/requantise", source=middle, target=target, table=table))

    def _island_table(
        self, chain: Sequence[ir.Node], source: int, target: int, feed: str
    ) -> npt.NDArray[np.int8]:
        """DequantizeLinear, the elementwise nodes, QuantizeLinear, on the 256 codes of the source."""
        if not any(node.op_type in ELEMENTWISE for node in chain) and feed == self.tensors[source].name:
            return np.arange(-128, 128, dtype=np.int16).astype(np.int8)  # integers moved as they are
        begin, end = self.tensors[source], self.tensors[target]
        nodes = [dequantise_node(begin, "real")]
        value = "real"
        for node in chain:
            if node.op_type in ELEMENTWISE:
                proto = ir.serde.to_proto(node)
                proto.input[0] = value
                nodes.append(proto)
                value = proto.output[0]
        nodes.append(quantise_node(end, value))
        return unary_table(nodes, begin, end, self._island_constants(begin, end, chain), self.opsets)

    def _island_constants(
        self, begin: QTensor, end: QTensor, chain: Sequence[ir.Node]
    ) -> dict[str, npt.NDArray[Any]]:
        used = {str(v.name) for node in chain for v in node.inputs if v is not None}
        found = {name: self.constants[name] for name in used & self.constants.keys()}
        for tensor, tag in ((begin, "begin"), (end, "end")):
            kind = np.uint8 if tensor.offset else np.int8
            found[f"{tag}_scale"] = np.array(tensor.scale, np.float32)
            found[f"{tag}_zero"] = np.array(tensor.zero_point + tensor.offset, kind)
        return found

    def _hidden_tensor(self, source: int, target: int) -> int:
        """A tensor the ONNX file does not name: moved, not yet requantised."""
        like, shape = self.tensors[source], self.tensors[target].shape
        name = f"{self.tensors[target].name}/moved"
        self.tensors.append(
            QTensor(name=name, shape=shape, scale=like.scale, zero_point=like.zero_point, offset=like.offset)
        )
        return len(self.tensors) - 1

    def _move(
        self,
        moving: Sequence[ir.Node],
        source: int,
        target: int,
        middle: int,
        where: str,
        table: npt.NDArray[np.int8],
    ) -> MoveOp:
        protos = protos_of(moving)
        for before, after in pairwise(protos):
            after.input[0] = before.output[0]
        used = {name for proto in protos for name in proto.input}
        constants = {name: self.constants[name] for name in used & self.constants.keys()}
        begin = self.tensors[source]
        origin = origins(
            protos,
            begin,
            protos[0].input[0],
            protos[-1].output[0],
            self.tensors[target],
            constants,
            self.opsets,
        )
        return MoveOp(
            name=where, source=source, target=middle, origin=origin, fill=self._fill(protos, begin, origin)
        )

    def _fill(self, protos: Sequence[onnx.NodeProto], begin: QTensor, origin: npt.NDArray[np.int32]) -> int:
        """The stored value that a Pad writes, in the quantisation of the tensor it pads."""
        if not (origin < 0).any():
            return 0
        names = pad_values(protos)
        if sum(proto.op_type == "Pad" for proto in protos) > 1:
            raise UnsupportedModel(
                f"{protos[0].op_type} (node {protos[0].name!r}): two Pads in a row; allowed: one."
            )
        if protos[0].input[0] == begin.name:  # integers, padded with an integer
            return (int(self.constants[names[0]].reshape(-1)[0]) if names else 0) - begin.offset
        real = float(self.constants[names[0]].reshape(-1)[0]) if names else 0.0
        code = np.rint(np.float32(real) / np.float32(begin.scale)) + begin.zero_point
        if abs(begin.real(np.array([code]).astype(np.int8))[0] - real) > 1e-6 * max(1.0, abs(real)):
            raise UnsupportedModel(
                f"Pad (node {protos[0].name!r}) fills with {real}, which {begin.name!r} can't represent exactly; "
                "allowed: a representable value such as 0."
            )
        return int(code)

    def _import_mac(self, node: ir.Node) -> None:
        gemm = node.op_type == "QGemm"
        source = self._source(node)
        target = self._target(node, 7 if gemm else 6)
        weight, scale, zero_point = (self._constant(node, i) for i in (3, 4, 5))
        bias_at = 6 if gemm else 8
        has_bias = (
            node.op_type != "QLinearMatMul"
            and len(node.inputs) > bias_at
            and node.inputs[bias_at] is not None
        )
        decoded = MacNode(
            name=node.name or self.tensors[target].name,
            op=node.op_type,
            source=source,
            target=target,
            weight=signed_weight(weight, zero_point, where_is(node)),
            weight_scale=_positive(scale, where_is(node)),
            bias=self._constant(node, bias_at) if has_bias else None,
            attributes=attributes_of(node),
        )
        self.ops.append(lower(decoded, self.tensors[source], self.tensors[target]))

    def _import_pair(self, node: ir.Node) -> None:
        left, right, target = self._source(node, 0), self._source(node, 3), self._target(node, 6)
        if self.tensors[left].shape != self.tensors[right].shape:
            raise UnsupportedModel(
                f"{where_is(node)}: operands of shapes {self.tensors[left].shape} and {self.tensors[right].shape}; "
                "allowed: equal shapes. Expand the smaller one before quantising."
            )
        constants = {
            str(v.name): self._constant(node, i) for i, v in enumerate(node.inputs) if v and i not in (0, 3)
        }
        table = pair_table(
            ir.serde.to_proto(node),
            constants,
            self.opsets,
            left=self.tensors[left],
            right=self.tensors[right],
            target=self.tensors[target],
        )
        self.ops.append(PairTableOp(name=str(node.name), left=left, right=right, target=target, table=table))

    def _import_average_pool(self, node: ir.Node) -> None:
        source, target = self._source(node), self._target(node, 3)
        attributes = attributes_of(node)
        window = window_of(attributes, self.tensors[source].shape, self.tensors[target].shape, where_is(node))
        if attributes.get("ceil_mode", 0) or attributes.get("channels_last", 0):
            raise UnsupportedModel(
                f"{where_is(node)}: ceil_mode or channels_last set; allowed: 0. Export without."
            )
        whole = window.kernel == (window.height, window.width)
        # With auto_pad a window of this size is padded unless there is but one.
        if whole and window.out_height * window.out_width == 1 and not any(attributes.get("pads", ())):
            # A window over the whole image is what ONNX Runtime computes as a global pool, in integers.
            self._add_global_average_pool(node, source, target)
            return
        include = bool(attributes.get("count_include_pad", 0))
        self.ops.append(
            AveragePoolOp(
                name=str(node.name), source=source, target=target, window=window, count_include_pad=include
            )
        )

    def _import_global_average_pool(self, node: ir.Node) -> None:
        self._add_global_average_pool(node, self._source(node), self._target(node, 3))

    def _add_global_average_pool(self, node: ir.Node, source: int, target: int) -> None:
        begin, end = self.tensors[source], self.tensors[target]
        channels = begin.shape[1]
        positions = begin.size // channels
        scale = np.float32(begin.scale) / (np.float32(end.scale) * np.float32(positions))
        self.ops.append(
            GlobalAveragePoolOp(
                name=str(node.name),
                source=source,
                target=target,
                positions=positions,
                channels=channels,
                scale=float(scale),
            )
        )

    def _answer(self, output: ir.Value) -> int:
        node = output.producer()
        if str(output.name) in self.index:
            return self.index[str(output.name)]
        if node is None or node.op_type != "DequantizeLinear":
            raise UnsupportedModel(
                f"output {output.name!r} comes from {node.op_type if node else 'nothing'}, in float; allowed: a "
                "quantised answer (DequantizeLinear last). Quantise the last operator too, or cut what follows."
            )
        return self._source(node)


def _positive(scale: npt.NDArray[Any], where: str) -> npt.NDArray[np.float32]:
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise UnsupportedModel(f"{where}: a weight scale is zero, negative or not finite; allowed: above 0.")
    return scale.reshape(-1)


_HANDLERS: dict[str, Callable[[_Importer, ir.Node], None]] = {
    "QuantizeLinear": _Importer._import_quantize,
    "QLinearConv": _Importer._import_mac,
    "QGemm": _Importer._import_mac,
    "QLinearMatMul": _Importer._import_mac,
    "QLinearAdd": _Importer._import_pair,
    "QLinearMul": _Importer._import_pair,
    "QLinearAveragePool": _Importer._import_average_pool,
    "QLinearGlobalAveragePool": _Importer._import_global_average_pool,
}
