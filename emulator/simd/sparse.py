"""Few changed inputs on vector instructions: what they do to a row of sums that reads them.

A row lists what it reads that has changed: so much, by the weights of that element. With `vnni` four of the list, from
anywhere, are a word of signed bytes, which a change of at most 255 takes two or three of; their four rows of weights
are interleaved into words in registers, of bytes + 128 as vpdpbusd wants its other operand unsigned,

    sum of c . w = sum of c . (w + 128) - 128 * sum of c.

With `avx2` two of the list are a word of int16, and rows are widened as they are interleaved. So a product is spent
on changes alone, whichever channels they are in. (Of words of channels that lie side by side, as the whole layer has
them, three quarters are zeros: they took three times as long.)

Interleaving goes by parts of 16 bytes, as the instructions do: rows of weights are stored in the order that comes out
right (`column_order`). The sums stay in registers until their values are compared with those before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.instructions import COMPRESSES
from emulator.jit import Int, borrowing_stage
from emulator.simd.spread import LOW, Queues, Reading, Settling, Spread
from emulator.simd.vectors import (
    QUEUED,
    TAPS,
    WIDEST,
    accumulated,
    column_order,
    compressed,
    differing,
    lowest,
    no_sums,
    ones,
    peek,
    poke,
    queued,
    requantised,
    total_change,
)
from emulator.simd.words import BOUNDARY, FLIP, OPERAND

PART = 64
"""Most elements in a unit."""

_LEAST, _MOST = (-128, 127) if TAPS == 4 else (-255, 255)

CHANGE: Any = OPERAND
"""An operand."""

QUEUE = 136
"""Entries of a row's queue; not a power of two, so that the first of many rows don't share a set of the cache."""

_ROOM_EACH = 3 if TAPS == 4 else 1
"""Operands that a change takes at most: 255 = 127 + 127 + 1."""

LONGEST = QUEUE - QUEUED
"""Words that a queue holds; a row that reads more looks at all its taps again."""


_WIDEST_TILE = 16 * WIDEST


def tiles(n: int) -> list[tuple[int, int]]:
    """First output and width of the tiles of a row of n sums: see `settle_row`."""
    widths = [width for width in (16, 32, 64) if width <= _WIDEST_TILE]
    return [
        (first, next((width for width in widths if n - first <= width), _WIDEST_TILE))
        for first in range(0, n, _WIDEST_TILE)
    ]


def weight_rows(weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Weights (groups, k, n) as `settle_row` reads them: of each group the tiles one after the other, each (k, width),
    filled up with zeros."""
    _, k, n = weight.shape
    parts = []
    for group in weight:
        for first, width in tiles(n):
            rows = np.zeros((k, width), np.int8)
            rows[:, : min(width, n - first)] = group[:, first : first + width]
            parts.append(rows[:, column_order(width)].reshape(-1) ^ np.int8(-FLIP))
    return np.concatenate(parts)


def row_bytes(n: int) -> int:
    """Bytes that the weights of one element take, in all tiles."""
    return sum(width for _, width in tiles(n))


