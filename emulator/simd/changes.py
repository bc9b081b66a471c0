"""The changes of one pixel, and what they add to the sums that read it: the plain way, one change at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.jit import Int, stage

Sizes = npt.NDArray[np.int64]


class Changes(NamedTuple):
    """Changed channels of one pixel in one group: channel (counted within the group), change in [-255, 255].

    gain, loss: the same as words of unsigned operands, filled by `in_words` where vectors are used, and how far the
    weights of each lie from those of channel 0, in int32. zero: one 0.
    """

    channel: npt.NDArray[np.int64]
    change: npt.NDArray[np.int64]
    gain: npt.NDArray[np.int32]
    gain_at: npt.NDArray[np.int64]
    loss: npt.NDArray[np.int32]
    loss_at: npt.NDArray[np.int64]
    zero: npt.NDArray[np.int32]


def changes_for(channels: int) -> Changes:
    """Room for `channels` changes."""
    wide, narrow = np.zeros((4, channels), np.int64), np.zeros((2, channels), np.int32)
    return Changes(
        channel=wide[0],
        change=wide[1],
        gain=narrow[0],
        gain_at=wide[2],
        loss=narrow[1],
        loss_at=wide[3],
        zero=np.zeros(1, np.int32),
    )


class Laid(NamedTuple):
    """All changes of a tensor, where the sums that read them find them. A unit is one group's part of a pixel.

    words: the changes as operands of dot products, 0 where nothing changed. listed (room for all words): which of a
    unit's words are not 0, the first filled[unit] of each. total: sum of the changes of a unit. units: those with
    changes. read, step: what one output pixel reads.
    """

    words: npt.NDArray[np.int32]
    listed: npt.NDArray[np.int32]
    filled: npt.NDArray[np.int32]
    total: npt.NDArray[np.int32]
    units: npt.NDArray[np.int32]
    read: npt.NDArray[np.int32]
    step: npt.NDArray[np.int32]


class Row(NamedTuple):
    """A row of n sums that is recomputed. Its sums stand at acc[acc_at:], scales at scale[scale_at:], values at
    before[at:] and after[at:], all with room for sum_width(n); its first element has this number in its tensor. words,
    total: as `list_words` counts them."""

    n: Int
    number: Int
    words: Int
    total: Int
    packed: npt.NDArray[np.int32]
    acc: npt.NDArray[np.int32]
    acc_at: Int
    scale: npt.NDArray[np.float32]
    scale_at: Int
    zero_point: Int
    low: Int
    high: Int
    before: npt.NDArray[np.int8]
    after: npt.NDArray[np.int8]
    at: Int


@stage
def add_one_by_one(
    channel: npt.NDArray[np.int64],
    change: npt.NDArray[np.int64],
    weight: npt.NDArray[np.int8],
    first: Int,
    n: Int,
    sums: npt.NDArray[np.int32],
    place: Int,
) -> None:
    """sums[place:place + n] += each change by its row of weights, weight[first + channel * n:][:n], modulo 2^32."""
    # Slices tell the compiler that no index is negative, which is what lets it vectorise.
    total = sums[place : place + n]
    for i in range(len(change)):
        start = first + channel[i] * n
        row, factor = weight[start : start + n], np.int32(change[i])
        for column in range(n):
            total[column] = np.int32(total[column] + factor * np.int32(row[column]))
