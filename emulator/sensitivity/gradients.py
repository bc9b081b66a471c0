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
from emulator.sensitivity.qdq import to_qdq

Floats = npt.NDArray[np.float32]

# Half-width of the soft clip mask in LSB: a unit saturated by less than a few LSB still counts a little, so a
# fault that re-activates it is seen (statistics: soft masks rank better than hard ones).
SOFT = StraightThrough(kind="soft", width_lsb=4.0)


class GradientSource:
    """Jacobians of the logits at chosen tensors; one backward pass an image with one seed a class."""

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

    def jacobians(self, sample: Sample, image: Inference) -> dict[int, Floats]:
        """See `JacobianSource`."""
        # One class at a time: a batch would be no faster, and models of fixed batch 1 are common.
        seeds = np.eye(self.graph.classes, dtype=np.float32)[:, np.newaxis]
        feeds = self.graph.feeds(sample)
        rows_of = [self._session.run(self._outputs, feeds | {"seed": seed}) for seed in seeds]
        gradients = [np.concatenate(rows) for rows in zip(*rows_of, strict=True)]
        output = self.graph.output
        lsb = self.graph.tensors[output].scale if isinstance(output, int) else lsb_of(image.host[output])
        result = {}
        for index, gradient in zip(self.tensors, gradients, strict=True):
            tensor = self.graph.tensors[index]
            rows = tensor.to_storage(gradient.reshape(-1, *tensor.shape)).astype(np.float32)
            result[index] = np.ascontiguousarray(rows.T * np.float32(tensor.scale / lsb))
        return result
