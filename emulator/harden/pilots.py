"""The few images on which the accuracy drop of a fault is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.sampling.workbench import Workbench


class Pilots(NamedTuple):
    """image (pilots,) int64, share (pilots,): of all images, those that each stands for."""

    image: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]


def pilots_of(bench: Workbench, right: Sequence[int], count: int) -> Pilots:
    """`count` of the images `right`, all of them if there are fewer: the middle one of each stratum.

    Strata follow the margin of the fault-free answer. They grow like 1, 3, 5 ... images, so that most pilots have a low
    margin: there a fault changes answers first, and whether it reaches a drop is decided there. Shares add up to that
    of the images `right`.
    """
    images = np.asarray(right, np.int64)
    order = images[np.argsort(bench.margins[images], kind="stable")]
    step = np.arange(min(count, len(order)) + 1)
    # Of few images the first strata would be empty: each gets one at least.
    ends = np.maximum(np.round(len(order) * (step / step[-1]) ** 2).astype(np.int64), step)
    return Pilots(order[(ends[:-1] + ends[1:] - 1) // 2], np.diff(ends) / bench.images)
