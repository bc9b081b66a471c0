"""Where a network's inputs become integers: the QuantizeLinear nodes that read them, directly or through operators of
the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from emulator.graph.load import Network
from emulator.graph.qgraph import QuantGraph, Sample
from emulator.graph.quantize import MACS
from emulator.graph.session import open_session, with_outputs

# What turns reals into integers; behind it a value is no input any more.
_QUANTISES = {"QuantizeLinear", "DynamicQuantizeLinear"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputQuantiser:
    """One QuantizeLinear of inputs. name: of the inputs whose values it takes; real: of the tensor it reads; code =
    round(real / scale) + zero_point, clipped to [lowest, highest]."""

    name: str
    real: str
    scale: np.float32
    zero_point: int
    lowest: int
    highest: int

    @property
    def range(self) -> tuple[float, float]:
        """The reals of the lowest and the highest code."""
        low, high = ((code - self.zero_point) * float(self.scale) for code in (self.lowest, self.highest))
        return low, high

    def clipped(self, values: npt.NDArray[np.floating[Any]]) -> tuple[int, int]:
        """How many values are above the highest code, and below the lowest."""
        codes = np.rint(values.astype(np.float32) / self.scale) + self.zero_point
        return int((codes > self.highest).sum()), int((codes < self.lowest).sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputQuantisers:
    """All those of a network, none where its inputs are integers or quantised at run time."""

    quantisers: tuple[InputQuantiser, ...]
    graph: QuantGraph = field(repr=False)
    session: Any = field(repr=False)

    @classmethod
    def of(cls, network: Network) -> InputQuantisers:
        """Found in the QLinear form, whose QuantizeLinear has one scale."""
        model = network.reference
        front, origins = _front(model, [spec.name for spec in network.graph.inputs])
        found = tuple(filter(None, (_quantiser(model, node, origins) for node in model.graph.node)))
        alone = with_outputs(model, list(dict.fromkeys(each.real for each in found)))
        del alone.graph.node[:]
        alone.graph.node.extend(front)
        return cls(quantisers=found, graph=network.graph, session=open_session(alone) if found else None)

    def values(self, samples: Sequence[Sample]) -> list[npt.NDArray[np.floating[Any]]]:
        """(samples, ...) of what each quantiser reads."""
        names = [each.real for each in self.quantisers]
        if not names:
            return []
        rows = [self.session.run(names, self.graph.feeds(sample)) for sample in samples]
        return [np.stack(column) for column in zip(*rows, strict=True)]


def _front(
    model: onnx.ModelProto, inputs: Sequence[str]
) -> tuple[list[onnx.NodeProto], dict[str, tuple[str, ...]]]:
    """The nodes between the inputs and their quantisers, and the inputs that each tensor there is made of."""
    origins: dict[str, tuple[str, ...]] = {"": ()}
    origins |= {tensor.name: () for tensor in model.graph.initializer} | {name: (name,) for name in inputs}
    front = []
    for node in model.graph.node:
        inner = any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute)
        if inner or node.op_type in MACS | _QUANTISES or not all(name in origins for name in node.input):
            continue
        front.append(node)
        made_of = tuple(dict.fromkeys(origin for name in node.input for origin in origins[name]))
        origins |= dict.fromkeys(node.output, made_of)
    return front, origins


def _quantiser(
    model: onnx.ModelProto, node: onnx.NodeProto, origins: dict[str, tuple[str, ...]]
) -> InputQuantiser | None:
    if node.op_type != "QuantizeLinear" or not origins.get(node.input[0]):
        return None
    constants = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in node.input[1:3]}
    if len(constants) < 2:
        return None
    scale, zero = (numpy_helper.to_array(constants[name]).reshape(-1)[0] for name in node.input[1:3])
    limits = np.iinfo(zero.dtype)
    return InputQuantiser(
        name=", ".join(origins[node.input[0]]),
        real=node.input[0],
        scale=np.float32(scale),
        zero_point=int(zero),
        lowest=limits.min,
        highest=limits.max,
    )
