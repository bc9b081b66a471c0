"""The picture of a protection: what is left against what it costs, with the points that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emulator.harden.bought import Bought
from emulator.harden.protection import Protection
from emulator.report.figures.protection import protection_curve


def pareto_curve(
    protection: Protection,
    *,
    budgets: Sequence[float] = (0.01,),
    targets: Sequence[float] = (0.9,),
    ax: Any = None,
) -> Any:
    """`protection_curve` (matplotlib's Axes) with the intervals at some budgets, shares of the size, and at the
    cheapest points that remove these shares of the SDC-FIT, if there are any."""
    curve = protection.curve_through(budgets)
    marks: dict[str, Bought | None] = {f"{100 * share:g} %": protection.within(share) for share in budgets}
    marks |= {f"{100 * target:g} % less": protection.smallest(target) for target in targets}
    points = {
        name: (bought.share, bought.removed.value, bought.removed.low, bought.removed.high)
        for name, bought in marks.items()
        if bought is not None
    }
    unit = "cycles" if protection.units.in_time else "area"
    return protection_curve(
        curve.share, curve.removed, optimistic=curve.optimistic, marks=points, unit=unit, ax=ax
    )
