"""The chance that a fault flips the top-1, fitted on trials that have been judged.

A small gradient-boosted model (scikit-learn's HistGradientBoostingClassifier) on what is foreseen of a fault. It is a
proposal, not an estimate: whatever it says, the weights keep the rate unbiased.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.sensitivity.crossing import crossings
from emulator.sensitivity.outlook import Outlook

Floats = npt.NDArray[np.float64]

# Fewer than so many critical faults teach it nothing that the crossing does not know.
FEWEST = 50


class Fitted:
    """outlook, critical (trials,): of trials drawn by any proposal; those masked before their horizon teach nothing."""

    def __init__(self, outlook: Outlook, critical: npt.NDArray[np.bool_]) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        # Forty trees of eight leaves: fitted in .1 s, 1 to 2 us a fault; 100 of 15 rank no better on ResNet-20.
        self._model: Any = HistGradientBoostingClassifier(
            max_iter=40, max_leaf_nodes=8, learning_rate=0.15, min_samples_leaf=40, early_stopping=False
        )
        self._model.fit(_features(outlook)[outlook.alive], critical[outlook.alive])

    def score(self, outlook: Outlook) -> Floats:
        """(faults,) in [0, 1], exactly 0 where the fault is masked before its horizon."""
        score, alive = np.zeros(len(outlook.alive)), np.flatnonzero(outlook.alive)
        if len(alive):
            score[alive] = self._model.predict_proba(_features(outlook)[alive])[:, 1]
        return score


def enough(outlook: Outlook, critical: npt.NDArray[np.bool_]) -> bool:
    """Is there something to learn from, critical faults and others?"""
    known = critical[outlook.alive]
    return min(int(known.sum()), int((~known).sum())) >= FEWEST


def _features(outlook: Outlook) -> npt.NDArray[np.float32]:
    """(faults, 4): how far from crossing, how much moves beside the margin, where, and how much is struck."""
    columns = (
        crossings(outlook),
        np.log((0.5 + outlook.movement) / np.maximum(outlook.margin, 0.5)),
        outlook.layer,
        np.log1p(outlook.changed),
    )
    return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)
