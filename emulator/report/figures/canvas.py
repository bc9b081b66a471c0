"""What figures share: colours, axes of their own, how axes look. A figure is a pure function of what it shows,
`figure(results, *, ax=None) -> Axes`; nothing here draws to a screen.

Without `ax` a figure makes its own Figure object; pyplot and its global state are never touched. Colours are
those of Okabe & Ito, and cividis: told apart by every kind of colour vision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from emulator.campaign.results import Results
from emulator.errors import BadConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

INK, MUTED, GRID, PAPER = "#1d2733", "#667383", "#dde3e9", "#ffffff"
BLUE, ORANGE, GREY, SKY = "#0072b2", "#d55e00", "#a9b4c0", "#56b4e9"

WIDTH = 4.6
"""Of a figure, in inches: its 9 pt text is still read where a page shrinks it to a phone, or a paper to a column."""


def axes_for(
    ax: Axes | None, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Axes:
    """`ax`, or axes on a new figure that no global state knows and a notebook shows; height in inches."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    from emulator.report.figures.shown import ShownAxes

    figure = Figure(figsize=(WIDTH, height), layout=layout, facecolor="none")
    return figure.add_subplot(axes_class=ShownAxes, facecolor="none")


def figure_of(ax: Axes) -> Any:
    return ax.get_figure(root=True)


def style(ax: Axes, xlabel: str, ylabel: str, *, grid: Literal["x", "y"] | None) -> None:
    ax.set_xlabel(xlabel, color=INK, fontsize=9)
    ax.set_ylabel(ylabel, color=INK, fontsize=9)
    ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=9, length=3)
    for side, spine in ax.spines.items():
        spine.set_visible(grid is not None and side in ("left", "bottom"))
        spine.set_color(GREY)
    if grid:
        ax.grid(axis=grid, color=GRID, linewidth=0.8, zorder=0)
        ax.set_axisbelow(True)


def note(ax: Axes, x: float, y: float, text: str, transform: Any) -> None:
    ax.text(x, y, text, color=MUTED, fontsize=8.5, va="center", transform=transform)


def check_drawn(results: Results) -> None:
    """Classes of sites are no draws: they lie in many PEs, and their rates do not converge."""
    if results.counted:
        raise BadConfig(
            f"{results.directory} is a campaign that goes through every site; allowed in this figure: one that draws. "
            "Take another."
        )
