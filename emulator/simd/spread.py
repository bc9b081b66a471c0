"""The changes of tensors, listed for the sums that read them, and what a row of sums is recomputed from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.jit import Int

LOW = (1 << 32) - 1
"""The lower half of a mark or an entry."""


class Spread(NamedTuple):
    """Changes in units of at most PART elements. mark (units,): in the lower 32 bits how many changes of a unit are
    listed, more than have changed where one takes several operands; in the upper their sum. channel: which elements of
    a unit; change: by how much, of the dtype of an operand. Where the lists of a unit begin is up to the caller."""

    mark: npt.NDArray[np.int64]
    channel: npt.NDArray[np.uint8]
    change: npt.NDArray[Any]


class Queues(NamedTuple):
    """What each row of sums reads, as far as it is known. mark (rows,): in the lower 32 bits how many words of changes,
    in the upper the sum of the changes; entry, QUEUE a row: above 32 bits the row of weights they begin with, below
    where the changes stand. longest: room for all that a row could read."""

    mark: npt.NDArray[np.int64]
    entry: npt.NDArray[np.int64]
    longest: npt.NDArray[np.int64]


class Reading(NamedTuple):
    """What the rows of a layer read. Row m reads pixels taps[taps_at + m * each:][:each], -1 for padding, and of pixel
    i the `parts` units of `part` elements from unit_at + i * step on, whose lists begin at places_at + unit * room.
    Their weights begin at weight[weight_at:], as `weight_rows` puts them. sums, values: room for n."""

    spread: Spread
    taps: npt.NDArray[np.int32]
    taps_at: Int
    each: Int
    step: Int
    unit_at: Int
    parts: Int
    part: Int
    places_at: Int
    room: Int
    weight: npt.NDArray[np.int8]
    weight_at: Int
    depth: Int
    n: Int
    sums: npt.NDArray[np.int32]
    values: npt.NDArray[np.int8]


class Settling(NamedTuple):
    """How rows of sums become values. Of row r, sums stand at acc[acc_at + r * stride:], values at
    before[at + r * stride:] and after; scales and the zero points of the weights, all 0 unless lopsided, at column."""

    stride: Int
    acc: npt.NDArray[np.int32]
    acc_at: Int
    scale: npt.NDArray[np.float32]
    weight_zero: npt.NDArray[np.int32]
    lopsided: Int
    column: Int
    zero_point: Int
    low: Int
    high: Int
    before: npt.NDArray[np.int8]
    after: npt.NDArray[np.int8]
    at: Int
