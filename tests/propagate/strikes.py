"""Random errors of MAC layers, for tests that need no array."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.faults.strikes import Strikes
from emulator.graph.golden import Golden

Ints = npt.NDArray[np.int64]


def random_strikes(golden: Golden, rng: np.random.Generator, faults: int) -> tuple[Ints, Strikes]:
    """One to four distinct wrong accumulators a fault, small and large, of either sign."""
    layer = rng.integers(0, len(golden.graph.layers), faults)
    m, n, delta, ptr = [], [], [], [0]
    for index in layer.tolist():
        shape = golden.graph.layers[index].shape
        words = shape.m * shape.n * shape.groups
        element = rng.choice(words, min(words, int(rng.integers(1, 5))), replace=False)
        m += (element // (shape.n * shape.groups)).tolist()
        n += (element % (shape.n * shape.groups)).tolist()
        delta += (rng.choice([-1, 1], len(element)) << rng.integers(0, 31, len(element))).tolist()
        ptr.append(len(m))
    nothing = np.zeros(faults, np.int64)
    never = np.zeros(faults, np.bool_)
    return layer, Strikes(
        ptr=np.array(ptr),
        m=np.array(m, np.int32),
        n=np.array(n, np.int32),
        delta=np.array(delta, np.int32),
        before=nothing,
        after=nothing,
        at_output=never,
        hang=never,
        engine=nothing,
    )
