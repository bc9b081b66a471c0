"""Checks of what estimators are given: one clear BadData in place of a wrong rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.errors import BadData
from emulator.sampling.intervals import check_confidence

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def checked_trials(
    y: npt.ArrayLike, weight: npt.ArrayLike, max_weight: float, confidence: float
) -> tuple[Bools, Floats]:
    """y (n,) bool or 0/1 and weight (n,) in (0, max_weight], n >= 1, as arrays."""
    check_confidence(confidence)
    outcome, w = np.asarray(y), np.asarray(weight, np.float64)
    if outcome.ndim != 1 or outcome.shape != w.shape or not len(w):
        raise BadData(
            f"estimator: y {outcome.shape} and weight {w.shape}; "
            "allowed: two (n,) arrays, n >= 1. Pass one y and one weight a trial."
        )
    if not (np.isfinite(w).all() and (w > 0).all()):
        raise BadData("estimator: a weight is zero, negative or not finite; allowed: w = p / q > 0.")
    if w.max() > max_weight * (1 + 1e-6):
        raise BadData(
            f"estimator: a weight is {w.max():.6g}; allowed: up to max_weight={max_weight:.6g}, "
            "the bound of the sampler. Pass max_weight=1/alpha for the alpha these trials were drawn with."
        )
    return _outcomes(outcome), w


def checked_classes(
    y: npt.ArrayLike, sites: npt.ArrayLike, inclusion: npt.ArrayLike, per_site_floor: float
) -> tuple[Bools, Ints, Floats]:
    """y (classes,) bool or 0/1, sites (classes,) whole numbers from 1, and inclusion (classes,) in
    [min(1, per_site_floor * sites), 1], as arrays; there may be no class."""
    outcome, counts, pi = np.asarray(y), np.asarray(sites), np.asarray(inclusion, np.float64)
    if outcome.ndim != 1 or not outcome.shape == counts.shape == pi.shape:
        raise BadData(
            f"classes: y {outcome.shape}, sites {counts.shape}, inclusion {pi.shape}; "
            "allowed: three (classes,) arrays. Pass one of each a class that was drawn."
        )
    if not (np.equal(counts, np.floor(counts)).all() and (counts >= 1).all()):
        raise BadData("classes: a class without sites, or with a part of one; allowed: whole numbers from 1.")
    if not per_site_floor > 0:
        raise BadData(f"per_site_floor={per_site_floor!r}; allowed: above 0. Use that of the design.")
    low = np.minimum(1.0, per_site_floor * counts) * (1 - 1e-6)
    if not ((pi >= low) & (pi <= 1)).all():
        raise BadData(
            "classes: an inclusion probability is above 1 or below that of the floor; allowed: "
            f"min(1, {per_site_floor:g} x sites) to 1. Pass those that the classes were drawn with."
        )
    return _outcomes(outcome), counts.astype(np.int64), pi


def checked_predictions(predicted: npt.ArrayLike, n: int) -> Floats:
    """predicted (n,) in [0, 1] as an array."""
    m = np.asarray(predicted, np.float64)
    if m.shape != (n,) or not ((m >= 0) & (m <= 1)).all():
        raise BadData(
            f"predicted {m.shape}; allowed: ({n},) values in [0, 1]. Pass the predicted chance of each outcome."
        )
    return m


def _outcomes(y: npt.NDArray[np.generic]) -> Bools:
    if y.dtype != np.bool_ and not np.isin(y, (0, 1)).all():
        raise BadData("estimator: y holds values other than 0 and 1; allowed: a yes/no outcome a trial.")
    return y.astype(bool)
