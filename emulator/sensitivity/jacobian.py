"""How the logits depend on a tensor, to first order, around one image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from emulator.graph.golden import Inference
from emulator.graph.qgraph import Sample
from emulator.propagate.outcome import Answer, in_lsb

Floats = npt.NDArray[np.float32]
Rivals = npt.NDArray[np.intp]

# A backward pass each, and a number for each element: of 1,000 classes the Jacobians of a ResNet-50 would take 22 GB an
# image. The rivals of the first answer are the few behind it.
RIVALS = 16

# What the Jacobian is made of: a gradient graph, or finite differences of the integer network.
Sensitivity = Literal["gradient", "finite-difference"]


class JacobianSource(Protocol):
    """How the logits depend on some tensors, around one image."""

    def jacobians(self, sample: Sample, image: Inference, rivals: Rivals) -> Mapping[int, Floats]:
        """d logit / d value, both in LSB: tensor index to (elements, rivals) float32, elements in storage order.
        sample: the network's input; image: its golden run; rivals (rivals,): the classes of these logits."""
        ...


def rivals_of(golden: Answer) -> Rivals:
    """(at most RIVALS,) the classes of the largest logits, ascending; of equal ones the first. golden (classes,)."""
    return np.sort(np.argsort(-in_lsb(golden), kind="stable")[:RIVALS])
