"""Sites struck in every image of a set: how many right answers each costs.

A transient that repeats: the same bit at the same cycle of the same layer, whichever image is computed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.campaign.trial import judge_strikes
from emulator.faults.fault import FaultBatch
from emulator.faults.salvo import Salvo
from emulator.harden.answers import Answers
from emulator.sampling.workbench import Workbench

Ints = npt.NDArray[np.int64]


class Injected(NamedTuple):
    """lost (sites,): right answers fewer than without the fault, over all images where that is `needed` or more; of
    sites given up, over those until then. reached (sites,): is it? injections: sites x images that were struck."""

    lost: Ints
    reached: npt.NDArray[np.bool_]
    injections: int


def inject_everywhere(bench: Workbench, answers: Answers, sites: FaultBatch, needed: int) -> Injected:
    """Strike, propagate and judge each site on every image, low margins first. A site is given up once it can't cost
    `needed` answers any more, images left included, if half of the others can't either: to sort them out takes time.

    A hang gives no answer, so no right one. An answer that a fault puts right counts against those it costs.
    """
    lost, struck, injections = np.zeros(len(sites), np.int64), np.arange(len(sites)), 0
    order = _order(bench, answers)
    left = np.cumsum(answers.right[order][::-1])[::-1]
    salvo = Salvo(bench.golden, bench.array, sites, np.zeros(len(sites), np.int64))
    for image, most in zip(order.tolist(), left.tolist(), strict=True):
        able = lost[struck] + most >= needed
        if 2 * able.sum() <= len(struck):
            struck = struck[able]
            if not len(struck):
                break
            salvo = Salvo(bench.golden, bench.array, sites[struck], np.zeros(len(struck), np.int64))
        lost[struck] += _lost_on(bench, answers, image, salvo)
        injections += len(struck)
    reached = np.zeros(len(sites), np.bool_)
    reached[struck] = lost[struck] >= needed
    return Injected(lost, reached, injections)


def _order(bench: Workbench, answers: Answers) -> Ints:
    """Of the images: those that can be lost by their margin, then those that can only be won."""
    order: Ints = np.lexsort((bench.margins, ~answers.right))
    return order


def _lost_on(bench: Workbench, answers: Answers, image: int, salvo: Salvo) -> Ints:
    """(sites,) on this image: 1 where a right answer is lost, -1 where one is won."""
    right = np.zeros(len(salvo.faults), np.bool_)
    for volley in salvo.volleys:
        strikes = salvo.strike(bench.inference(image), volley)
        outcome = judge_strikes(bench, image, salvo.faults.layer[volley.place], strikes)
        right[volley.place] = (outcome["top1_faulty"] == answers.label[image]) & ~outcome["due"]
    return int(answers.right[image]) - right.astype(np.int64)
