"""What gradients alone say of a fault: |gradient| x |error|, without rounding, saturation or anything exact.

The measure of published tools; the samplers that imitate them need it, ours do not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from emulator.faults.strikes import Strikes
from emulator.graph.golden import Golden, Inference
from emulator.graph.program import Col
from emulator.propagate.outcome import in_lsb
from emulator.sensitivity.jacobian import Rivals

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def margin_slopes(
    golden: Golden, image: Inference, rivals: Rivals, jacobian: npt.NDArray[np.float32]
) -> Floats:
    """(elements,) d margin / d value from (elements, rivals) d logit / d value; margin: the first answer's lead."""
    second, first = np.argsort(in_lsb(golden.logits(image))[rivals], kind="stable")[-2:]
    slopes: Floats = (jacobian[:, first] - jacobian[:, second]).astype(np.float64)
    return slopes


def first_order(
    golden: Golden, layer: Ints, strikes: Strikes, slopes: Mapping[int, Floats]
) -> tuple[Floats, Floats]:
    """(faults,) each: the change of the margin, in LSB, and the sum of |slope| of the elements struck, of fault f in
    MAC layer layer[f]. slopes: of the output of each MAC layer, 0 for layers that have none."""
    program, size = golden.program, np.diff(strikes.ptr)
    fault = np.repeat(np.arange(len(layer)), size)
    change, weight = np.zeros(len(fault)), np.zeros(len(fault))
    for index in np.unique(layer).tolist():
        if index not in slopes:
            continue
        chosen, row = np.flatnonzero(layer[fault] == index), program.ops[program.layer_op[index]]
        n = strikes.n[chosen].astype(np.int64)
        slope = slopes[index][strikes.m[chosen].astype(np.int64) * (row[Col.GROUPS] * row[Col.N]) + n]
        lsb = np.where(strikes.at_output[fault[chosen]], 1.0, program.scale[row[Col.BIAS_START] + n])
        change[chosen], weight[chosen] = slope * lsb * strikes.delta[chosen], np.abs(slope)
    result: list[Floats] = [np.zeros(len(layer)), np.zeros(len(layer))]
    np.add.at(result[0], fault, change)
    np.add.at(result[1], fault, weight)
    return result[0], result[1]
