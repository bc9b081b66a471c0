"""One fault explained: where its errors lie in the output of its layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from emulator.array.tiling import Schedule
from emulator.campaign.explain import Explanation
from emulator.report.figures.canvas import BLUE, INK, MUTED, ORANGE, PAPER, Floats, axes_for, figure_of, style
from emulator.sampling.estimate import grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ints = npt.NDArray[np.int64]

# From large negative to small, then from small positive to large; what is right has no colour of either.
SIGNED = ("#003a5d", BLUE, "#a3cfec", "#f7c49d", ORANGE, "#8a3700")

# Cells to a side of an error map, unless the errors need more or the layer has fewer.
MAP_CELLS = 64


def error_map(explanation: Explanation, *, ax: Axes | None = None) -> Axes:
    """Where the errors of one fault lie in the output (m x groups * n) of its layer, and how large they are: signed,
    on a log scale, of accumulators or, where the explanation says so, of requantised words. Thin lines are the
    boundaries of the layer's folds.

    Of a large layer only the part around the errors is shown.
    """
    plan = explanation.plan
    size = plan.shape.m, plan.shape.groups * plan.shape.n
    rows, cols = (_around(x, n) for x, n in zip((explanation.m, explanation.n), size, strict=True))
    cells = np.full((len(rows), len(cols)), np.nan)
    cells[explanation.m - rows.start, explanation.n - cols.start] = _signed_log(explanation.delta)
    ax = axes_for(ax, 4.2)
    _draw_errors(ax, cells, rows, cols)
    for edges, seen, line in zip(_fold_edges(plan), (rows, cols), (ax.axhline, ax.axvline), strict=True):
        for edge in edges:
            if edge in seen and edge != seen.start:
                # Visible on light and dark cells.
                line(edge - 0.5, color=PAPER, linewidth=1.6)
                line(edge - 0.5, color=INK, linewidth=0.5, label="boundary of folds")
    style(ax, f"output column n (of {grouped(size[1])})", f"output row m (of {grouped(size[0])})", grid=None)
    ax.set_title(_fault_title(explanation), loc="left", color=INK, fontsize=9)
    _name_lines(ax)
    if not len(explanation.m):
        nothing = "nothing comes out" if explanation.due else "nothing is wrong"
        ax.text(0.5, 0.5, nothing, color=MUTED, fontsize=9, ha="center", transform=ax.transAxes)
    return ax


def _name_lines(ax: Axes) -> None:
    """Says once what all lines are, below the axes."""
    named = [line for line in ax.lines if line.get_label() == "boundary of folds"]
    if named:
        ax.legend(
            handles=named[:1],
            frameon=False,
            fontsize=8.5,
            labelcolor=INK,
            loc="upper right",
            bbox_to_anchor=(1, -0.12),
        )


def _around(found: Ints, size: int) -> range:
    """The part of `size` cells to show: that of the errors, widened to MAP_CELLS."""
    low, high = (int(found.min()), int(found.max()) + 1) if len(found) else (0, 0)
    length = max(high - low, min(MAP_CELLS, size))
    start = min(max((low + high - length) // 2, 0), size - length)
    return range(start, start + length)


def _fold_edges(plan: Schedule) -> tuple[list[int], list[int]]:
    """The first rows and the first columns of folds in the layer's output."""
    down, across = plan.m_start, plan.group * plan.streamed.n + plan.n_start
    if plan.spec.dataflow == "is":
        down, across = plan.n_start, plan.group * plan.streamed.m + plan.m_start
    return np.unique(down).tolist(), np.unique(across).tolist()


def _signed_log(delta: Ints) -> Floats:
    """sign x (1 + log2 |delta|)."""
    return np.asarray(np.sign(delta) * (1 + np.log2(np.maximum(np.abs(delta), 1))), np.float64)


def _draw_errors(ax: Axes, cells: Floats, rows: range, cols: range) -> None:
    """The coloured cells, their scale, and axes that count in the layer's rows and columns."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import FixedLocator, MaxNLocator

    found = cells[~np.isnan(cells)]
    top = max(float(np.abs(found).max(initial=0)), 8.0)
    half = [(x / 2, colour) for x, colour in zip((0, 0.5, 1), SIGNED[:3], strict=True)]
    half += [(0.5 + x / 2, colour) for x, colour in zip((0, 0.5, 1), SIGNED[3:], strict=True)]
    image = ax.imshow(
        cells,
        cmap=LinearSegmentedColormap.from_list("signed", half).with_extremes(bad="#eef1f4"),
        vmin=-top,
        vmax=top,
        interpolation="nearest",
        aspect="auto",
        extent=(cols.start - 0.5, cols.stop - 0.5, rows.stop - 0.5, rows.start - 0.5),
    )
    for axis, seen in ((ax.xaxis, cols), (ax.yaxis, rows)):
        # Of a single row or column MaxNLocator would put fractions.
        axis.set_major_locator(MaxNLocator(8, integer=True) if len(seen) > 1 else FixedLocator([seen.start]))
    if not len(found):
        return
    bar = figure_of(ax).colorbar(image, ax=ax, fraction=0.046, pad=0.03)
    powers = np.unique(np.linspace(0, int(top) - 1, 5).astype(int))
    ticks = [*(-1.0 - powers[::-1]), *(1.0 + powers)]
    bar.set_ticks(ticks, labels=[f"{'−' if x < 0 else '+'}$2^{{{abs(x) - 1:.0f}}}$" for x in ticks])
    bar.set_label("error, faulty − golden", color=INK, fontsize=9)
    bar.ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=9, length=3)
    bar.outline.set_visible(False)


def _fault_title(explanation: Explanation) -> str:
    u = explanation.fault.upset
    bits = ",".join(map(str, u.bits))
    lasting = f" to {'the end' if u.until_cycle is None else u.until_cycle}" if u.kind != "flip" else ""
    what = f"{u.kind} of bit {bits} in {u.register}[{u.row}, {u.col}], cycle {u.cycle}{lasting}"
    word = "requantised word" if explanation.at_output else "accumulator"
    wrong = f"{grouped(len(explanation.m))} {word}{'s' * (len(explanation.m) != 1)} wrong"
    count = "the layer never completes" if explanation.due else wrong
    return f"{what}\nlayer {explanation.fault.layer} ({explanation.layer_name}), input {explanation.image}: {count}"
