"""The heat map over the PE array: where on the chip a fault changes the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from emulator.campaign.results import Results
from emulator.errors import BadData
from emulator.report.figures.canvas import INK, MUTED, Floats, axes_for, check_drawn, figure_of, style
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PE_REGISTERS = "pe_"
"""How the names of the registers of a PE begin."""


def pe_heat_map(results: Results, *, ax: Axes | None = None) -> Axes:
    """SDC-1 rate of live sites over the PE array (rows x cols), all pe_* registers together, in per cent.

    Row 0 is on top, where partial sums enter; activations enter at column 0. Neighbouring PEs are pooled
    until a cell has about 50 trials, then until cells can be told apart, in the end all of them to one cell of one
    colour; cells without trials stay blank. The title tells the interval of a typical cell. Raises BadData if no trial
    struck a PE.
    """
    from matplotlib.ticker import MaxNLocator

    check_drawn(results)
    cells = _pooled(results)
    rate = 100 * cells.rate()
    ax = axes_for(ax, 3.2, layout="compressed")
    image = ax.imshow(
        rate,
        cmap="cividis",
        vmin=0,
        # One colour has no scale: not that of the highest rate.
        vmax=(2 if cells.alike else 1) * np.nanmax(rate) or 1.0,
        interpolation="nearest",
        extent=(-0.5, rate.shape[1] * cells.side - 0.5, rate.shape[0] * cells.side - 0.5, -0.5),
    )
    ax.set(xlim=(-0.5, cells.cols - 0.5), ylim=(cells.rows - 0.5, -0.5))
    if not cells.alike:
        bar = figure_of(ax).colorbar(image, ax=ax, fraction=0.046, pad=0.03)
        bar.set_label("SDC-1 rate of live sites (%)", color=INK, fontsize=9)
        bar.ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=9, length=3)
        bar.outline.set_visible(False)
    style(ax, "PE column", "PE row", grid=None)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    ax.set_title(_title(cells), color=MUTED, fontsize=8.5)
    return ax


def _title(cells: _Cells) -> str:
    value, low, high = cells.typical().percent()
    if cells.alike:
        return f"PEs can't be told apart by these trials\nSDC-1 rate of live sites, all PEs: {value} % [{low}, {high}]"
    size = "a PE" if cells.side == 1 else f"{cells.side} × {cells.side} PEs"
    return f"typical cell ({size}): {value} % [{low}, {high}]"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cells:
    """Trials that struck a PE, pooled. side: PEs along the side of a cell; cell (trials,): where each fell, in a grid
    of `shape`."""

    rows: int
    cols: int
    side: int
    cell: npt.NDArray[np.int64]
    event: npt.NDArray[np.bool_]
    weight: Floats
    max_weight: float

    @property
    def shape(self) -> tuple[int, int]:
        return -(-self.rows // self.side), -(-self.cols // self.side)

    def rate(self) -> Floats:
        """Of each cell; NaN where nothing was tried."""
        found, total = (self._sums(weights) for weights in (self.weight * self.event, self.weight))
        rate = np.divide(found, total, out=np.full(total.shape, np.nan), where=total > 0)
        return np.asarray(rate.reshape(self.shape), np.float64)

    @property
    def alike(self) -> bool:
        """Are all PEs one cell?"""
        return self.shape == (1, 1)

    def told_apart(self) -> bool:
        """Is there no rate that all cells may have? Bonferroni: all intervals together miss with at most 5 %."""
        tried = np.unique(self.cell)
        found = [self._estimate(cell, 1 - 0.05 / len(tried)) for cell in tried]
        return max(e.low for e in found) > min(e.high for e in found)

    def typical(self) -> Estimate:
        """The cell with the median number of trials, of those that have any."""
        count = self._sums(np.ones(len(self.cell)))
        tried = np.flatnonzero(count)
        return self._estimate(tried[np.argsort(count[tried], kind="stable")[len(tried) // 2]])

    def _estimate(self, cell: np.int64, confidence: float = 0.95) -> Estimate:
        chosen = self.cell == cell
        return ratio(
            self.event[chosen], self.weight[chosen], max_weight=self.max_weight, confidence=confidence
        )

    def _sums(self, weights: Floats) -> Floats:
        return np.bincount(self.cell, weights, self.shape[0] * self.shape[1]).astype(np.float64)


def in_pe(results: Results) -> npt.NDArray[np.bool_]:
    """(trials,) did it strike a register of a PE?"""
    import pandas as pd

    inside = [name for name in results.manifest["registers"] if name.startswith(_PE_REGISTERS)]
    return np.asarray(pd.Series(results.column("register")).isin(inside))


def _pooled(results: Results) -> _Cells:
    struck = in_pe(results)
    if not struck.any():
        raise BadData("heat map: no trial struck a register of a PE (pe_*). Run with --registers pe_a,pe_b.")
    rows, cols = int(results.manifest["array"]["rows"]), int(results.manifest["array"]["cols"])
    side = 1
    while struck.sum() * side**2 < 50 * rows * cols and side < max(rows, cols):
        side *= 2
    cells = _cells(results, struck, rows, cols, side)
    while not (cells.alike or cells.told_apart()):
        cells = _cells(results, struck, rows, cols, 2 * cells.side)
    return cells


def _cells(results: Results, struck: npt.NDArray[np.bool_], rows: int, cols: int, side: int) -> _Cells:
    row, col = (results.column(name)[struck].astype(np.int64) // side for name in ("row", "col"))
    return _Cells(
        rows=rows,
        cols=cols,
        side=side,
        cell=row * -(-cols // side) + col,
        event=results.column("sdc1")[struck],
        weight=results.weight[struck],
        max_weight=results.max_weight,
    )
