"""Is the answer still right? Faulty logits against golden ones of the same input (never against the label)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.errors import UnsupportedModel
from emulator.graph.qgraph import QTensor, QuantGraph

# Of a network: int8 as stored, or the values of a float output.
Answer = npt.NDArray[Any]
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


def check_classifier(graph: QuantGraph) -> None:
    """Raise UnsupportedModel where the answer is no choice between classes."""
    if graph.classes < 2:
        raise UnsupportedModel(
            f"output {graph.output_name!r} has {graph.classes} value; allowed: two logits or more (a classifier)."
        )


def judge(answer: QTensor | None, golden: Answer, faulty: Answer) -> Outcomes:
    """golden (classes,), faulty (faults, classes): int8 as stored in `answer`, or real values where that is None."""
    top = int(golden.argmax())
    top1 = faulty.argmax(axis=1)
    sdc1 = top1 != top
    # A stable descending order: among equal logits the lower index comes first, as argmax does.
    first_five = np.argsort(-golden.astype(np.float64), kind="stable")[:5]
    best = faulty == faulty.max(axis=1, keepdims=True)
    confidence = _confidence(answer, golden[np.newaxis])[0, top]
    moved = np.abs(_confidence(answer, faulty)[:, top] - confidence)
    return Outcomes(
        sdc1=sdc1,
        tie=sdc1 & (best & (golden == golden.max())).any(axis=1),
        sdc5=~np.isin(top1, first_five),
        # Written so that a NaN counts as moved.
        sdc10=~(moved <= 0.1 * confidence),
        sdc20=~(moved <= 0.2 * confidence),
        top1=top1.astype(np.int64),
    )


def margin(golden: Answer) -> float:
    """Golden top-1 minus runner-up, in logit LSB."""
    second, first = np.sort(in_lsb(golden))[-2:]
    return float(first - second)


def in_lsb(golden: Answer) -> npt.NDArray[np.float64]:
    """The golden answer in LSB; a float one as if it filled the range of 8 bits. Finite: infinity counts as the end of
    the finite values, NaN as their low end."""
    real = golden.astype(np.float64)
    if np.issubdtype(golden.dtype, np.integer):
        return real
    known = real[np.isfinite(real)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    return np.nan_to_num(real, nan=low, posinf=high, neginf=low) / lsb_of(golden)


def lsb_of(golden: Answer) -> float:
    """One step of a float answer if its range were that of 8 bits."""
    spread = float(golden.max() - golden.min())
    return spread / 255 if np.isfinite(spread) and spread > 0 else 1.0


def _confidence(answer: QTensor | None, values: Answer) -> npt.NDArray[np.float64]:
    """(rows, classes): the softmax of logits; an answer that is one already is left as it is."""
    real = values.astype(np.float64) if answer is None else answer.real(values).astype(np.float64)
    if answer is None and (real >= 0).all() and np.allclose(real.sum(axis=1), 1, atol=1e-3):
        return real
    return _softmax(real)


def _softmax(real: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = np.exp(real - real.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return result
