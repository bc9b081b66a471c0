"""The same network run by ONNX Runtime: the oracle `emulator check` compares with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from emulator.graph.load import Network
from emulator.graph.qgraph import MacLayer, Sample
from emulator.graph.session import open_session, with_outputs

Arrays = dict[str, npt.NDArray[Any]]


class Reference:
    """ONNX Runtime on the QLinear form (or on the original file), every tensor the emulator also computes."""

    def __init__(self, network: Network, *, original: bool = False, optimised: bool = False) -> None:
        model = network.original if original else network.reference
        produced = {name for node in model.graph.node for name in node.output}
        self.graph = network.graph
        raw = [op.target for op in self.graph.ops if isinstance(op, MacLayer) and isinstance(op.target, str)]
        known = [tensor.name for tensor in self.graph.tensors] + [str(name) for name in raw]
        self.names = [name for name in known if name in produced]
        self._model, self._optimised = model, optimised

    @cached_property
    def session(self) -> Any:
        """Every tensor, and the accumulators that are results."""
        return open_session(with_outputs(self._model, self.names), optimised=self._optimised)

    @cached_property
    def answer(self) -> Any:
        """The model's own output, with nothing else read: reading a tensor can undo an optimisation."""
        return open_session(self._model, optimised=self._optimised)

    def tensors(self, samples: Iterable[Sample]) -> Arrays:
        """Every tensor, (samples, *shape), in ONNX order and type, one sample at a time."""
        if not self.names:
            return {}
        rows = [self.session.run(self.names, self.graph.feeds(sample)) for sample in samples]
        return {
            name: np.stack(column) for name, column in zip(self.names, zip(*rows, strict=True), strict=True)
        }

    def logits(self, samples: Iterable[Sample]) -> npt.NDArray[Any]:
        """(samples, classes) the answer as the model gives it."""
        name = self.graph.output_name
        rows = [self.answer.run([name], self.graph.feeds(sample))[0].reshape(-1) for sample in samples]
        return np.stack(rows)


class OperatorReference:
    """The original file cut at every quantised tensor, run unoptimised: each operator alone, given the very
    integers the emulator had. Shows what one operator's float arithmetic does, without what it leads to."""

    def __init__(self, network: Network) -> None:
        self.graph = network.graph
        model = onnx.ModelProto()
        model.CopyFrom(network.original)
        inputs = {info.name for info in model.graph.input}
        quantised = {tensor.name: tensor for tensor in self.graph.tensors if tensor.name not in inputs}
        produced = [name for node in model.graph.node for name in node.output if name in quantised]
        for node in model.graph.node:
            for position, name in enumerate(node.output):
                if name in quantised:
                    node.output[position] = f"{name}/alone"
        self.names = self.feeds = produced
        for name in produced:
            tensor = quantised[name]
            kind = onnx.TensorProto.UINT8 if tensor.offset else onnx.TensorProto.INT8
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, tensor.shape))
        del model.graph.value_info[:]
        self._model = with_outputs(model, [f"{name}/alone" for name in self.names])

    @cached_property
    def session(self) -> Any:
        """Every operator on its own."""
        return open_session(self._model)

    def tensors(self, samples: Iterable[Sample], given: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """given: the emulator's tensors, (samples, *shape) in ONNX order; the same, one operator later."""
        rows: list[list[npt.NDArray[Any]]] = []
        if not self.names:
            return {}
        for i, sample in enumerate(samples):
            feeds = {name: np.asarray(given[name][i]) for name in self.feeds} | self.graph.feeds(sample)
            rows.append(self.session.run([f"{name}/alone" for name in self.names], feeds))
        return {
            name: np.stack(column) for name, column in zip(self.names, zip(*rows, strict=True), strict=True)
        }
