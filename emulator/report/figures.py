"""Figures: pure functions of results, `figure(results, *, ax=None) -> Axes`. Nothing here draws to a screen.

Without `ax` a figure makes its own Figure object; pyplot and its global state are never touched. Colours are
those of Okabe & Ito, and cividis: told apart by every kind of colour vision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from emulator.campaign.results import Results
from emulator.errors import BadConfig, BadData
from emulator.sampling.estimate import grouped
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

INK, MUTED, GRID, PAPER = "#1d2733", "#667383", "#dde3e9", "#ffffff"
BLUE, ORANGE, GREY, SKY = "#0072b2", "#d55e00", "#a9b4c0", "#56b4e9"


def pe_heat_map(results: Results, *, ax: Axes | None = None) -> Axes:
    """SDC-1 rate of live sites over the PE array (rows x cols), all pe_* registers together, in per cent.

    Row 0 is on top, where partial sums enter; activations enter at column 0. Neighbouring PEs are pooled
    until a cell has about 50 trials; cells without trials stay blank. Raises BadData if no trial struck a PE.
    """
    from matplotlib.ticker import MaxNLocator

    rows, cols = int(results.manifest["array"]["rows"]), int(results.manifest["array"]["cols"])
    rate, block, count = _pe_rates(results, rows, cols)
    ax = _axes(ax, 3.7, layout="compressed")
    image = ax.imshow(
        100 * rate,
        cmap="cividis",
        vmin=0,
        vmax=100 * np.nanmax(rate) or 1.0,
        interpolation="nearest",
        extent=(-0.5, rate.shape[1] * block - 0.5, rate.shape[0] * block - 0.5, -0.5),
    )
    ax.set(xlim=(-0.5, cols - 0.5), ylim=(rows - 0.5, -0.5))
    bar = _figure(ax).colorbar(image, ax=ax, fraction=0.046, pad=0.03)
    bar.set_label("SDC-1 rate of live sites (%)", color=INK, fontsize=9)
    bar.ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=9, length=3)
    bar.outline.set_visible(False)
    _style(ax, "PE column", "PE row", grid=None)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    cell = "a PE" if block == 1 else f"a cell of {block} × {block} PEs"
    ax.set_title(f"median {grouped(float(np.median(count)))} trials {cell}", color=MUTED, fontsize=8.5)
    return ax


def _pe_rates(results: Results, rows: int, cols: int) -> tuple[Floats, int, Floats]:
    """(rate of each cell, NaN where nothing was tried; PEs along the side of a cell; trials of each cell)."""
    struck = results.trials["register"].astype(str).str.startswith("pe_").to_numpy(bool)
    if not struck.any():
        raise BadData("heat map: no trial struck a register of a PE (pe_*). Run with --registers pe_a,pe_b.")
    trials, weight = results.trials[struck], results.weight[struck]
    block = 1
    while struck.sum() * block**2 < 50 * rows * cols and block < min(rows, cols) // 2:
        block *= 2
    shape = -(-rows // block), -(-cols // block)
    cell = trials["row"].to_numpy(np.int64) // block * shape[1] + trials["col"].to_numpy(np.int64) // block
    event = trials["sdc1"].to_numpy(np.float64)
    found, total, count = (
        np.bincount(cell, weights, shape[0] * shape[1]).reshape(shape).astype(np.float64)
        for weights in (weight * event, weight, np.ones(len(weight)))
    )
    return np.divide(found, total, out=np.full(shape, np.nan), where=total > 0), block, count


def rate_by(
    results: Results, *, key: Literal["layer", "register", "bit"] = "layer", ax: Axes | None = None
) -> Axes:
    """SDC-1 rate of live sites of each layer, register or bit, with its interval, in per cent."""
    if key not in ("layer", "register", "bit"):
        raise BadConfig(f"rate_by: key={key!r}; allowed: 'layer', 'register', 'bit'.")
    frame = results.by(key)
    value, low, high = (100 * frame[name].to_numpy(np.float64) for name in ("value", "low", "high"))
    if key == "bit":
        return _rates_upright(_axes(ax, 3.6), frame["bit"].to_numpy(), value, low, high)
    names = [str(name) for name in frame[key]]
    ax = _axes(ax, 0.9 + 0.29 * max(4, len(names)))
    _rates_lying(ax, names, value, low, high)
    for y, n in enumerate(frame["n"]):
        _note(ax, 1.02, y, grouped(n), ax.get_yaxis_transform())
    _note(ax, 1.02, 1.04, "trials", ax.transAxes)
    overall = 100 * results.rate().value
    ax.axvline(overall, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ax.set_title(
        f"dashed: all together, {results.rate().percent()[0]} %", loc="left", color=MUTED, fontsize=8.5
    )
    return ax


def masking_funnel(results: Results, *, ax: Axes | None = None) -> Axes:
    """Where faults in live sites end: the share masked at each stage, and what reaches the answer.

    Dead sites are stated, not drawn: they are most of the population and would hide the rest.
    """
    parts = _live_stages(results)
    ax = _axes(ax, 2.9)
    ax.text(1.2, 0, f"{_percent(1 - results.live_share)} of all faults", color=INK, fontsize=9, va="center")
    left = 0.0
    for y, (_, value, colour) in enumerate(parts, start=1):
        ax.barh(y, 100 * value, left=100 * left, height=0.68, color=colour, zorder=2)
        x, side = (100 * left - 1.2, "right") if left > 0.5 else (100 * (left + value) + 1.2, "left")
        ax.text(x, y, _percent(value), ha=side, va="center", color=INK, fontsize=9)
        left += value
    ax.set_yticks(range(len(parts) + 1), ["dead: register not live", *(name for name, *_ in parts)])
    ax.set(xlim=(0, 100), ylim=(len(parts) + 0.5, -0.5))
    _style(ax, "share of faults in live sites (%)", "", grid="x")
    ax.tick_params(axis="y", length=0)
    return ax


def _live_stages(results: Results) -> list[tuple[str, float, str]]:
    """(stage, share of live sites, colour) in the order a fault meets them; the shares add up to 1."""
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


def convergence(results: Results, *, compare: Results | None = None, ax: Axes | None = None) -> Axes:
    """The running SDC-1 estimate of live sites against trials, with its interval, in per cent.

    With `compare` (a uniform campaign on the same space) its curve is drawn too; without, the interval that
    uniform sampling would have at the same number of trials around the final estimate, which is computed.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    ax = _axes(ax, 3.0)
    ax.set_xscale("log")
    n, value, low, high = _running(results)
    top = _running_band(ax, n, value, low, high, BLUE, results.sampler)
    if compare is not None:
        top = max(top, _running_band(ax, *_running(compare), ORANGE, f"{compare.sampler} (compared)"))
    elif results.sampler != "uniform":
        edges = 100 * np.array([wilson(value[-1] / 100 * k, k) for k in n])
        label = "uniform, 95 % interval (computed)"
        for column, name in ((0, "_"), (1, label)):
            ax.plot(n, edges[:, column], color=ORANGE, linewidth=1.2, linestyle=(0, (4, 2)), label=name)
    ax.set_ylim(0, top)
    last = len(results) if compare is None else max(len(results), len(compare))
    ax.set_xlim(n[0], max(last, n[0] + 1))
    _style(ax, "trials", "SDC-1 rate of live sites (%)", grid="y")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(lambda trials, _: grouped(trials))
    ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


