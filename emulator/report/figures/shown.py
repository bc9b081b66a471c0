"""Axes that a notebook shows: the figure of the last expression of a cell, without pyplot."""

from __future__ import annotations

from io import BytesIO

from matplotlib.axes import Axes

from emulator.report.figures.canvas import PAPER, figure_of

# Pixels an inch on the page, and stored: more, for sharp letters on fine screens.
_SCREEN, _STORED = 110, 165


class ShownAxes(Axes):
    """matplotlib's axes, with the picture of their whole figure beside the repr."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The figure as PNG on white, and its width on the page in pixels; the same figure gives the same bytes."""
        figure = figure_of(self)
        picture = BytesIO()
        figure.savefig(picture, format="png", dpi=_STORED, facecolor=PAPER, metadata={"Software": None})
        return picture.getvalue(), {"width": round(figure.get_figwidth() * _SCREEN)}
