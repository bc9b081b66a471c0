"""Products of few changed inputs on vector instructions: what the changes of one pixel add to the sums that read it.

A change of an int8 value lies in [-255, 255], one bit too wide for a byte. With `vnni` it is split by its sign,

    change = gain - loss, both in [0, 255],

unsigned bytes as vpdpbusd wants them on its left, by the same packed weights as the whole layer has:

    sums + gain . w - loss . w = -(-sums + loss . w) + gain . w,

exact modulo 2^32. No correction and no wider fall-back is needed, and a word whose changes have one sign is one step.
With `avx2` operands are int16, which hold a change as it is: all are gains.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.jit import Int, kernel, stage
from emulator.simd.changes import Changes, add_one_by_one
from emulator.simd.vectors import (
    LANES,
    blank,
    load,
    multiply_bytes,
    multiply_pairs,
    negated,
    places,
    store,
)
from emulator.simd.words import PER_WORD, VNNI

_multiply = multiply_bytes if VNNI else multiply_pairs
_BITS = 32 // PER_WORD
_MASK = (1 << _BITS) - 1
_WIDEST = 4 if VNNI else 2
_FEW = LANES // 2
"""Rows of fewer sums than this would leave most lanes empty: they go one by one (depthwise layers do)."""


@kernel
def sum_width(n: int) -> int:
    """int32 that a row of n sums takes."""
    return n if n < _FEW else -(-n // LANES) * LANES


@stage
def _put(
    words: npt.NDArray[np.int32], at: npt.NDArray[np.int64], count: Int, channel: Int, operand: Int
) -> Int:
    """One more operand; the number of words after it."""
    step = channel // PER_WORD * LANES
    if count == 0 or at[count - 1] != step:
        words[count], at[count] = 0, step
        count += 1
    words[count - 1] |= np.int32((operand & _MASK) << (channel % PER_WORD * _BITS))
    return count


@stage
def in_words(changes: Changes, count: Int, n: Int) -> tuple[Int, Int]:
    """The first `count` changes as words, for rows of n sums: how many of gains, of losses. Channels in order make
    the fewest."""
    gains: Int = 0
    losses: Int = 0
    if n < _FEW:
        return gains, losses
    for i in range(count):
        channel, change = changes.channel[i], changes.change[i]
        if VNNI and change < 0:
            losses = _put(changes.loss, changes.loss_at, losses, channel, -change)
        else:
            gains = _put(changes.gain, changes.gain_at, gains, channel, change)
    return gains, losses


@stage
def _add(
    empty: Any,
    changes: Changes,
    words: tuple[Int, Int],
    packed: npt.NDArray[np.int32],
    at: Int,
    panel: Int,
    sums: npt.NDArray[np.int32],
    place: Int,
) -> None:
    """The panels of one tile."""
    gains, losses = words
    tile = load(empty, sums, place, 0)
    where = places(empty, changes.zero, 0, 0, 0)
    if losses > 0:
        tile = negated(tile)
        for word in range(losses):
            tile = _multiply(tile, changes.loss, where, word, packed, at + changes.loss_at[word], panel)
        tile = negated(tile)
    for word in range(gains):
        tile = _multiply(tile, changes.gain, where, word, packed, at + changes.gain_at[word], panel)
    store(tile, sums, place, 0)


@stage
def add_changes(
    changes: Changes,
    count: Int,
    words: tuple[Int, Int],
    weight: npt.NDArray[np.int8],
    packed: npt.NDArray[np.int32],
    group: Int,
    tap: Int,
    taps: Int,
    depth: Int,
    n: Int,
    sums: npt.NDArray[np.int32],
    place: Int,
) -> None:
    """See the package."""
    if n < _FEW:
        first = (group * taps + tap) * depth * n
        add_one_by_one(changes.channel[:count], changes.change[:count], weight, first, n, sums, place)
        return
    step = -(-depth // PER_WORD) * LANES
    panels, panel = -(-n // LANES), taps * step
    origin = group * panels * panel + tap * step
    while panels > 0:
        vectors = 1 if panels & 1 else 2 if panels & 2 or _WIDEST == 2 else 4
        panels -= vectors
        at, target = origin + panels * panel, place + panels * LANES
        if vectors == 1:
            _add(blank(1, 1), changes, words, packed, at, panel, sums, target)
        elif vectors == 2:
            _add(blank(1, 2), changes, words, packed, at, panel, sums, target)
        elif _WIDEST == 4:
            _add(blank(1, 4), changes, words, packed, at, panel, sums, target)
