"""Jacobians of the logits with respect to int8 tensors, by ONNX Runtime on a gradient graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emulator.graph.golden import Inference
from emulator.graph.load import Network
from emulator.graph.qgraph import Sample
from emulator.graph.session import open_session, with_outputs
from emulator.propagate.outcome import lsb_of
from emulator.sensitivity.backward import StraightThrough, gradient_model
from emulator.sensitivity.jacobian import Rivals
from emulator.sensitivity.qdq import to_qdq

Floats = npt.NDArray[np.float32]

# Half-width of the soft clip mask in LSB: a unit saturated by less than a few LSB still counts a little, so a
# fault that re-activates it is seen (statistics: soft masks rank better than hard ones).
SOFT = StraightThrough(kind="soft", width_lsb=4.0)


class GradientSource:
    """Jacobians of the logits at chosen tensors; one backward pass for each image and rival."""

    def __init__(
        self, network: Network, tensors: Sequence[int], *, straight_through: StraightThrough = SOFT
    ) -> None:
        self.graph = network.graph
        self.tensors = tuple(dict.fromkeys(tensors))
        names = [self.graph.tensors[index].name for index in self.tensors]
        model = gradient_model(
            to_qdq(network.reference), names, loss="seed", straight_through=straight_through
        )
        self._outputs = [f"grad:{name}" for name in names]
        self._session = open_session(with_outputs(model, self._outputs), optimised=True)

    def jacobians(self, sample: Sample, image: Inference, rivals: Rivals) -> dict[int, Floats]:
        """See `JacobianSource`."""
        feeds, output = self.graph.feeds(sample), self.graph.output
        lsb = self.graph.tensors[output].scale if isinstance(output, int) else lsb_of(image.host[output])
        rows = {
            index: np.empty((len(rivals), self.graph.tensors[index].size), np.float32)
            for index in self.tensors
        }
        # One class at a time: a batch would be no faster, and models of fixed batch 1 are common.
        for row, rival in enumerate(rivals):
            seed = np.zeros((1, self.graph.classes), np.float32)
            seed[0, rival] = 1.0
            gradients = self._session.run(self._outputs, feeds | {"seed": seed})
            for index, gradient in zip(self.tensors, gradients, strict=True):
                tensor = self.graph.tensors[index]
                stored = tensor.to_storage(gradient.reshape(-1, *tensor.shape)).astype(np.float32)
                rows[index][row] = stored[0] * np.float32(tensor.scale / lsb)
        # One by one, so that there are never two of all.
        return {index: np.ascontiguousarray(rows.pop(index).T) for index in self.tensors}
