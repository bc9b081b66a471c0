"""The same network run by ONNX Runtime: the oracle `emulator check` compares with."""

from __future__ import annotations

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
        self.session = open_session(with_outputs(model, self.names), optimised=optimised)
        self.answer = open_session(model, optimised=optimised)

    def tensors(self, inputs: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """(batch, ...) inputs to every quantised tensor, in ONNX order and type, one image at a time."""
        rows = [self.session.run(self.names, {self.graph.input_name: image[np.newaxis]}) for image in inputs]
        columns = zip(*rows, strict=True)
        return {name: np.concatenate(list(column)) for name, column in zip(self.names, columns, strict=True)}

    def logits(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(batch, classes) float32."""
        rows = [self.answer.run(None, {self.graph.input_name: image[np.newaxis]})[0] for image in inputs]
        return np.concatenate(rows)


def float_session(model: onnx.ModelProto) -> Any:
    """An optimised session of any model."""
    return open_session(model, optimised=True)
