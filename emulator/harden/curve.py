"""The Pareto curve: what is left of the SDC rate against what protection costs, from nothing to everything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.harden.knapsack import Steps

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SHOWN = 400


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """After each step, the first point before any: share (points,) of the size that it costs; removed (points,) share
    of the rate, on trials that had no say; optimistic (points,): the same on those that chose."""

    share: Floats
    removed: Floats
    optimistic: Floats

    def smallest(self, target: float) -> int | None:
        """The number of steps after which `target` of the rate is removed; None: never."""
        reached = np.flatnonzero(self.removed >= target * (1 - 1e-12))
        return int(reached[0]) if len(reached) else None

    def shown(self) -> Curve:
        """Some SHOWN points, in equal ratios of cost."""
        last = len(self.share) - 1
        if last < SHOWN:
            return self
        start = max(float(self.share[1]), 1e-4 * float(self.share[-1]))
        wanted = np.geomspace(start, self.share[-1], SHOWN)
        index = np.unique(np.append(np.searchsorted(self.share, wanted).clip(0, last), (0, last)))
        return Curve(share=self.share[index], removed=self.removed[index], optimistic=self.optimistic[index])

    def to_json(self) -> dict[str, list[float]]:
        """Some points of it, as plain lists."""
        shown = self.shown()
        return {name: getattr(shown, name).tolist() for name in ("share", "removed", "optimistic")}


def curve_of(steps: Steps, size: float, judged: Floats, chose: Floats) -> Curve:
    """judged, chose (units,): the sum of amounts in each unit, of the trials that judge and of those that chose."""
    return Curve(
        share=_from_zero(steps.cost) / size,
        removed=_removed(steps, judged),
        optimistic=_removed(steps, chose),
    )


def _removed(steps: Steps, amount: Floats) -> Floats:
    return _from_zero(steps.gain * amount[steps.unit]) / max(float(amount.sum()), 1e-300)


def _from_zero(x: Floats) -> Floats:
    return np.concatenate(([0.0], np.cumsum(x)))
