"""Choices against all there are, tried one after the other."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.harden.knapsack import Steps, fill, hull, steps_of

COSTS = st.integers(0, 12).map(float)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[float], list[list[float]], list[float]]:
    """Worth of up to five units, costs of up to three techniques for each, and what the techniques remove."""
    techniques = draw(st.integers(1, 3))
    gain = draw(st.lists(st.integers(0, 10), min_size=techniques, max_size=techniques))
    units = draw(st.lists(st.integers(0, 9), min_size=1, max_size=5))
    row = st.lists(COSTS, min_size=techniques, max_size=techniques)
    cost = draw(st.lists(row, min_size=len(units), max_size=len(units)))
    return [float(u) for u in units], cost, [g / 10 for g in gain]


def best(worth: list[float], cost: list[list[float]], gain: list[float], budget: float) -> float:
    """The most that any choice of one technique, or none, for each unit removes within the budget."""
    choices = product(range(-1, len(gain)), repeat=len(worth))
    return max(
        sum(worth[u] * gain[t] for u, t in enumerate(choice) if t >= 0)
        for choice in choices
        if sum(cost[u][t] for u, t in enumerate(choice) if t >= 0) <= budget
    )


def solved(worth: list[float], cost: list[list[float]], gain: list[float]) -> Steps:
    return steps_of(np.array(worth), np.array(cost), np.array(gain))


@given(problems(), st.integers(0, 40))
def test_the_bound_is_above_the_best_and_no_choice_is_worth_more_than_told(
    problem: tuple, budget: int
) -> None:
    found = fill(solved(*problem), float(budget))
    most = best(*problem, budget)
    assert found.cost <= budget * (1 + 1e-9)
    assert found.value <= most + 1e-9
    assert found.bound >= most - 1e-9
    assert found.value == 0 or found.value * (1 + found.more) >= most - 1e-9


@given(problems())
def test_every_prefix_is_the_best_at_its_cost(problem: tuple) -> None:
    steps = solved(*problem)
    for k in range(len(steps) + 1):
        if k < len(steps) and steps.cost[k] == 0:
            continue  # The next step is free.
        cost, value = float(steps.cost[:k].sum()), float(steps.value[:k].sum())
        assert value == pytest.approx(best(*problem, cost + 1e-9))


@given(problems())
def test_steps_of_a_unit_add_up_to_one_technique(problem: tuple) -> None:
    worth, cost, gain = problem
    steps = solved(*problem)
    spent, gone, has = {}, {}, {}
    for unit, t, c, g in zip(
        steps.unit.tolist(), steps.technique.tolist(), steps.cost, steps.gain, strict=True
    ):
        spent[unit], gone[unit] = spent.get(unit, 0) + c, gone.get(unit, 0) + g
        has[unit] = t
        assert spent[unit] == pytest.approx(cost[unit][t])
        assert gone[unit] == pytest.approx(gain[t])
    assert set(has) == {u for u in range(len(worth)) if worth[u] > 0 and max(gain) > 0}


def test_a_technique_below_the_hull_is_never_used() -> None:
    rungs = hull(np.array([1.0, 2.0, 4.0]), np.array([0.4, 0.5, 1.0]))
    assert [(r.technique, r.cost) for r in rungs] == [(0, 1.0), (2, 3.0)]


def test_no_second_step_without_the_first() -> None:
    """The way from 5 to 6 would fit into 3, but nothing that costs 6 does."""
    found = fill(solved([10.0], [[5.0, 6.0]], [0.9, 1.0]), 3.0)
    assert (found.value, found.cost) == (0.0, 0.0)


def test_what_does_not_fit_leaves_room_for_what_does() -> None:
    steps = solved([10.0, 3.0, 1.0], [[6.0], [3.0], [2.0]], [1.0])
    found = fill(steps, 5.0)
    assert (found.value, found.cost) == (4.0, 5.0)
