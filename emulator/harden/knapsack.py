"""Which unit gets which protection for a budget: the multiple-choice knapsack by its linear relaxation.

Of each unit's techniques only those on the upper hull of (cost, gain) are worth their cost at some price. Its steps,
from nothing to the first, and on to the next, have falling gain per cost; taken in that order over all units every
prefix is optimal at its cost, and with a part of the next step it is optimal for fractions: an upper bound for
everybody. Sinha & Zoltners, Operations Research 27(3), 1979; Kellerer, Pferschy & Pisinger, Knapsack Problems, 2004,
ch. 11.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf, log2
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

GRID = 16
"""Budgets to a halving."""

# Steps that are looked at together.
_BLOCK = 1024

# Budgets are met up to rounding.
_EXACTLY = 1 + 1e-12


class Rung(NamedTuple):
    """From the technique before to this one: what it costs more, and removes more of the unit's rate, a fraction."""

    technique: int
    cost: float
    gain: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """Steps of all units, best value per cost first; (steps,) each. technique: the one that the unit has after the
    step; value: worth x gain; before: the unit's last step before this, -1: none."""

    unit: Ints
    technique: Ints
    cost: Floats
    gain: Floats
    value: Floats
    before: Ints

    def __len__(self) -> int:
        return len(self.unit)

    @cached_property
    def spent(self) -> Floats:
        """(steps + 1,) what the first of them cost together, from none on."""
        return np.concatenate(([0.0], np.cumsum(self.cost)))

    @cached_property
    def worth(self) -> Floats:
        """(steps + 1,) the same of values."""
        return np.concatenate(([0.0], np.cumsum(self.value)))

    @cached_property
    def cheapest_from(self) -> Floats:
        """(steps + 1,) the least cost of this step and those after it; inf of none."""
        return np.append(np.minimum.accumulate(self.cost[::-1])[::-1], np.inf)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """The first `whole` of the steps, and some `more_steps` after them; value: what it is worth; bound: what no choice
    within the budget is worth more than."""

    whole: int
    more_steps: Ints
    cost: float
    value: float
    bound: float

    def has(self, steps: Ints) -> Bools:
        """(steps,) is each taken?"""
        return (steps < self.whole) | np.isin(steps, self.more_steps)

    def same(self, other: Choice) -> bool:
        """Are these the same steps?"""
        return self.whole == other.whole and np.array_equal(self.more_steps, other.more_steps)

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
    kinds, kind = _kinds(cost)
    rungs = [hull(row, gain) for row in kinds]
    some = np.flatnonzero(worth > 0)
    ladder = kind[some]
    # All units take their first step, then their second: those of one unit come in their order.
    most = max(map(len, rungs), default=0)
    has = [np.array([len(rung) > k for rung in rungs])[ladder] for k in range(most)]
    unit = np.concatenate([np.zeros(0, np.int64), *(some[k] for k in has)])
    table = [np.array([rung[k] if len(rung) > k else (0, 0, 0) for rung in rungs]) for k in range(most)]
    rows = [table[k][ladder[has[k]]] for k in range(most)]
    technique, more, part = np.concatenate([np.zeros((0, 3)), *rows]).T
    value = worth[unit] * part
    # Of the k-th steps each comes k lots after the unit's first.
    lots = np.cumsum([0, *(len(ladder[h]) for h in has)])
    last, before = np.full(len(worth), -1), np.full(len(unit), -1)
    for start, end in pairwise(lots.tolist()):
        before[start:end] = last[unit[start:end]]
        last[unit[start:end]] = np.arange(start, end)
    # Stable: equal units are taken in the order of the array.
    order = np.argsort(-_per_cost(value, more), kind="stable")
    # One more, for the -1 of no step before.
    place = np.append(np.argsort(order), -1)
    return Steps(
        unit=unit[order],
        technique=technique[order].astype(np.int64),
        cost=more[order],
        gain=part[order],
        value=value[order],
        before=place[before[order]],
    )


def _kinds(cost: Floats) -> tuple[Floats, Ints]:
    """Rows that differ, and (units,) which of them each is."""
    import pandas as pd

    # Millions of rows, few kinds: hashing is ten times as fast as sorting rows.
    kind = pd.DataFrame(cost).groupby(list(range(cost.shape[1])), sort=False).ngroup().to_numpy()
    first = np.unique(kind, return_index=True)[1]
    return cost[first], np.asarray(kind, np.int64)


def fill(steps: Steps, budget: float) -> Choice:
    """What fits into the budget, best first; a step that does not fit is left out, and so are those after it of its
    unit."""
    whole = int(np.searchsorted(steps.spent, budget * _EXACTLY, side="right")) - 1
    bound = float(steps.worth[whole])
    left = budget * _EXACTLY - float(steps.spent[whole])
    if whole < len(steps):
        bound += float(steps.value[whole]) * left / float(steps.cost[whole])
    more: dict[int, None] = {}
    for start in range(whole, len(steps), _BLOCK):
        if left < steps.cheapest_from[start]:
            break
        for i in (start + np.flatnonzero(steps.cost[start : start + _BLOCK] <= left)).tolist():
            before = int(steps.before[i])
            if steps.cost[i] <= left and (before < whole or before in more):
                more[i] = None
                left -= float(steps.cost[i])
    some = np.array(list(more), np.int64)
    return Choice(
        whole=whole,
        more_steps=some,
        cost=float(steps.spent[whole] + steps.cost[some].sum()),
        value=float(steps.worth[whole] + steps.value[some].sum()),
        bound=bound,
    )


def first(steps: Steps, count: int) -> Choice:
    """The first of all steps."""
    value = float(steps.worth[count])
    return Choice(
        whole=count,
        more_steps=np.zeros(0, np.int64),
        cost=float(steps.spent[count]),
        value=value,
        bound=value,
    )


def choices(steps: Steps) -> list[Choice]:
    """What fits into each of a fixed grid of budgets, each another choice than the one before it: from everything down
    to the cheapest step, GRID to a halving, and nothing. It depends on nothing but the steps."""
    most, least = float(steps.spent[-1]), float(steps.cost[steps.cost > 0].min(initial=np.inf))
    count = int(GRID * log2(most / least)) + 1 if most > 0 else 0
    budgets = (most * 2 ** (-k / GRID) for k in range(1, count + 1))
    found = [first(steps, len(steps))]
    for choice in (*(fill(steps, budget) for budget in budgets), first(steps, 0)):
        if not choice.same(found[-1]):
            found.append(choice)
    return found


def _per_cost(value: Floats, cost: Floats) -> Floats:
    """Infinite for what costs nothing."""
    ratio: Floats = np.divide(value, cost, out=np.full(len(value), np.inf), where=cost > 0)
    return ratio
