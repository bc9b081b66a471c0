"""The masking funnel: where faults end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.campaign.results import Results
from emulator.report.figures.canvas import BLUE, INK, ORANGE, SKY, axes_for, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def masking_funnel(results: Results, *, ax: Axes | None = None) -> Axes:
    """Where faults in live sites end: the share masked at each stage, and what reaches the answer.

    Dead sites are stated, not drawn: they are most of the population and would hide the rest.
    """
    parts = _live_stages(results)
    ax = axes_for(ax, 2.6)
    ax.text(1.2, 0, f"{percent(1 - results.live_share)} of all faults", color=INK, fontsize=9, va="center")
    left = 0.0
    for y, (_, value, colour) in enumerate(parts, start=1):
        ax.barh(y, 100 * value, left=100 * left, height=0.68, color=colour, zorder=2)
        x, side = (100 * left - 1.2, "right") if left > 0.5 else (100 * (left + value) + 1.2, "left")
        ax.text(x, y, percent(value), ha=side, va="center", color=INK, fontsize=9)
        left += value
    ax.set_yticks(range(len(parts) + 1), ["dead: register not live", *(name for name, *_ in parts)])
    ax.set(xlim=(0, 100), ylim=(len(parts) + 0.5, -0.5))
    style(ax, "share of faults in live sites (%)", "", grid="x")
    ax.tick_params(axis="y", length=0)
    return ax


def _live_stages(results: Results) -> list[tuple[str, float, str]]:
    """(stage, share of live sites, colour) in the order a fault meets them; the shares add up to about 1."""
    share = {name: found.value / results.live_share for name, found in results.masked().items()}
    sdc1 = results.rate().value
    return [
        ("array: accumulator unchanged", share["array"], SKY),
        ("requant: rounded away", share["requant"], SKY),
        ("clamp: saturated away", share["clamp"], SKY),
        ("network: gone in a later layer", share["network"], SKY),
        ("output differs, same answer", max(0.0, share["none"] - sdc1), BLUE),
        ("another answer (SDC-1)", sdc1, ORANGE),
    ]


def percent(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 0.01 else f"{100 * value:.1f} %"