def room_of(part: int) -> int:
    """Room for the lists of a unit of `part` elements, zeros to fill a word included: whole lines of the cache."""
    return -(-(part * _ROOM_EACH + TAPS) // BOUNDARY) * BOUNDARY


@borrowing_stage
def lay(
    current: npt.NDArray[np.int8],
    before: npt.NDArray[np.int8],
    at: Int,
    length: Int,
    spread: Spread,
    unit: Int,
    place: Int,
) -> None:
    """See the package."""
    if COMPRESSES:
        laid = False
        if length == 64:
            laid = _lay_at_once(64, current, before, at, spread, unit, place)
        elif length == 32:
            laid = _lay_at_once(32, current, before, at, spread, unit, place)
        elif length == 16:
            laid = _lay_at_once(16, current, before, at, spread, unit, place)
        if laid:
            return
    bits = differing(PART, current, before, at)
    if length < PART:
        bits &= (np.int64(1) << length) - 1
    first, total = place, np.int64(0)
    while bits != 0:
        channel = lowest(bits)
        bits &= bits - 1
        change = np.int64(current[at + channel]) - np.int64(before[at + channel])
        total += change
        while not _LEAST <= change <= _MOST:
            some = np.int64(_MOST if change > 0 else _LEAST)
            spread.channel[place], spread.change[place] = channel, some
            change -= some
            place += 1
        spread.channel[place], spread.change[place] = channel, change
        place += 1
    spread.mark[unit] = total << 32 | place - first
    _fill_word(spread, place)


@borrowing_stage
def _lay_at_once(
    length: Int,
    current: npt.NDArray[np.int8],
    before: npt.NDArray[np.int8],
    at: Int,
    spread: Spread,
    unit: Int,
    place: Int,
) -> bool:
    """So many elements, a literal; False, and nothing laid, if a change takes several operands."""
    bits, beyond, total = total_change(length, current, before, at)
    if beyond != 0:
        return False
    filled = ones(bits)
    compressed(length, bits, current, before, at, spread.channel, spread.change, place)
    spread.mark[unit] = total << 32 | filled
    if filled == length:
        _fill_word(spread, place + filled)
    return True


@borrowing_stage
def _fill_word(spread: Spread, place: Int) -> None:
    """No changes, up to the end of the word at hand."""
    for spare in range(place, place + TAPS - 1):
        spread.channel[spare], spread.change[spare] = 0, 0


@borrowing_stage
def _enqueue(entry: Int, words: Int, queue: npt.NDArray[np.int64], at: Int) -> None:
    """So many words of a unit, from `entry` on. A few are written, however many there are: there are seldom more, and
    no branch is guessed wrong."""
    queued(entry, queue, at)
    for done in range(QUEUED, words, QUEUED):
        queued(entry + done * TAPS, queue, at + done)


@borrowing_stage
def read_by(
    readers: npt.NDArray[np.int32],
    tap_bits: Int,
    groups: Int,
    group: Int,
    depth: Int,
    skipped: Int,
    spread: Spread,
    unit: Int,
    place: Int,
    queues: Queues,
    rows: npt.NDArray[np.int32],
    count: Int,
) -> Int:
    """See the package."""
    mark = peek(spread.mark, unit)
    words = _words(mark)
    if words == 0:  # a run was touched as a whole: a row told of nothing would be listed each time
        return count
    more = (mark & ~LOW) + words
    for i in range(len(readers)):
        reader = peek(readers, i)
        pixel = reader >> tap_bits
        row = pixel * groups + group
        state = peek(queues.mark, row)
        begun = state & LOW
        if begun == 0:
            poke(rows, count, row)
            count += 1
        if begun + words <= LONGEST:
            poke(queues.mark, row, state + more)
            first_row = (reader - (pixel << tap_bits)) * depth + skipped
            _enqueue(first_row << 32 | place, words, queues.entry, row * QUEUE + begun)
        else:
            poke(queues.mark, row, (state & ~LOW) + (mark & ~LOW) + LONGEST + 1)
    return count


@borrowing_stage
def _words(mark: Int) -> Int:
    """How many words the changes of a unit take."""
    words: Int = ((mark & LOW) + TAPS - 1) // TAPS
    return words


@borrowing_stage
def _read_anew(reading: Reading, pixel: Int, queue: npt.NDArray[np.int64]) -> Int:
    """All the words that a row reads; how many."""
    count: Int = 0
    first = reading.taps_at + pixel * reading.each
    for tap in range(reading.each):
        unit = reading.unit_at + peek(reading.taps, first + tap) * reading.step
        first_row = tap * reading.depth
        for part in range(reading.parts):
            words = _words(peek(reading.spread.mark, unit + part))
            place = reading.places_at + (unit + part) * reading.room
            if words > 0:
                _enqueue(first_row << 32 | place, words, queue, count)
            count += words
            first_row += reading.part
    return count


@borrowing_stage
def _settle(
    empty: Any,
    reading: Reading,
    it: Settling,
    pixel: Int,
    queue: npt.NDArray[np.int64],
    count: Int,
    total: Int,
    first: Int,
) -> bool:
    """The outputs of a tile, from output `first` on; has any changed?"""
    tile, spread = empty, reading.spread
    # Tiles of a group follow each other, each with all its rows.
    weight_at = reading.weight_at + first * reading.each * reading.depth
    for i in range(count):
        entry = peek(queue, i)
        place, row = entry & LOW, entry >> 32
        tile = accumulated(tile, spread.channel, spread.change, place, reading.weight, weight_at, row)
    at = pixel * it.stride + first
    changed: bool = requantised(
        tile, np.int32(total), it.lopsided != 0, it.weight_zero, it.column + first, reading.n - first,
        it.acc, it.acc_at + at, it.scale, it.column + first, np.int32(it.zero_point), np.int32(it.low),
        np.int32(it.high), it.before, it.after, it.at + at,
    )  # fmt: skip
    return changed


@borrowing_stage
def settle_row(reading: Reading, it: Settling, queues: Queues, row: Int, pixel: Int) -> bool:
    """See the package."""
    state: Int = np.int64(queues.mark[row])
    count, total = state & LOW, state >> 32
    queue = queues.entry[row * QUEUE :]
    if count > LONGEST:
        queue = queues.longest
        count = _read_anew(reading, pixel, queue)
    queues.mark[row] = 0
    changed = False
    first: Int = 0
    while first < reading.n:
        left = reading.n - first
        if left <= 16:
            changed |= _settle(no_sums(16), reading, it, pixel, queue, count, total, first)
        elif left <= 32 or _WIDEST_TILE == 32:
            changed |= _settle(no_sums(32), reading, it, pixel, queue, count, total, first)
        else:
            changed |= _settle(no_sums(64), reading, it, pixel, queue, count, total, first)
        first += _WIDEST_TILE
    return changed
