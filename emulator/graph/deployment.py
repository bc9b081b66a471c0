"""The original file as ONNX Runtime deploys it: which operators its optimiser made of which nodes, and every
quantised tensor that is still there."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from emulator.graph.load import Network
from emulator.graph.qgraph import QTensor, Sample
from emulator.graph.session import open_session, with_outputs

_FLOAT_MACS = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
_INTEGER = ("QLinear", "QGemm", "Nhwc", "QuantizeLinear", "MaxPool")
# What the layout optimiser adds to the name of a node to name its output.
_RENAMED = re.compile(r"_token_\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedTensor:
    """A quantised tensor and the deployed operator it comes from.

    operator: its type; fused: the nodes of the original file it stands for, `Conv conv1`; output: its name in the
    deployed graph; channels_last: its layout there; sources: the nearest tensors before it that can be compared too.
    """

    name: str
    operator: str
    fused: tuple[str, ...]
    output: str
    channels_last: bool
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deployment:
    """An optimised model. float_macs: (operator, node) of each matrix product that is computed in float."""

    model: onnx.ModelProto = field(repr=False)
    tensors: tuple[DeployedTensor, ...] = field(repr=False)
    float_macs: tuple[tuple[str, str], ...]
    session: Any = field(repr=False)

    def run(self, network: Network, inputs: Sequence[Sample]) -> dict[str, npt.NDArray[np.int8 | np.uint8]]:
        """(samples, *shape) of each tensor, in ONNX order and type."""
        if not self.tensors:
            return {}
        outputs = [tensor.output for tensor in self.tensors]
        rows = [self.session.run(outputs, network.graph.feeds(sample)) for sample in inputs]
        by_name = {tensor.name: tensor for tensor in network.graph.tensors}
        found = {
            deployed.name: _as_written(np.stack([row[i] for row in rows]), deployed, by_name[deployed.name])
            for i, deployed in enumerate(self.tensors)
        }
        # One that the optimiser left in another shape cannot be compared.
        return {name: values for name, values in found.items() if values.shape[1:] == by_name[name].shape}


def deploy(network: Network) -> Deployment:
    """Optimise the original file as ONNX Runtime does when it loads it, all optimisations on."""
    model = _optimised(network.original)
    found = _written(model, network)
    behind = _nearest_before(model, {tensor.output: tensor.name for tensor in found})
    tensors = tuple(
        replace(tensor, sources=tuple(sorted(behind[tensor.output] - {tensor.name}))) for tensor in found
    )
    layers = {layer.name for layer in network.graph.layers}
    float_macs = tuple(
        (node.op_type, node.name)
        for node in model.graph.node
        if node.op_type in _FLOAT_MACS and node.name in layers
    )
    # The graph is optimised already; reading its tensors must not change it again.
    session = open_session(with_outputs(model, [tensor.output for tensor in tensors])) if tensors else None
    return Deployment(model=model, tensors=tensors, float_macs=float_macs, session=session)


def _optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="emulator-deployed-") as folder:
        path = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(path)


def _written(model: onnx.ModelProto, network: Network) -> list[DeployedTensor]:
    """The quantised tensors that deployed operators write: under their own name or, where the optimiser renamed
    a tensor, known by the node it was made of, whose name the operator or its output still bears."""
    writers = {name: node for node in network.original.graph.node for name in node.output}
    islands = {t.name: _island(writers[t.name], writers) for t in network.graph.tensors if t.name in writers}
    by_node = {node.name: name for name, island in islands.items() for node in island if node.name}
    found: dict[str, DeployedTensor] = {}
    moved = _channels_last(model, {node.name for node in network.original.graph.node})
    for node in model.graph.node:
        output = node.output[0]
        name: str | None = output if output in islands else None
        if name is None and node.op_type.startswith(_INTEGER):
            name = by_node.get(node.name) or by_node.get(_RENAMED.sub("", output))
        if name is not None and name not in found:
            fused = tuple(f"{made.op_type} {made.name}" for made in islands[name])
            found[name] = DeployedTensor(
                name=name,
                operator=node.op_type,
                fused=fused,
                output=output,
                channels_last=output in moved,
            )
    return list(found.values())


def _island(writer: onnx.NodeProto, writers: dict[str, onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The node that writes a quantised tensor and, if that is QuantizeLinear, the float ones before it."""
    chain = [writer]
    while writer.op_type == "QuantizeLinear":
        before = writers.get(chain[0].input[0])
        if before is None or before.op_type in ("DequantizeLinear", "QuantizeLinear"):
            break
        chain.insert(0, before)
    return chain


def _nearest_before(model: onnx.ModelProto, known: dict[str, str]) -> dict[str, set[str]]:
    """For every tensor of the deployed graph the nearest tensors before it that are `known`."""
    nearest: dict[str, set[str]] = {}
    for node in model.graph.node:
        above: set[str] = set()
        for name in node.input:
            above |= {known[name]} if name in known else nearest.get(name, set())
        for name in node.output:
            nearest[name] = above
    return nearest


def _channels_last(model: onnx.ModelProto, original: set[str]) -> set[str]:
    """The tensors that the layout optimiser keeps channels last: from its Transpose on to the one back. original: nodes
    of the file, whose own Transposes are no matter of layout."""
    moved: set[str] = set()
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        perm = attributes.get("perm")
        if node.op_type == "Transpose" and perm is not None and node.name not in original:
            inside = _is_last(perm)
        elif node.op_type.startswith("Nhwc") or attributes.get("channels_last"):
            inside = True
        else:
            inside = any(name in moved for name in node.input)
        if inside:
            moved |= set(node.output)
    return moved


def _is_last(perm: list[int]) -> bool:
    """Is this (0, 2, 3, ..., 1)?"""
    return len(perm) > 2 and perm == [0, *range(2, len(perm)), 1]


def _as_written(
    values: npt.NDArray[Any], deployed: DeployedTensor, tensor: QTensor
) -> npt.NDArray[np.int8 | np.uint8]:
    """Undo what the optimiser does to a tensor: int8 moved to uint8, channels moved last."""
    if deployed.channels_last and values.ndim > 3:
        moved = np.moveaxis(values, -1, 2)
        values = moved if moved.shape[1:] == tensor.shape else values
    if values.dtype == np.uint8 and not tensor.offset:
        return (values.astype(np.int16) - 128).astype(np.int8)
    return values
