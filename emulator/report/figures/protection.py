"""What protection leaves against what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from emulator.errors import BadConfig
from emulator.report.figures.canvas import BLUE, INK, ORANGE, Floats, axes_for, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def protection_curve(
    share: Floats,
    removed: Floats,
    *,
    optimistic: Floats | None = None,
    marks: Mapping[str, tuple[float, float, float, float]] | None = None,
    unit: str = "area",
    ax: Axes | None = None,
) -> Axes:
    """The SDC-FIT that protection leaves, in per cent of what there is without, against what it costs.

    share (points,): added area (or `unit`) as a fraction, ascending from 0, on a log scale; removed (points,): fraction
    of the SDC-FIT; optimistic (points,): the same as the trials that chose would have it, dashed. marks: by name, cost
    and (value, low, high) of what is removed there. Raises BadConfig where nothing costs anything.
    """
    if not (share > 0).any():
        raise BadConfig(
            "protection curve: no point costs anything; allowed: one share above 0. Protect something."
        )
    ax = axes_for(ax, 3.2)
    ax.set_xscale("log")
    first = float(share[share > 0].min())
    # What costs nothing yet stands at the left edge.
    x = 100 * np.maximum(share, first)
    ax.step(
        x, 100 * (1 - removed), where="post", color=BLUE, linewidth=1.8, label="held-out trials", zorder=3
    )
    if optimistic is not None:
        label = "trials that chose (too good)"
        (line,) = ax.step(x, 100 * (1 - optimistic), where="post", label=label, color=ORANGE, linewidth=1.2)
        line.set_linestyle((0, (4, 2)))
    for place, (name, (cost, value, low, high)) in enumerate((marks or {}).items()):
        at, left = 100 * max(cost, first), 100 * (1 - value)
        ax.vlines(at, 100 * (1 - high), 100 * (1 - low), color=BLUE, linewidth=2.2, alpha=0.45, zorder=2)
        ax.scatter(at, left, s=26, color=BLUE, zorder=4, clip_on=False)
        above = (6, 6 + 12 * place)
        ax.annotate(name, (at, left), above, textcoords="offset points", color=INK, fontsize=8.5)
    ax.set_ylim(0, 100)
    ax.set_xlim(x[0], x[-1] * 1.05)
    style(ax, f"added {unit} (% of the unprotected)", "SDC-FIT left (%)", grid="y")
    ax.xaxis.set_major_formatter(lambda cost, _: f"{cost:g}")
    ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax
