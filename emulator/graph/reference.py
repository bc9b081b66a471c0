"""The same network run by ONNX Runtime: the oracle `emulator check` compares with."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from emulator.graph.onnx_import import Network
from emulator.graph.session import open_session, with_outputs


class Reference:
    """ONNX Runtime on the QLinear form (or on the original file), every tensor the emulator also computes."""

    def __init__(self, network: Network, *, original: bool = False, optimised: bool = False) -> None:
        model = network.original if original else network.reference
        produced = {name for node in model.graph.node for name in node.output}
        self.graph = network.graph
        self.names = [tensor.name for tensor in self.graph.tensors if tensor.name in produced]
        self._model, self._optimised = model, optimised

    @cached_property
    def session(self) -> Any:
        """Every tensor."""
        return open_session(with_outputs(self._model, self.names), optimised=self._optimised)

    @cached_property
    def answer(self) -> Any:
        """The model's own output, with nothing else read: reading a tensor can undo an optimisation."""
        return open_session(self._model, optimised=self._optimised)

    def tensors(self, inputs: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """(batch, ...) inputs to every quantised tensor, in ONNX order and type, one image at a time."""
        rows = [self.session.run(self.names, {self.graph.input_name: image[np.newaxis]}) for image in inputs]
        columns = zip(*rows, strict=True)
        return {name: np.concatenate(list(column)) for name, column in zip(self.names, columns, strict=True)}

    def logits(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(batch, classes) float32."""
        rows = [self.answer.run(None, {self.graph.input_name: image[np.newaxis]})[0] for image in inputs]
        return np.concatenate(rows)


class OperatorReference:
    """The original file cut at every quantised tensor, run unoptimised: each operator alone, given the very
    integers the emulator had. Shows what one operator's float arithmetic does, without what it leads to."""

    def __init__(self, network: Network) -> None:
        self.graph = network.graph
        model = onnx.ModelProto()
        model.CopyFrom(network.original)
        quantised = {tensor.name for tensor in self.graph.tensors}
        produced = [name for node in model.graph.node for name in node.output if name in quantised]
        first = self.graph.tensors[self.graph.input].name
        for node in model.graph.node:
            for position, name in enumerate(node.output):
                if name in quantised:
                    node.output[position] = f"{name}/alone"
        self.names = [name for name in produced if name != first]
        known = {info.name for info in model.graph.input}
        for tensor in self.graph.tensors:
            if tensor.name in produced and tensor.name not in known:
                kind = onnx.TensorProto.UINT8 if tensor.offset else onnx.TensorProto.INT8
                shape = [None, *tensor.shape[1:]]
                model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, kind, shape))
        self.feeds = list(produced)
        self.session = open_session(with_outputs(model, [f"{name}/alone" for name in self.names]))

    def tensors(
        self, inputs: npt.NDArray[np.float32], given: dict[str, npt.NDArray[Any]]
    ) -> dict[str, npt.NDArray[Any]]:
        """given: the emulator's tensors, (batch, ...) in ONNX order; the same, one operator later."""
        rows = []
        for i, image in enumerate(inputs):
            feeds = {name: given[name][i : i + 1] for name in self.feeds}
            feeds[self.graph.input_name] = image[np.newaxis]
            rows.append(self.session.run([f"{name}/alone" for name in self.names], feeds))
        columns = zip(*rows, strict=True)
        return {name: np.concatenate(list(column)) for name, column in zip(self.names, columns, strict=True)}
