"""How the logits depend on a tensor, to first order, around one image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from emulator.graph.golden import Inference
from emulator.graph.qgraph import Sample

Floats = npt.NDArray[np.float32]

# What the Jacobian is made of: a gradient graph, or finite differences of the integer network.
Sensitivity = Literal["gradient", "finite-difference"]


class JacobianSource(Protocol):
    """How the logits depend on some tensors, around one image."""

    def jacobians(self, sample: Sample, image: Inference) -> Mapping[int, Floats]:
        """d logit / d value, both in LSB: tensor index to (elements, classes) float32, elements in storage order.
        sample: the network's input; image: its golden run."""
        ...
