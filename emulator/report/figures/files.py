"""Figures as files: pixels, or vectors for papers. The same figure gives the same file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emulator.errors import BadConfig
from emulator.report.figures.canvas import PAPER, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What a file is not to hold, by its ending, so that the same figure gives the same file.
_ENDINGS: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

# Publishers refuse Type 3 fonts, matplotlib's default.
_TRUETYPE = 42


def check_figure_path(path: Path) -> None:
    """Raise BadConfig where `save_figure` has no format for this ending."""
    if path.suffix not in _ENDINGS:
        raise BadConfig(f"figure {str(path)!r}; allowed: {', '.join(_ENDINGS)}. Change the ending.")


def save_figure(ax: Axes, path: Path) -> None:
    """Write the figure of `ax` as .png, .svg or .pdf. Raises BadConfig for another ending or a file that can't be
    written."""
    import matplotlib as mpl

    check_figure_path(path)
    try:
        with mpl.rc_context({"svg.hashsalt": "emulator", "pdf.fonttype": _TRUETYPE}):
            figure_of(ax).savefig(path, dpi=200, facecolor=PAPER, metadata=_ENDINGS[path.suffix])
    except OSError as error:
        raise BadConfig(f"{str(path)!r} can't be written: {error.strerror}. Choose another file.") from error
