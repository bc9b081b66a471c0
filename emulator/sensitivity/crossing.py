"""The predicted chance that a fault flips the top-1: a soft crossing of the margin.

Sharp where little moves, vague where much does, because a linear prediction errs in proportion to what it predicts. Its
tails are long: of a thousand faults that are predicted to fall far short, some arrive all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.sensitivity.outlook import Outlook

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Softness:
    """Width of the crossing in logit LSB: floor_lsb + slope * movement of all logits. The chance of a fault that falls
    x widths short is 1 / (1 + (1 + x)^tail). Chosen on ResNet-20 and the bundled networks (docs/statistics.md)."""

    floor_lsb: float = 0.5
    slope: float = 0.15
    tail: float = 4.0


def crossing(outlook: Outlook, softness: Softness = Softness()) -> Floats:
    """(faults,) in [0, 1]: a log-logistic of `widths_open`, 1/2 where the margin is just closed, exactly 0 where the
    fault is masked before its horizon."""
    reach = widths_open(outlook, softness)
    odds = (1.0 + np.abs(reach)) ** np.copysign(softness.tail, reach)
    score: Floats = np.where(outlook.alive, 1.0 / (1.0 + odds), 0.0)
    return score


def preference_of(score: Floats, floor: float = 1e-4) -> Floats:
    """How much a fault of this chance is wanted: the best proposal has q ~ p sqrt(pi) (Owen, Monte Carlo, ch. 9).
    floor: for what is predicted harmless."""
    preference: Floats = np.sqrt(score) + floor
    return preference


def widths_open(outlook: Outlook, softness: Softness = Softness()) -> Floats:
    """(faults,) left / width: how many widths the margin is still open."""
    found: Floats = outlook.left / (softness.floor_lsb + softness.slope * outlook.movement.astype(np.float64))
    return found
