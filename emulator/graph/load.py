"""From an ONNX file to a network that can be run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes import Sequential
from onnx_ir.passes.common import InlinePass, RemoveInitializersFromInputsPass

from emulator.errors import UnsupportedModel
from emulator.graph.feeds import Data, fixed_shapes
from emulator.graph.onnx_file import read_onnx
from emulator.graph.onnx_import import integer_graph
from emulator.graph.qgraph import QuantGraph
from emulator.graph.qlinear import to_qlinear
from emulator.graph.quantize import quantize
from emulator.notebook import titled_table

# Before it, initializers had to be inputs, and there were no functions.
_IR_VERSION = 8

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """A loaded model: the integer graph, the QLinear form it equals, the file as it was, its hash, and the shapes and
    the answer that were asked for."""

    graph: QuantGraph
    reference: onnx.ModelProto
    original: onnx.ModelProto
    path: str
    sha256: str
    shapes: Shapes = field(default_factory=dict, repr=False)
    answer: str | None = None

    def settings(self) -> dict[str, Any]:
        """What identifies it in a manifest: the content and how it was read; the path is for people."""
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        return {
            "name": self.graph.name, "path": self.path, "sha256": self.sha256, "shapes": shapes, "answer": self.answer,
        }  # fmt: skip

    def __repr__(self) -> str:
        graph = self.graph
        return f"Network({graph.name!r}, {len(graph.layers)} MAC layers, {graph.macs:,} MACs)"

    def _repr_html_(self) -> str:
        rows = [
            (
                f"{i} {layer.name}",
                layer.op,
                *(getattr(layer.shape, key) for key in ("m", "k", "n", "groups", "macs")),
            )
            for i, layer in enumerate(self.graph.layers)
        ]
        return titled_table(repr(self), ["layer", "op", "m", "k", "n", "groups", "MACs"], rows)


def load(
    path: str | Path,
    *,
    shapes: Shapes | None = None,
    answer: str | None = None,
    calibrate: Data | None = None,
) -> Network:
    """Read an ONNX model; a fixed batch becomes 1 where the model allows it.

    shapes: of inputs, where the file leaves dimensions free. answer: the output that is the answer, by default the
    first of several real numbers. calibrate: inputs with which a float model is quantised first (see `quantize`:
    campaigns that are to be replayed need its file). Raises UnsupportedModel naming the node, why, and what to do.
    """
    file = Path(path)
    model, digest = read_onnx(file)
    if calibrate is not None:
        model = quantize(fixed_shapes(model, shapes or {}), calibrate)
        digest = hashlib.sha256(model.SerializeToString()).hexdigest()
    return network_of(model, file, sha256=digest, shapes=shapes, answer=answer)


def network_of(
    model: onnx.ModelProto,
    file: Path,
    *,
    sha256: str = "",
    shapes: Shapes | None = None,
    answer: str | None = None,
) -> Network:
    """The network of a model in memory, named after `file`; raises what `load` raises."""
    try:
        graph, reference, original = _network(model, file.stem, shapes or {}, answer)
    except UnsupportedModel as error:
        stranger = _foreign_node(model)
        if stranger is None or "ONNX Runtime" not in str(error):
            raise
        raise UnsupportedModel(
            f"model {str(file)!r}: {stranger.op_type} (node {stranger.name!r}) is of domain {stranger.domain!r}, which "
            "ONNX Runtime does not have; allowed: standard operators and com.microsoft's. Convert the model to QDQ "
            "(for QONNX: qonnx-convert --output-style qcdq)."
        ) from error
    except Exception as error:  # checker, shape inference and onnx_ir each have their own for a damaged file
        reason = " ".join(str(error).split())[:300]
        raise UnsupportedModel(
            f"model {str(file)!r} can't be understood ({type(error).__name__}: {reason}). Export it again."
        ) from error
    return Network(
        graph=graph,
        reference=reference,
        original=original,
        path=str(file.resolve()),
        sha256=sha256,
        shapes=shapes or {},
        answer=answer,
    )


def _network(
    original: onnx.ModelProto, name: str, shapes: Shapes, answer: str | None
) -> tuple[QuantGraph, onnx.ModelProto, onnx.ModelProto]:
    """(integer graph, QLinear form, the model it was made from)."""
    onnx.checker.check_model(original)
    model = _opened(original)
    _fix_shapes(model.graph, shapes)
    batch = _fixed_batch(model.graph)
    if batch > 1 and not shapes:
        single = _opened(original)
        _fix_shapes(single.graph, {str(v.name): (1, *_rest(v)) for v in single.graph.inputs})
        try:
            return *_integer(single, name, answer), ir.serde.to_proto(single)
        except UnsupportedModel:
            pass  # a batch that is part of the network: taken as it is
    return *_integer(model, name, answer), original


def _opened(original: onnx.ModelProto) -> ir.Model:
    """The model without functions of its own, whose operators may be called like any other, and without defaults of
    inputs, which are its weights in files of before 2019."""
    plain = Sequential(RemoveInitializersFromInputsPass(), InlinePass())(ir.serde.from_proto(original)).model
    plain.ir_version = max(plain.ir_version, _IR_VERSION)
    return plain


def _integer(model: ir.Model, name: str, answer: str | None) -> tuple[QuantGraph, onnx.ModelProto]:
    # onnx's own inference: onnx_ir's pass makes tensors of sequences.
    inferred = onnx.shape_inference.infer_shapes(ir.serde.to_proto(model), data_prop=True)
    reference = ir.serde.to_proto(to_qlinear(ir.serde.from_proto(inferred)))
    return integer_graph(reference, name, answer), reference


def _foreign_node(model: onnx.ModelProto) -> onnx.NodeProto | None:
    """A node of a domain that neither the standard, ONNX Runtime nor the file itself defines."""
    own = {function.domain for function in model.functions}
    nodes: list[onnx.NodeProto] = list(model.graph.node)
    for node in nodes:
        known = node.domain in own or node.domain.startswith(("ai.onnx", "com.microsoft", "com.ms.internal"))
        if node.domain and not known:
            return node
    return None


def _fixed_batch(graph: ir.Graph) -> int:
    """The first dimension of all inputs, 1 where they differ."""
    sizes = {
        value.shape[0] if value.shape is not None and len(value.shape) > 1 else 1 for value in graph.inputs
    }
    size = sizes.pop() if len(sizes) == 1 else 1
    return size if isinstance(size, int) else 1


def _rest(value: ir.Value) -> tuple[int, ...]:
    assert value.shape is not None
    return tuple(int(size) for size in value.shape.dims[1:] if isinstance(size, int))


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
    # What was written down for other shapes is no longer true.
    for node in graph:
        for output in node.outputs:
            output.shape = None
