"""Figures: pure functions of results, `figure(results, *, ax=None) -> Axes`, or of one fault explained. Nothing here
draws to a screen.

Without `ax` a figure makes its own Figure object; pyplot and its global state are never touched. Colours are
those of Okabe & Ito, and cividis: told apart by every kind of colour vision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from emulator.array.tiling import Schedule
from emulator.campaign.error_rates import Point
from emulator.campaign.explain import Explanation
from emulator.campaign.results import Results
from emulator.errors import BadConfig, BadData
from emulator.sampling.estimate import Estimate, grouped
from emulator.sampling.estimators import Tally
from emulator.sampling.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

INK, MUTED, GRID, PAPER = "#1d2733", "#667383", "#dde3e9", "#ffffff"
BLUE, ORANGE, GREY, SKY = "#0072b2", "#d55e00", "#a9b4c0", "#56b4e9"
# From large negative to small, then from small positive to large; what is right has no colour of either.
SIGNED = ("#003a5d", BLUE, "#a3cfec", "#f7c49d", ORANGE, "#8a3700")


def pe_heat_map(results: Results, *, ax: Axes | None = None) -> Axes:
    """SDC-1 rate of live sites over the PE array (rows x cols), all pe_* registers together, in per cent.

    Row 0 is on top, where partial sums enter; activations enter at column 0. Neighbouring PEs are pooled
    until a cell has about 50 trials; cells without trials stay blank. Raises BadData if no trial struck a PE.
    """
    from matplotlib.ticker import MaxNLocator

    _check_drawn(results)
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

    With `compare` (a campaign on the same space, uniform, or of another network) its curve is drawn too; without, the
    interval that uniform sampling would have at the same number of trials around the final estimate, which is computed.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    for drawn in (results, compare):
        if drawn is not None:
            _check_drawn(drawn)
    ax = _axes(ax, 3.0)
    ax.set_xscale("log")
    n, value, low, high = _running(results)
    top = _running_band(ax, n, value, low, high, BLUE, results.sampler)
    if compare is not None:
        models = [drawn.manifest["model"] for drawn in (results, compare)]
        other = "" if models[0]["sha256"] == models[1]["sha256"] else f" on {models[1]['name']}"
        top = max(top, _running_band(ax, *_running(compare), ORANGE, f"{compare.sampler}{other} (compared)"))
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
    ax = _axes(ax, 3.2)
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
    _style(ax, f"added {unit} (% of the unprotected)", "SDC-FIT left (%)", grid="y")
    ax.xaxis.set_major_formatter(lambda cost, _: f"{cost:g}")
    ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


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
    ax = _axes(ax, 3.4)
    for place, (name, points) in enumerate(curves.items()):
        _error_rate_band(ax, points, volts, place, name)
    if clean is not None:
        ax.axhline(100 * clean.value, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        _note(ax, 1.01, 100 * clean.value, "no upsets", ax.get_yaxis_transform())
    ax.set_ylim(0, 102)
    wrt = "accuracy (%)" if labelled else "answers as without upsets (%)"
    _style(ax, "supply voltage (V)" if volts else "bit-error rate (upsets a bit and cycle)", wrt, grid="y")
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


# ---- one fault

# Cells to a side of an error map, unless the errors need more or the layer has fewer.
MAP_CELLS = 64


def error_map(explanation: Explanation, plan: Schedule, *, ax: Axes | None = None) -> Axes:
    """Where the errors of one fault lie in the output (m x groups * n) of its layer, and how large they are: signed,
    on a log scale, of accumulators or, where the explanation says so, of requantised words. plan: the layer's; thin
    lines are the boundaries of its folds.

    Of a large layer only the part around the errors is shown.
    """
    size = plan.shape.m, plan.shape.groups * plan.shape.n
    rows, cols = (_around(x, n) for x, n in zip((explanation.m, explanation.n), size, strict=True))
    cells = np.full((len(rows), len(cols)), np.nan)
    cells[explanation.m - rows.start, explanation.n - cols.start] = _signed_log(explanation.delta)
    ax = _axes(ax, 4.2)
    _draw_errors(ax, cells, rows, cols)
    for edges, seen, line in zip(_fold_edges(plan), (rows, cols), (ax.axhline, ax.axvline), strict=True):
        for edge in edges:
            if edge in seen and edge != seen.start:
                # Visible on light and dark cells.
                line(edge - 0.5, color=PAPER, linewidth=1.6)
                line(edge - 0.5, color=INK, linewidth=0.5)
    _style(ax, f"output column n (of {grouped(size[1])})", f"output row m (of {grouped(size[0])})", grid=None)
    ax.set_title(_fault_title(explanation), loc="left", color=INK, fontsize=9)
    if not len(explanation.m):
        nothing = "nothing comes out" if explanation.due else "nothing is wrong"
        ax.text(0.5, 0.5, nothing, color=MUTED, fontsize=9, ha="center", transform=ax.transAxes)
    return ax


# What a file is not to hold, by its ending, so that the same figure gives the same file.
_ENDINGS: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


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
        with mpl.rc_context({"svg.hashsalt": "emulator"}):
            _figure(ax).savefig(path, dpi=200, facecolor=PAPER, metadata=_ENDINGS[path.suffix])
    except OSError as error:
        raise BadConfig(f"{str(path)!r} can't be written: {error.strerror}. Choose another file.") from error


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
    from matplotlib.ticker import MaxNLocator

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
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    if not len(found):
        return
    bar = _figure(ax).colorbar(image, ax=ax, fraction=0.046, pad=0.03)
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
    words = "requantised words" if explanation.at_output else "accumulators"
    wrong = f"{grouped(len(explanation.m))} {words} wrong"
    count = "the layer never completes" if explanation.due else wrong
    return f"{what}\nlayer {explanation.fault.layer} ({explanation.layer_name}), input {explanation.image}: {count}"


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


def _check_drawn(results: Results) -> None:
    """Classes of sites are no draws: they lie in many PEs, and their rates do not converge."""
    if results.counted:
        raise BadConfig(
            f"{results.directory} is a campaign that goes through every site; allowed in this figure: one that draws. "
            "Take another."
        )


def _running(results: Results) -> tuple[Floats, Floats, Floats, Floats]:
    """Trials, and the estimate after so many: value, low, high in per cent."""
    event, weight = results.trials["sdc1"].to_numpy(bool), results.weight
    first = min(len(event), max(20, len(event) // 300))
    sizes = np.unique(np.geomspace(first, len(event), 80).round().astype(int))
    tally, found = Tally(max_weight=results.max_weight), []
    for start, end in pairwise([0, *sizes.tolist()]):
        tally.add(event[start:end], weight[start:end])
        found.append(tally.estimate())
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
