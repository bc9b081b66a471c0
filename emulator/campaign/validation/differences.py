"""How far two runs of the same tensors are apart, and where a difference begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.graph.deployment import Deployment

Tensors = Mapping[str, npt.NDArray[Any]]


class Difference(NamedTuple):
    """How far two runs of one tensor are apart: differing elements, and by how many LSB at most."""

    elements: int
    max_lsb: int

    def __or__(self, other: Difference) -> Difference:
        """Both together, of two batches."""
        return Difference(self.elements + other.elements, max(self.max_lsb, other.max_lsb))


NO_DIFFERENCE = Difference(0, 0)


def compare(ours: Tensors, theirs: Tensors) -> dict[str, Difference]:
    """Of each tensor in `theirs`."""
    result = {}
    for name, values in theirs.items():
        distance = np.abs(ours[name].astype(np.int32) - values.astype(np.int32))
        result[name] = Difference(int((distance > 0).sum()), int(distance.max(initial=0)))
    return result


def add(total: dict[str, Difference], more: Mapping[str, Difference]) -> None:
    """Another batch, in place."""
    for name, difference in more.items():
        total[name] = total.get(name, NO_DIFFERENCE) | difference


def origins(deployment: Deployment, ours: Tensors, theirs: Tensors) -> dict[str, Difference]:
    """The tensors where a sample first differs, all that leads to them being equal: what their own deployed
    operator does, without what it leads to."""
    differs = {
        name: (ours[name] != values).reshape(len(values), -1).any(axis=1) for name, values in theirs.items()
    }
    found: dict[str, Difference] = {}
    for tensor in (tensor for tensor in deployment.tensors if tensor.name in theirs):
        first = differs[tensor.name].copy()
        for source in tensor.sources:
            if source in differs:
                first &= ~differs[source]
        if first.any():
            name = tensor.name
            found |= compare({name: ours[name][first]}, {name: theirs[name][first]})
    return found
