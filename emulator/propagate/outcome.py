"""Is the answer still right? Faulty logits against golden ones of the same input (never against the label)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emulator.graph.qgraph import QTensor
from emulator.propagate.delta import Values

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """One entry a fault.

    sdc1: top-1 differs. tie: it differs only because equal logits are ordered by index. sdc5: the faulty top-1
    is outside the golden top-5. sdc10, sdc20: the softmax confidence of the golden top-1 class moves by more
    than 10 %, 20 % of itself (Li et al., SC'17).
    """

    sdc1: Flags = field(repr=False)
    tie: Flags = field(repr=False)
    sdc5: Flags = field(repr=False)
    sdc10: Flags = field(repr=False)
    sdc20: Flags = field(repr=False)
    top1: Ints = field(repr=False)


def judge(answer: QTensor, golden: Values, faulty: Values) -> Outcomes:
    """golden (classes,) int8, faulty (faults, classes) int8, both as stored in `answer`."""
    top = int(golden.argmax())
    top1 = faulty.argmax(axis=1)
    sdc1 = top1 != top
    # A stable descending order: among equal logits the lower index comes first, as argmax does.
    first_five = np.argsort(-golden.astype(np.int16), kind="stable")[:5]
    best = faulty == faulty.max(axis=1, keepdims=True)
    confidence = _softmax(answer.real(golden[np.newaxis]))[0, top]
    moved = np.abs(_softmax(answer.real(faulty))[:, top] - confidence)
    return Outcomes(
        sdc1=sdc1,
        tie=sdc1 & (best & (golden == golden.max())).any(axis=1),
        sdc5=~np.isin(top1, first_five),
        sdc10=moved > 0.1 * confidence,
        sdc20=moved > 0.2 * confidence,
        top1=top1.astype(np.int64),
    )


def margin(golden: Values) -> int:
    """Golden top-1 minus runner-up, in logit LSB."""
    second, first = np.sort(golden.astype(np.int64))[-2:]
    return int(first - second)


def _softmax(real: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = np.exp(real.astype(np.float64) - real.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return result
