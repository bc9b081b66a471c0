"""Products of few changed inputs on vector instructions: what the changes of one pixel add to the sums that read it.

A change of an int8 value lies in [-255, 255], one bit too wide for a byte. With `vnni` it is split by its sign,

    change = gain - loss, both in [0, 255],

unsigned bytes as vpdpbusd wants them on its left, by the same packed weights as the whole layer has:

    sums + gain . w - loss . w = -(-sums + loss . w) + gain . w,

exact modulo 2^32. No correction and no wider fall-back is needed, and a word whose changes have one sign is one step.
With `avx2` operands are int16, which hold a change as it is: all are gains.

Where many pixels changed, each sum gathers what it reads instead: it stays in registers over all its taps. The changes
are laid out once, words that are 0 are skipped, and no sign is split: with `vnni` the weights + 128 are the unsigned
operand and the changes the signed one, which must lie in [-128, 127],

    sum of c . w = sum of c . (w + 128) - 128 * sum of c.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.jit import Int, kernel, stage
from emulator.simd.changes import Changes, Laid, Row, Sizes, add_one_by_one
from emulator.simd.vectors import (
    LANES,
    WIDEST,
    blank,
    load,
    lowest,
    multiply_deltas,
    multiply_operands,
    negated,
    places,
    raised,
    requantised,
    store,
)
from emulator.simd.words import FLIP, PER_WORD, VNNI, next_vectors, placed, words_of

_multiply_laid = multiply_deltas if VNNI else multiply_operands
_LEAST, _MOST = (-128, 127) if VNNI else (-255, 255)
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
    words[count - 1] |= placed(operand, channel)
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
            tile = multiply_operands(
                tile, changes.loss, where, word, packed, at + changes.loss_at[word], panel
            )
        tile = negated(tile)
    for word in range(gains):
        tile = multiply_operands(tile, changes.gain, where, word, packed, at + changes.gain_at[word], panel)
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
    step = words_of(depth) * LANES
    panels, panel = -(-n // LANES), taps * step
    origin = group * panels * panel + tap * step
    while panels > 0:
        vectors = next_vectors(panels)
        panels -= vectors
        at, target = origin + panels * panel, place + panels * LANES
        if vectors == 1:
            _add(blank(1, 1), changes, words, packed, at, panel, sums, target)
        elif vectors == 2:
            _add(blank(1, 2), changes, words, packed, at, panel, sums, target)
        elif WIDEST == 4:
            _add(blank(1, 4), changes, words, packed, at, panel, sums, target)


def laid_for(units: Sizes, depth: Sizes, taps: Sizes) -> Laid:
    """Room for the changes of any of several tensors, units[i] units of depth[i] channels, read taps[i] at a time."""
    words = -(-depth // PER_WORD)
    size, most = int((units * words).max(initial=1)), int(units.max(initial=1))
    read = int((taps * words).max(initial=1)) + LANES
    return Laid(
        words=np.zeros(size, np.int32),
        listed=np.zeros(size + LANES, np.int32),
        filled=np.zeros(most, np.int32),
        total=np.zeros(most, np.int32),
        units=np.zeros(most, np.int32),
        read=np.zeros(read, np.int32),
        step=np.zeros(read, np.int32),
    )


@stage
def lay_changes(
    touched: npt.NDArray[np.int32],
    current: npt.NDArray[np.int8],
    before: npt.NDArray[np.int8],
    depth: Int,
    n: Int,
    laid: Laid,
) -> Int:
    """Lay out the changes of the `touched` elements for rows of n sums; the number of units, or -1 where they don't
    suit and nothing is laid out."""
    if n < _FEW:
        return -1
    words = words_of(depth)
    units: Int = 0
    unit: Int = 0
    for touch in touched:
        element = np.int64(touch)
        change = np.int32(current[element]) - np.int32(before[element])
        if not 0 <= element - unit * depth < depth:
            unit = element // depth
        if not _LEAST <= change <= _MOST:
            clear_changes(laid, units, depth)
            return -1
        if laid.filled[unit] == 0:
            laid.units[units] = unit
            units += 1
        channel = element - unit * depth
        word = unit * words + channel // PER_WORD
        if laid.words[word] == 0:
            laid.listed[unit * words + laid.filled[unit]] = channel // PER_WORD
            laid.filled[unit] += 1
        # As a word: one that was stored as bytes can't be read again before it has reached the cache.
        laid.words[word] |= placed(change, channel)
        laid.total[unit] += change
    return units


@stage
def clear_changes(laid: Laid, units: Int, depth: Int) -> None:
    """All is 0 again."""
    words = words_of(depth)
    for i in range(units):
        unit = np.int64(laid.units[i])
        for j in range(laid.filled[unit]):
            laid.words[unit * words + laid.listed[unit * words + j]] = 0
        laid.filled[unit] = 0
        laid.total[unit] = 0


@stage
def list_words(
    laid: Laid, taps: npt.NDArray[np.int32], groups: Int, group: Int, depth: Int
) -> tuple[Int, Int]:
    """Which words an output pixel reads, and which step of the weights each meets; how many, and the sum of the
    changes in them.

    A vector of them is copied whatever their number: it is seldom more than one, and no branch is guessed wrong.
    """
    words = words_of(depth)
    count: Int = 0
    total: Int = 0
    for tap in range(len(taps)):
        if taps[tap] < 0:
            continue
        unit = np.int64(taps[tap]) * groups + group
        found = np.int64(laid.filled[unit])
        first: Int = 0
        while True:
            listed = load(blank(1, 1), laid.listed, unit * words + first, 0)
            store(raised(listed, np.int32(unit * words)), laid.read, count + first, 0)
            store(raised(listed, np.int32(tap * words)), laid.step, count + first, 0)
            first += LANES
            if first >= found:
                break
        count += found
        total += laid.total[unit]
    return count, total


@stage
def _settle(
    empty: Any,
    laid: Laid,
    it: Row,
    weights_at: Int,
    panel: Int,
    first: Int,
    noted: npt.NDArray[np.int32],
    count: Int,
) -> Int:
    """The panels of one tile, from output `first` on."""
    tile = raised(empty, np.int32(-FLIP * it.total))
    for i in range(it.words):
        read = places(tile, laid.read, i, 0, 0)
        at = weights_at + np.int64(laid.step[i]) * LANES
        tile = _multiply_laid(tile, laid.words, read, 0, it.packed, at, panel)
    different = requantised(
        tile, it.acc, it.acc_at + first, it.scale, it.scale_at + first, np.int32(it.zero_point), np.int32(it.low),
        np.int32(it.high), it.after, it.before, it.at + first,
    )  # fmt: skip
    while different != 0:
        element = first + lowest(different)
        if element >= it.n:
            break
        noted[count] = it.number + element
        count += 1
        different &= different - 1
    return count


@stage
def settle_row(
    laid: Laid, it: Row, group: Int, taps: Int, depth: Int, noted: npt.NDArray[np.int32], count: Int
) -> Int:
    """See the package."""
    panels, panel = -(-it.n // LANES), taps * words_of(depth) * LANES
    origin = group * panels * panel
    while panels > 0:
        vectors = next_vectors(panels)
        panels -= vectors
        at, first = origin + panels * panel, panels * LANES
        if vectors == 1:
            count = _settle(blank(1, 1), laid, it, at, panel, first, noted, count)
        elif vectors == 2:
            count = _settle(blank(1, 2), laid, it, at, panel, first, noted, count)
        elif WIDEST == 4:
            count = _settle(blank(1, 4), laid, it, at, panel, first, noted, count)
    return count
