"""Rates over images that were themselves sampled: trials of one image are a cluster, more alike than those of two."""

from __future__ import annotations

from math import exp, inf, log, sqrt

import numpy as np
import numpy.typing as npt

from emulator.errors import BadData
from emulator.sampling.estimate import Estimate
from emulator.sampling.evidence import unseen_sites
from emulator.sampling.observations import checked_trials


def clustered(
    y: npt.ArrayLike,
    weight: npt.ArrayLike,
    cluster: npt.ArrayLike,
    *,
    heaviest_unseen: float,
    confidence: float = 0.95,
) -> Estimate:
    """The rate over the population of clusters of which these are a random sample.

    y (n,) bool or 0/1; weight (n,) > 0: that of a trial, or the sites of a row of an exhaustive campaign; cluster (n,):
    which one each belongs to, 2 clusters or more; heaviest_unseen: what a trial may weigh that nobody drew, 0 where
    every site of these clusters is judged. Raises BadData for anything else.

    theta = sum(w y) / sum(w); with e_c the sum of w (y - theta) over cluster c, one of C,
    Var = C / (C - 1) sum_c(e_c^2) / sum(w)^2, and half an event that weighs heaviest_unseen (see `Evidence`). The
    interval is of logit(theta), with the t quantile of C - 1 degrees of freedom. Where no cluster has an event, or no
    trial is without, the other end is that of C trials of whole clusters, or of the trials, whichever proves less.
    Sarndal, Swensson & Wretman 1992, ch. 8; Lohr, Sampling, 3rd ed., sec. 5.2.3 and 9.1.
    """
    events, w = checked_trials(y, weight, inf, confidence)
    names = np.asarray(cluster)
    clusters, member = np.unique(names, return_inverse=True)
    if names.shape != events.shape or len(clusters) < 2:
        raise BadData(
            f"clustered: cluster {names.shape} names {len(clusters)} for {len(events)} trials; allowed: one a trial, 2 "
            "clusters or more. Use more images, or an estimator for a fixed set of them."
        )
    theta, count = float(w[events].sum() / w.sum()), len(clusters)
    residual = np.bincount(member, w * (events - theta))
    heaviest = heaviest_unseen / float(w.sum())
    variance = count / (count - 1) * float((residual**2).sum() / w.sum() ** 2) + 0.5 * heaviest**2
    unseen = max(
        -float(np.expm1(np.log1p(-confidence) / count)),
        unseen_sites(1 / heaviest_unseen, confidence) / float(w.sum()) if heaviest_unseen else 0.0,
    )
    low, high = _interval(theta, variance, count, min(1.0, unseen), confidence)
    ess = theta * (1 - theta) / variance if 0 < theta < 1 and variance > 0 else float(count)
    return Estimate(
        value=theta, low=low, high=high, confidence=confidence, n=len(events), ess=ess, method="clustered"
    )


def _interval(
    theta: float, variance: float, clusters: int, unseen: float, confidence: float
) -> tuple[float, float]:
    if theta == 0:
        return 0.0, unseen
    if theta == 1:
        return 1 - unseen, 1.0
    from scipy.special import stdtrit

    half = float(stdtrit(clusters - 1, (1 + confidence) / 2)) * sqrt(variance) / (theta * (1 - theta))
    odds = log(theta / (1 - theta))
    return min(theta, _logistic(odds - half)), max(theta, _logistic(odds + half))


def _logistic(x: float) -> float:
    return 1 / (1 + exp(-x)) if x > 0 else exp(x) / (1 + exp(x))
