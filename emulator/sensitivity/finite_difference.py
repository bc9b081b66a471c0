"""Exact effect of a small change in the integer network: no linearisation, one propagation a probe.

The cross-check of the gradients, and a sensitivity where gradients are undefined.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.faults.strikes import LayerErrors
from emulator.graph.golden import Golden, Inference
from emulator.propagate.propagator import Propagator

Ints = npt.NDArray[np.int64]


def finite_differences(
    golden: Golden, image: Inference, layer: int, elements: Ints, change: Ints
) -> npt.NDArray[np.int16]:
    """Change of every logit, in LSB, when output elements of MAC layer `layer` move by `change` LSB.

    elements, change: (probes,) int64, storage order; a value that would leave int8 saturates. The change is
    made at the accumulator, by the least amount that requantises to the wanted value. Returns
    (probes, classes) int16.
    """
    mac = golden.graph.layers[layer]
    if not mac.compiled or mac.requantisation is None or not isinstance(mac.target, int):
        raise BadConfig(
            f"finite differences at layer {mac.name!r}, whose sums are not requantised to a tensor; allowed: layers "
            "with int8 operands, constant weights and an int8 result."
        )
    channels = mac.shape.n * mac.shape.groups
    m, n = np.divmod(elements, channels)
    acc = golden.accumulator(image, layer)[m, n].astype(np.int64)
    rq = mac.requantisation
    value = golden.tensor(image, mac.target)[elements].astype(np.int64)
    wanted = np.clip(value + change, rq.low, rq.high)
    # The accumulator in the middle of the wanted value's rounding interval.
    centre = np.rint((wanted - rq.zero_point) / rq.scale[n].astype(np.float64)).astype(np.int64)
    delta = np.where(wanted == value, 0, centre - acc)
    layers = np.full(len(elements), layer, np.int64)
    at_output = np.zeros(len(elements), np.bool_)
    m, n, delta = m.astype(np.int32), n.astype(np.int32), delta.astype(np.int32)
    errors = LayerErrors(np.arange(len(elements) + 1), m, n, delta, at_output, np.zeros_like(at_output))
    effects = Propagator(golden).run(image, layers, errors)
    reference = golden.logits(image).astype(np.int16)
    return effects.logits.astype(np.int16) - reference
