"""How vulnerable each layer, register or bit position is: the AVF with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from emulator.campaign.bit_avf import avf_by_bit
from emulator.campaign.results import Results
from emulator.errors import BadConfig
from emulator.report.figures.canvas import BLUE, GREY, MUTED, PAPER, Floats, axes_for, note, style
from emulator.sampling.estimate import grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ROWS = 20
# So many times the AVF of all together.
_FAR = 30
_LABEL = "AVF: SDC-1 rate of all sites (%)"


def avf_by(
    results: Results, *, key: Literal["layer", "register", "bit"] = "layer", ax: Axes | None = None
) -> Axes:
    """AVF of each layer, register or bit position, dead sites included, with its interval, in per cent.

    Of many layers or registers the MOST_ROWS with the largest part of all SDC-1 faults are shown, in network order.
    Those of which no trial struck a live site are unknown, and left out. Raises BadConfig for another key, and for
    bits of a campaign that goes through every site.
    """
    if key not in ("layer", "register", "bit"):
        raise BadConfig(f"avf_by: key={key!r}; allowed: 'layer', 'register', 'bit'.")
    if key == "bit":
        return _by_bit(results, ax)
    frame = results.summary(by=[key])
    known = frame[(frame["live"] > 0) & (frame["method"] != "no trials")]
    first = known.sort_values("share", ascending=False, kind="stable").head(MOST_ROWS).sort_index()
    ax = axes_for(ax, 0.9 + 0.27 * max(4, len(first)))
    overall = results.population_rate()
    left = _lying(ax, first, overall.value)
    ax.set_yticks(range(len(first)), [str(name) for name in first[key]])
    ax.axvline(max(left, 100 * overall.value), color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ax.set_title(f"dashed: all together, {overall.percent()[0]} %", loc="left", color=MUTED, fontsize=8.5)
    return ax


def _lying(ax: Axes, frame: pd.DataFrame, overall: float) -> float:
    """Draws the rows; gives the left edge. AVFs that lie far apart are told apart on a log scale only."""
    from matplotlib.ticker import LogLocator

    value, low, high = (100 * frame[name].to_numpy(np.float64) for name in ("avf", "avf_low", "avf_high"))
    y, left, limit = np.arange(len(frame)), 0.0, _reach(value, high)
    if value.max() > _FAR * 100 * overall > 0:
        left, limit = 10.0 ** np.floor(np.log10(overall)), 130.0
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=5))
        ax.xaxis.set_major_formatter(lambda rate, _: np.format_float_positional(rate, trim="-"))
    ax.hlines(y, np.maximum(low, left), high, color=BLUE, linewidth=2.2, alpha=0.45, zorder=2)
    _points(ax, np.maximum(value, left), y, value > 0)
    _go_on(ax, np.full(len(y), limit)[high > limit], y[high > limit], ">")
    ax.set_ylim(len(frame) - 0.4, -0.6)
    ax.set_xlim(left, limit)
    style(ax, _LABEL, "", grid="x")
    ax.tick_params(axis="y", length=0, pad=7)
    for place, n in enumerate(frame["n"]):
        note(ax, 1.04, place, grouped(n), ax.get_yaxis_transform())
    note(ax, 1.04, -1.0, "trials", ax.get_yaxis_transform())
    return left


def _by_bit(results: Results, ax: Axes | None) -> Axes:
    from matplotlib.ticker import MultipleLocator

    found = avf_by_bit(results)
    bit = np.array(list(found))
    value, low, high = 100 * np.array([[e.value, e.low, e.high] for e in found.values()]).T
    ax = axes_for(ax, 2.9)
    ax.vlines(bit, low, high, color=BLUE, linewidth=2.2, alpha=0.45, zorder=2)
    _points(ax, bit, value, value > 0)
    limit = _reach(value, high)
    ax.set_ylim(0, limit)
    _go_on(ax, bit[high > limit], np.full(len(bit), limit)[high > limit], "^")
    ax.set_xlim(-0.8, max(7, int(bit.max())) + 0.8)
    ax.xaxis.set_major_locator(MultipleLocator(4))
    style(ax, "struck bit (0 = least significant)", _LABEL, grid="y")
    return ax


def _points(ax: Axes, x: npt.NDArray[Any], y: npt.NDArray[Any], found: npt.NDArray[np.bool_]) -> None:
    """Estimates; hollow where nothing was found, which a log scale can't put in its place."""
    inside = [BLUE if some else PAPER for some in found]
    ax.scatter(x, y, s=22, color=inside, edgecolors=BLUE, linewidths=1.2, zorder=4, clip_on=False)


def _go_on(ax: Axes, x: npt.NDArray[Any], y: npt.NDArray[Any], marker: str) -> None:
    """Arrows where an interval leaves the figure."""
    ax.scatter(x, y, s=22, marker=marker, color=BLUE, zorder=3, clip_on=False)


def _reach(value: Floats, high: Floats) -> float:
    """An axis limit that shows the estimates; a hopelessly wide interval may run out of the figure."""
    return float(1.05 * min(high.max(), max(3 * value.max(), np.median(high)))) or 1.0
