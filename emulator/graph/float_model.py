"""The float model beside its quantised form: which of its tensors each MAC layer stands for, and their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from emulator.errors import BadConfig
from emulator.graph.feeds import dimensions, model_inputs
from emulator.graph.load import Network
from emulator.graph.quantize import MACS, kind_of, read_model
from emulator.graph.session import open_session, with_outputs

FloatSource = str | Path | onnx.ModelProto

_ACTIVATIONS = {"Relu", "Clip"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FloatModel:
    """tensors: for each MAC layer of the network the float tensor it stands for, None where none was found.

    The activation that a quantised layer computes in its clip is taken with it.
    """

    tensors: tuple[str | None, ...]
    input_names: tuple[str, ...]
    output_name: str
    session: Any = field(repr=False)

    def run(
        self, feeds: Sequence[Mapping[str, npt.NDArray[Any]]]
    ) -> tuple[list[npt.NDArray[Any] | None], npt.NDArray[Any]]:
        """(samples, ...) of each MAC layer's tensor, and the answers (samples, classes). feeds: those of the network,
        in its order."""
        wanted = [*dict.fromkeys(name for name in self.tensors if name), self.output_name]
        named = [dict(zip(self.input_names, each.values(), strict=True)) for each in feeds]
        columns = [
            np.stack(column) for column in zip(*(self.session.run(wanted, f) for f in named), strict=True)
        ]
        values = dict(zip(wanted, columns, strict=True))
        return [values[name] if name else None for name in self.tensors], columns[-1].reshape(len(feeds), -1)


def match(float_model: FloatSource, network: Network) -> FloatModel:
    """Layers by the name of their node, else by their tensor's, else by position where both models have as many
    MAC nodes; raises BadConfig for a model that is not float, and where the inputs differ."""
    model = read_model(float_model)
    kind = kind_of(model)
    if kind != "float":
        raise BadConfig(
            f"the float model is {kind}; allowed: the float model that the network was quantised from. Give that as "
            "--float, or leave it out."
        )
    sources = model_inputs(model)
    if len(sources) != len(network.graph.inputs):
        raise BadConfig(
            f"the float model takes {len(sources)} inputs, the quantised one {len(network.graph.inputs)}; allowed: the "
            "model it was quantised from. Give that as --float."
        )
    for source, spec in zip(sources, network.graph.inputs, strict=True):
        _check_shape(source.name, dimensions(source)[1:], spec.shape[1:])
    found = tuple(_with_activation(name, index, model, network) for index, name in _paired(model, network))
    output = model.graph.output[0].name
    wanted = [*dict.fromkeys(name for name in found if name), output]
    session = open_session(with_outputs(model, list(dict.fromkeys(wanted))))
    names = tuple(source.name for source in sources)
    return FloatModel(tensors=found, input_names=names, output_name=output, session=session)


def _check_shape(name: str, theirs: Sequence[int | str], ours: Sequence[int]) -> None:
    agree = len(ours) == len(theirs) and all(
        isinstance(b, str) or a == b for a, b in zip(ours, theirs, strict=True)
    )
    if not agree:
        raise BadConfig(
            f"the float model takes {name!r} (batch, {', '.join(map(str, theirs))}), the quantised one (batch, "
            f"{', '.join(map(str, ours))}); allowed: the model it was quantised from. Give that as --float."
        )


def _paired(model: onnx.ModelProto, network: Network) -> list[tuple[int, str | None]]:
    """(layer, output of its float MAC node)."""
    macs = [node for node in model.graph.node if node.op_type in MACS]
    by_node = {node.name: node.output[0] for node in macs if node.name}
    by_tensor = {node.output[0]: node.output[0] for node in macs}
    layers = network.graph.layers
    pairs = []
    for index, layer in enumerate(layers):
        tensor = _written(network, index)
        name = by_node.get(layer.name.removesuffix("_quant")) or by_tensor.get(_float_name(tensor))
        if name is None and len(macs) == len(layers):
            name = macs[index].output[0]
        pairs.append((index, name))
    return pairs


def _written(network: Network, index: int) -> str:
    """The name of what a layer writes."""
    target = network.graph.layers[index].target
    return network.graph.tensors[target].name if isinstance(target, int) else target


def _float_name(tensor: str) -> str:
    """The float tensor's name in what onnxruntime.quantization calls its quantised form."""
    return tensor.removesuffix("_QuantizeLinear_Output").removesuffix("_quantized")


def _with_activation(name: str | None, index: int, model: onnx.ModelProto, network: Network) -> str | None:
    """The Relu or Clip behind a float MAC node belongs to it, unless the quantised layer's is still to come."""
    if name is None:
        return None
    target = _written(network, index)
    followers = [node for node in model.graph.node if name in node.input]
    if len(followers) == 1 and followers[0].op_type in _ACTIVATIONS and not _activated(network, target):
        return str(followers[0].output[0])
    return name


def _activated(network: Network, tensor: str) -> bool:
    """Does an activation follow this quantised tensor, through its DequantizeLinear?"""
    nodes = network.reference.graph.node
    behind = [out for node in nodes if tensor in node.input for out in node.output]
    readers = [node for node in nodes if tensor in node.input or any(name in node.input for name in behind)]
    return any(node.op_type in _ACTIVATIONS for node in readers)
