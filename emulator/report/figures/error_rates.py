"""Accuracy against the bit-error rate, or the supply voltage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from emulator.campaign.error_rates import Point
from emulator.report.figures.canvas import BLUE, GREY, INK, MUTED, ORANGE, SKY, axes_for, note, style
from emulator.sampling.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def error_rate_curves(
    curves: Mapping[str, Sequence[Point]],
    *,
    clean: Estimate | None = None,
    labelled: bool = True,
    volts: Mapping[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Accuracy, in per cent, against the bit-error rate (log scale), or where given against the supply voltage.

    curves: by name, points of ascending rate, with the interval of each as a band; of a single one the live upsets an
    inference are on the upper axis. clean: the accuracy without upsets, dashed; labelled: it is against labels, not the
    fault-free answers. volts: by bit-error rate.
    """
    ax = axes_for(ax, 3.4)
    for place, (name, points) in enumerate(curves.items()):
        _error_rate_band(ax, points, volts, place, name)
    if clean is not None:
        ax.axhline(100 * clean.value, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        note(ax, 1.01, 100 * clean.value, "no upsets", ax.get_yaxis_transform())
    ax.set_ylim(0, 102)
    wrt = "accuracy (%)" if labelled else "answers as without upsets (%)"
    style(ax, "supply voltage (V)" if volts else "bit-error rate (upsets a bit and cycle)", wrt, grid="y")
    if not volts:
        ax.set_xscale("log")
        if len(curves) == 1:
            _live_upsets_above(ax, next(iter(curves.values())))
    ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower right" if volts else "lower left")
    return ax


def _error_rate_band(
    ax: Axes, points: Sequence[Point], volts: Mapping[float, float] | None, place: int, name: str
) -> None:
    """The curve drawn as the `place`-th: colours and markers first, then line styles."""
    again, kind = divmod(place, 5)
    colour, marker = (BLUE, ORANGE, INK, SKY, GREY)[kind], "osD^v"[kind]
    x = [volts[p.bit_error_rate] if volts else p.bit_error_rate for p in points]
    value, low, high = (
        [100 * getattr(p.accuracy, field) for p in points] for field in ("value", "low", "high")
    )
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    style = ("-", "--", ":", "-.")[again % 4]
    ax.plot(x, value, color=colour, marker=marker, linestyle=style, markersize=4, linewidth=1.6, label=name)


def _live_upsets_above(ax: Axes, points: Sequence[Point]) -> None:
    if not points:
        return
    live = points[0].live_upsets / points[0].bit_error_rate
    above = ax.secondary_xaxis(
        "top", functions=(lambda x: np.asarray(x) * live, lambda x: np.asarray(x) / live)
    )
    above.set_xlabel("live upsets an inference", color=INK, fontsize=9)
    above.tick_params(colors=MUTED, labelcolor=INK, labelsize=9, length=3)
    above.spines["top"].set_visible(False)