# ---- pieces


def _rates_lying(ax: Axes, names: list[str], value: Floats, low: Floats, high: Floats) -> None:
    y = np.arange(len(names))
    ax.hlines(y, low, high, color=BLUE, linewidth=2.2, alpha=0.45, zorder=2)
    ax.scatter(value, y, s=26, color=BLUE, zorder=3, clip_on=False)
    ax.set_yticks(y, names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, _reach(value, high))
    _style(ax, "SDC-1 rate of live sites (%)", "", grid="x")
    ax.tick_params(axis="y", length=0, pad=7)


def _rates_upright(ax: Axes, bit: npt.NDArray[Any], value: Floats, low: Floats, high: Floats) -> Axes:
    from matplotlib.ticker import MultipleLocator

    ax.vlines(bit, low, high, color=BLUE, linewidth=2.2, alpha=0.45, zorder=2)
    ax.scatter(bit, value, s=22, color=BLUE, zorder=3, clip_on=False)
    ax.set_ylim(0, _reach(value, high))
    ax.set_xlim(-0.8, max(7, int(bit.max())) + 0.8)
    ax.xaxis.set_major_locator(MultipleLocator(4))
    _style(ax, "struck bit (0 = least significant)", "SDC-1 rate of live sites (%)", grid="y")
    return ax


def _running(results: Results) -> tuple[Floats, Floats, Floats, Floats]:
    """Trials, and the estimate after so many: value, low, high in per cent."""
    event, weight = results.trials["sdc1"].to_numpy(bool), results.weight
    first = min(len(event), max(20, len(event) // 300))
    sizes = np.unique(np.geomspace(first, len(event), 80).round().astype(int))
    found = [hansen_hurwitz(event[:n], weight[:n], max_weight=results.max_weight) for n in sizes]
    value, low, high = 100 * np.array([[e.value, e.low, e.high] for e in found]).T
    return sizes.astype(np.float64), value, low, high


def _running_band(
    ax: Axes, n: Floats, value: Floats, low: Floats, high: Floats, colour: str, label: str
) -> float:
    """Draws one curve; gives the height that shows all but its wild beginning."""
    ax.fill_between(n, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
    ax.plot(n, value, color=colour, linewidth=1.8, label=label, zorder=3)
    return float(1.1 * high[len(high) // 4])


def _reach(value: Floats, high: Floats) -> float:
    """An axis limit that shows the estimates; a hopelessly wide interval may run out of the figure."""
    return float(1.05 * min(high.max(), max(3 * value.max(), np.median(high))))


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 0.01 else f"{100 * value:.1f} %"


def _axes(
    ax: Axes | None, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Axes:
    """`ax`, or axes on a new figure that no global state knows; height in inches."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, height), layout=layout, facecolor="none")
    return figure.add_subplot(facecolor="none")


def _figure(ax: Axes) -> Any:
    return ax.get_figure(root=True)


def _style(ax: Axes, xlabel: str, ylabel: str, *, grid: Literal["x", "y"] | None) -> None:
    ax.set_xlabel(xlabel, color=INK, fontsize=9)
    ax.set_ylabel(ylabel, color=INK, fontsize=9)
    ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=9, length=3)
    for side, spine in ax.spines.items():
        spine.set_visible(grid is not None and side in ("left", "bottom"))
        spine.set_color(GREY)
    if grid:
        ax.grid(axis=grid, color=GRID, linewidth=0.8, zorder=0)
        ax.set_axisbelow(True)


def _note(ax: Axes, x: float, y: float, text: str, transform: Any) -> None:
    ax.text(x, y, text, color=MUTED, fontsize=8.5, va="center", transform=transform)
