"""The chance that a fault flips the top-1, fitted on trials that have been judged.

A small gradient-boosted model (scikit-learn's HistGradientBoostingClassifier) on what is foreseen of a fault. It is a
proposal, not an estimate: whatever it says, the weights keep the rate unbiased. One thread: there is a process a core,
and OpenMP threads that wait for each other on a busy machine took minutes for what takes a tenth of a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from emulator.sensitivity.crossing import crossing, preference_of, widths_open
from emulator.sensitivity.outlook import Outlook, outlook_at

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

# Fewer than so many critical faults teach it nothing that the crossing does not know.
FEWEST = 50


class Fitted:
    """outlook, critical (trials,): of trials drawn by any proposal; those masked before their horizon teach nothing."""

    def __init__(self, outlook: Outlook, critical: Flags) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        # Forty trees of eight leaves: fitted in .1 s, 1 to 2 us a fault; 100 of 15 rank no better on ResNet-20.
        self._model: Any = HistGradientBoostingClassifier(
            max_iter=40, max_leaf_nodes=8, learning_rate=0.15, min_samples_leaf=40, early_stopping=False
        )
        with threadpool_limits(1):
            self._model.fit(_features(outlook)[outlook.alive], critical[outlook.alive])

    def score(self, outlook: Outlook) -> Floats:
        """(faults,) in [0, 1], exactly 0 where the fault is masked before its horizon."""
        score, alive = np.zeros(len(outlook.alive)), np.flatnonzero(outlook.alive)
        if len(alive):
            with threadpool_limits(1):
                score[alive] = self._model.predict_proba(_features(outlook)[alive])[:, 1]
        return score


def learnt(outlook: Outlook, critical: Flags, weight: Floats) -> Fitted | None:
    """The model of trials with these weights, population over proposal density; None where they are too few to tell,
    or where by the trials it was not fitted on the crossing would draw with less variance."""
    known = critical[outlook.alive]
    if min(int(known.sum()), int((~known).sum())) < FEWEST:
        return None
    unseen, odd = np.zeros(len(critical)), np.arange(len(critical)) % 2 == 1
    for mine in (odd, ~odd):
        some = critical[mine][outlook.alive[mine]]
        if not some.any() or some.all():
            return None
        unseen[~mine] = Fitted(outlook_at(outlook, mine), critical[mine]).score(outlook_at(outlook, ~mine))
    found, crossed = (_variance(score, critical, weight) for score in (unseen, crossing(outlook)))
    return Fitted(outlook, critical) if found < crossed else None


def _variance(score: Floats, critical: Flags, weight: Floats) -> float:
    """The second moment of w y under q ~ p h, h = sqrt(score) + a floor: sum(w y / h) sum(w h), up to a factor. Owen,
    Monte Carlo, ch. 9."""
    preference = preference_of(score)
    return float((weight * critical / preference).sum() * (weight * preference).sum())


def _features(outlook: Outlook) -> npt.NDArray[np.float32]:
    """(faults, 4): how far from crossing, how much moves beside the margin, where, and how much is struck."""
    columns = (
        widths_open(outlook),
        np.log((0.5 + outlook.movement) / np.maximum(outlook.margin, 0.5)),
        outlook.layer,
        np.log1p(outlook.changed),
    )
    return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)
