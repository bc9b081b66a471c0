"""What training lowers: the cross entropy to given answers, and what faults move the logits by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]

TINY = 1e-3
"""Of the spread: about a tenth of a step of int8 logits."""


def cross_entropy(logits: Reals, target: Reals) -> tuple[float, Reals]:
    """The mean over rows of -sum(target log softmax(logits)), and its gradient; both (rows, classes), target rows sum
    to 1."""
    log_share = logits - logits.max(axis=1, keepdims=True)
    log_share -= np.log(np.exp(log_share).sum(axis=1, keepdims=True))
    rows = len(logits)
    return float(-(target * log_share).sum() / rows), (np.exp(log_share) - target) / rows


def movement(clean: Reals, struck: Reals, spread: float) -> tuple[float, Reals]:
    """The mean over pairs of rows of |difference of their logits| / sqrt(spread), and its gradient at `struck` (that at
    `clean` is the opposite). What all logits move by alike changes no answer and does not count.

    The distance itself, not its square: of margins that are spread evenly near 0, as many are crossed as the logits
    move far, so its mean is what the SDC rate follows. It is rounded off below TINY, where its gradient would jump.
    """
    moved = struck - clean
    moved -= moved.mean(axis=1, keepdims=True)
    rows = max(1, len(moved))
    distance = np.sqrt((moved**2).sum(axis=1, keepdims=True) / spread + TINY**2)
    return float((distance - TINY).sum() / rows), moved / (distance * spread * rows)


def spread_of(logits: Reals) -> float:
    """The mean over rows of the squared distance of logits from their mean, the yardstick of `movement`; 1 where there
    is none."""
    centred = logits - logits.mean(axis=1, keepdims=True)
    return float((centred**2).sum(axis=1).mean()) or 1.0


def softmax(logits: Reals) -> Reals:
    """(rows, classes) shares."""
    weight = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: Reals = weight / weight.sum(axis=1, keepdims=True)
    return share
