"""A figure as a part of the page: an <svg> with ids of its own, in the colours of the page's theme."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from emulator.report.figures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Figures are drawn in the light theme; their colours become variables that the page sets for either theme.
_THEME = {
    canvas.INK: "ink",
    canvas.MUTED: "muted",
    canvas.GRID: "grid",
    canvas.GREY: "grey",
    canvas.BLUE: "blue",
    canvas.ORANGE: "orange",
    canvas.SKY: "sky",
    canvas.PAPER: "card",
}


def inline_svg(axes: Axes, name: str) -> str:
    """The figure as an <svg> that fits into a page: no prolog, no metadata, own ids, themed colours."""
    import matplotlib as mpl

    file = io.StringIO()
    # Text stays text: small, searchable, in the font of the page. The salt makes the ids reproducible.
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        canvas.figure_of(axes).savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg).replace("xlink:href=", "href=")
    for colour, variable in _THEME.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg
