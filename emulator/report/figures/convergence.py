"""How the estimate settles as trials come in, against uniform sampling or another campaign."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from emulator.campaign.results import Results
from emulator.report.figures.canvas import BLUE, INK, ORANGE, Floats, axes_for, check_drawn, style
from emulator.sampling.estimate import grouped
from emulator.sampling.estimators import Tally
from emulator.sampling.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told from a solid line without any colour.
_DASHES = (0, (4, 2))


def convergence(results: Results, *, compare: Results | None = None, ax: Axes | None = None) -> Axes:
    """The running SDC-1 estimate of live sites against trials, with its interval, in per cent.

    With `compare` (a campaign on the same space, uniform, or of another network) its curve is drawn too; without, the
    interval that uniform sampling would have at the same number of trials around the final estimate, which is computed.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    for drawn in (results, compare):
        if drawn is not None:
            check_drawn(drawn)
    ax = axes_for(ax, 2.9)
    ax.set_xscale("log")
    running = _running(results)
    own, others = (results.sampler, "") if compare is None else names_of(results, compare)
    top = _draw(ax, running, BLUE, own)
    if compare is not None:
        models = [drawn.manifest["model"] for drawn in (results, compare)]
        on = "" if models[0]["sha256"] == models[1]["sha256"] else f" on {models[1]['name']}"
        label = f"{others}{on} (compared)"
        top = max(top, _draw(ax, _running(compare), ORANGE, label, dashes=_DASHES))
    elif results.sampler != "uniform":
        rate = running.value[-1] / 100
        edges = 100 * np.array([wilson(rate * k, k) for k in running.trials])
        label = "uniform, 95 % interval (computed)"
        for column, name in ((0, "_"), (1, label)):
            ax.plot(
                running.trials, edges[:, column], color=ORANGE, linewidth=1.2, linestyle=_DASHES, label=name
            )
    ax.set_ylim(0, top)
    last = len(results) if compare is None else max(len(results), len(compare))
    ax.set_xlim(running.trials[0], max(last, running.trials[0] + 1))
    style(ax, "trials", "SDC-1 rate of live sites (%)", grid="y")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(lambda trials, _: grouped(trials))
    ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower left", bbox_to_anchor=(0, 1), ncols=1)
    return ax


def names_of(results: Results, compare: Results) -> tuple[str, str]:
    """What tells two campaigns apart: their samplers, else their directories, by their last names if these differ."""
    both = results, compare
    if results.sampler != compare.sampler:
        return results.sampler, compare.sampler
    last = results.directory.name != compare.directory.name
    own, other = (campaign.directory.name if last else str(campaign.directory) for campaign in both)
    return own, other


class _Running(NamedTuple):
    """After so many trials, (points,) each: the estimate and its interval in per cent."""

    trials: Floats
    value: Floats
    low: Floats
    high: Floats


def _running(results: Results) -> _Running:
    event, weight = results.column("sdc1"), results.weight
    first = min(len(event), max(20, len(event) // 300))
    sizes = np.unique(np.geomspace(first, len(event), 80).round().astype(int))
    tally, found = Tally(max_weight=results.max_weight), []
    for start, end in pairwise([0, *sizes.tolist()]):
        tally.add(event[start:end], weight[start:end])
        found.append(tally.estimate())
    value, low, high = 100 * np.array([[e.value, e.low, e.high] for e in found]).T
    return _Running(sizes.astype(np.float64), value, low, high)


def _draw(ax: Axes, running: _Running, colour: str, label: str, dashes: Any = "solid") -> float:
    """Draws one curve; gives the height that shows its end, not its wild beginning."""
    n, value, low, high = running
    ax.fill_between(n, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
    ax.plot(n, value, color=colour, linewidth=1.8, linestyle=dashes, label=label, zorder=3)
    return float(min(1.1 * high[len(high) // 4], 6 * high[-1]))
