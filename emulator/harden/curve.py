"""The Pareto curve: what is left of the SDC rate against what protection costs, from nothing to everything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """What fits into budgets, the smallest first: share (points,) of the size that it costs; removed (points,) share of
    the rate, on trials that had no say; optimistic (points,): the same on those that chose."""

    share: Floats
    removed: Floats
    optimistic: Floats

    def smallest(self, target: float) -> int | None:
        """The first point at which `target` of the rate is removed; None: none."""
        reached = np.flatnonzero(self.removed >= target * (1 - 1e-12))
        return int(reached[0]) if len(reached) else None

    def to_json(self) -> dict[str, list[float]]:
        """All of it, as plain lists."""
        return {name: getattr(self, name).tolist() for name in ("share", "removed", "optimistic")}
