"""Which unit gets which protection for a budget: the multiple-choice knapsack by its linear relaxation.

Of each unit's techniques only those on the upper hull of (cost, gain) are worth their cost at some price. Its steps,
from nothing to the first, and on to the next, have falling gain per cost; taken in that order over all units every
prefix is optimal at its cost, and with a part of the next step it is optimal for fractions: an upper bound for
everybody. Sinha & Zoltners, Operations Research 27(3), 1979; Kellerer, Pferschy & Pisinger, Knapsack Problems, 2004,
ch. 11.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Budgets are met up to rounding.
_EXACTLY = 1 + 1e-12


class Rung(NamedTuple):
    """From the technique before to this one: what it costs more, and removes more of the unit's rate, a fraction."""

    technique: int
    cost: float
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """Steps of all units, best value per cost first; (steps,) each. technique: the one that the unit has after the
    step; value: worth x gain."""

    unit: Ints
    technique: Ints
    cost: Floats
    gain: Floats
    value: Floats

    def __len__(self) -> int:
        return len(self.unit)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """taken (steps,); value: what it is worth; bound: what no choice within the budget is worth more than."""

    taken: Bools
    cost: float
    value: float
    bound: float

    @property
    def more(self) -> float:
        """How much more the best is worth at most, as a fraction of this; inf where this is worth nothing."""
        return max(0.0, self.bound / self.value - 1) if self.value > 0 else inf


def hull(cost: Floats, gain: Floats) -> list[Rung]:
    """The steps of one unit, by rising cost and falling gain per cost; cost (techniques,) >= 0, gain in [0, 1]."""
    order = sorted(range(len(cost)), key=lambda t: (cost[t], -gain[t]))
    rungs: list[Rung] = []
    for t in order:
        while True:
            more_cost = float(cost[t]) - sum(rung.cost for rung in rungs)
            more_gain = float(gain[t]) - sum(rung.gain for rung in rungs)
            # Not above the line through the last step and this: the last is worth its cost at no price.
            if not (rungs and more_gain > 0 and more_gain * rungs[-1].cost >= rungs[-1].gain * more_cost):
                break
            rungs.pop()
        if more_gain > 1e-12:
            rungs.append(Rung(t, more_cost, more_gain))
    return rungs


def steps_of(worth: Floats, cost: Floats, gain: Floats) -> Steps:
    """worth (units,) >= 0 what removing all of a unit's rate is worth; cost (units, techniques); gain (techniques,)."""
    kinds, kind = np.unique(cost, axis=0, return_inverse=True)
    rungs = [hull(row, gain) for row in kinds]
    some = np.flatnonzero(worth > 0)
    ladder = kind.reshape(-1)[some]
    # All units take their first step, then their second: those of one unit come in their order.
    most = max(map(len, rungs), default=0)
    has = [np.array([len(rung) > k for rung in rungs])[ladder] for k in range(most)]
    unit = np.concatenate([np.zeros(0, np.int64), *(some[k] for k in has)])
    table = [np.array([rung[k] if len(rung) > k else (0, 0, 0) for rung in rungs]) for k in range(most)]
    rows = [table[k][ladder[has[k]]] for k in range(most)]
    technique, more, part = np.concatenate([np.zeros((0, 3)), *rows]).T
    value = worth[unit] * part
    # Stable: equal units are taken in the order of the array.
    order = np.argsort(-_per_cost(value, more), kind="stable")
    return Steps(
        unit=unit[order],
        technique=technique[order].astype(np.int64),
        cost=more[order],
        gain=part[order],
        value=value[order],
    )


def fill(steps: Steps, budget: float) -> Choice:
    """What fits into the budget, best first; a step that does not fit is left out, and so are those after it of its
    unit."""
    spent = np.cumsum(steps.cost)
    whole = int(np.searchsorted(spent, budget * _EXACTLY, side="right"))
    taken = np.arange(len(steps)) < whole
    bound = float(steps.value[:whole].sum())
    left = budget * _EXACTLY - float(spent[whole - 1] if whole else 0)
    if whole < len(steps):
        bound += float(steps.value[whole]) * left / float(steps.cost[whole])
    blocked: set[int] = set()
    cheapest = float(steps.cost[whole:].min(initial=np.inf))
    for i in range(whole, len(steps)):
        if left < cheapest:
            break
        unit = int(steps.unit[i])
        if unit not in blocked and steps.cost[i] <= left:
            taken[i] = True
            left -= float(steps.cost[i])
        else:
            blocked.add(unit)
    return Choice(
        taken=taken,
        cost=float(steps.cost[taken].sum()),
        value=float(steps.value[taken].sum()),
        bound=bound,
    )


def _per_cost(value: Floats, cost: Floats) -> Floats:
    """Infinite for what costs nothing."""
    ratio: Floats = np.divide(value, cost, out=np.full(len(value), np.inf), where=cost > 0)
    return ratio
