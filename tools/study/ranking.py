"""How well a score ranks faults: against exhaustive tables, in flips; equal scores count in the mean of all orders."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SHARES = (1e-5, 3e-5, 1e-4, 3e-4, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Of all flips, by rank."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Of `flips` flips the share `prevalence` is critical. precision_100 and _1000: among the first so many;
    r_precision: among as many as are critical; recall: found among the first SHARES; auprc: the mean precision at each
    critical flip."""

    flips: float
    prevalence: float
    precision_100: float
    precision_1000: float
    r_precision: float
    recall: tuple[float, ...]
    auprc: float

    @property
    def ceiling(self) -> float:
        """The largest precision@1000 that there can be."""
        return min(1.0, self.prevalence * self.flips / 1000)


def ranking_of(critical: Bools, flips: npt.NDArray[Any], score: npt.NDArray[Any]) -> Ranking:
    """Rows (n,) that stand for `flips` flips of one outcome and one score each."""
    order = np.argsort(-score)
    last = np.flatnonzero(np.diff(score[order], append=np.inf))
    ends = np.concatenate([[0.0], np.cumsum(flips[order], dtype=np.float64)[last]])
    found = np.concatenate([[0.0], np.cumsum(flips[order] * critical[order], dtype=np.float64)[last]])
    total, events = float(ends[-1]), float(found[-1])
    if events == 0:
        raise SystemExit(
            "error: no critical flip among these; nothing can be ranked. Take more images or flips."
        )

    def hits(first: float) -> float:
        """Critical flips among the first so many; of equals that lie across, their share."""
        return float(np.interp(first, ends, found))

    return Ranking(
        flips=total,
        prevalence=events / total,
        precision_100=hits(100) / 100,
        precision_1000=hits(1000) / 1000,
        r_precision=hits(events) / events,
        recall=tuple(hits(share * total) / events for share in SHARES),
        auprc=float(_gain(ends, found).sum() / events),
    )


def _gain(ends: Floats, found: Floats) -> Floats:
    """(equals,) the sum of the precision at each critical flip, those of equal score spread evenly among their equals:
    the integral of (f + c t) / (e + n t) c dt over 0 <= t <= 1, for c critical ones of n after f of e."""
    n, c, e, f = np.diff(ends), np.diff(found), ends[:-1], found[:-1]
    grown = np.log(ends[1:] / np.where(e > 0, e, ends[1:]))
    spread: Floats = c / n * (c + (f - c * e / n) * grown)
    return spread


def mean_ranking(found: list[Ranking]) -> Ranking:
    """Over seeds."""
    rows = [asdict(ranking) for ranking in found]
    mean = {name: np.mean([row[name] for row in rows], axis=0).tolist() for name in rows[0]}
    return Ranking(**{**mean, "recall": tuple(mean["recall"])})


def reduction(critical: Bools, weight: Floats, preference: Floats, alpha: float) -> float:
    """The variance of a uniform draw beside that of one from q = (1 - alpha) h + alpha p, h in proportion to p x
    preference. weight (n,): population p of each row, up to a factor. Owen, Monte Carlo, ch. 9."""
    p = weight / weight.sum()
    wanted = p * preference
    q = alpha * p + (1 - alpha) * wanted / wanted.sum()
    rate = float(p[critical].sum())
    return rate * (1 - rate) / (float((p[critical] ** 2 / q[critical]).sum()) - rate**2)


def neyman_reduction(critical: Bools, weight: Floats, stratum: npt.NDArray[np.int64]) -> float:
    """The same for stratified sampling with Neyman's allocation from the true rates of the strata (an oracle)."""
    p = weight / weight.sum()
    share = np.bincount(stratum, p)
    rate_in = np.bincount(stratum, p * critical) / np.maximum(share, 1e-300)
    rate = float(p[critical].sum())
    return rate * (1 - rate) / float((share * np.sqrt(rate_in * (1 - rate_in))).sum()) ** 2
