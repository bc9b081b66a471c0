"""Few changed inputs on vector instructions: what they do to a row of sums that reads them.

A row lists what it reads that has changed: so much, by the weights of that element. With `vnni` four of the list, from
anywhere, are a word of signed bytes, which a change of at most 255 takes two or three of; their four rows of weights
are interleaved into words in registers, of bytes + 128 as vpdpbusd wants its other operand unsigned,

    sum of c . w = sum of c . (w + 128) - 128 * sum of c.

With `avx2` two of the list are a word of int16, and rows are widened as they are interleaved. So a product is spent
on changes alone, whichever channels they are in. (Of words of channels that lie side by side, as the whole layer has
them, three quarters are zeros: they took three times as long.)

Interleaving goes by parts of 16 bytes, as the instructions do: the lanes of a tile are brought in order at the end.
The sums stay in registers until their values are compared with those before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.jit import Int, stage
from emulator.simd.spread import Reading, Settling, Spread
from emulator.simd.vectors import (
    LANES,
    QUEUED,
    TAPS,
    WIDEST,
    accumulated,
    compressed,
    differing,
    lowest,
    no_sums,
    ones,
    peek,
    queued,
    requantised,
    total_change,
)
from emulator.simd.words import OPERAND

PART = 64
"""Most elements in a unit."""

_LEAST, _MOST = (-128, 127) if TAPS == 4 else (-255, 255)

ROOM = PART * (3 if TAPS == 4 else 1) + LANES
"""Operands in the lists of a unit, 255 = 127 + 127 + 1, and zeros to fill a vector."""

CHANGE: Any = OPERAND
"""An operand."""


@stage
def lay(
    current: npt.NDArray[np.int8],
    before: npt.NDArray[np.int8],
    at: Int,
    length: Int,
    spread: Spread,
    unit: Int,
) -> None:
    """See the package."""
    if TAPS == 2:
        _lay_each(current, before, at, _within(differing(PART, current, before, at), length), spread, unit)
        return
    if length == PART:
        bits, beyond, total = total_change(PART, current, before, at)
        if beyond == 0:
            place = unit * ROOM
            for first in range(0, PART, LANES):
                some = bits >> first & ((1 << LANES) - 1)
                compressed(some, first, current, before, at + first, spread.channel, spread.change, place)
                place += ones(some)
            _fill_word(spread, place)
            spread.filled[unit] = place - unit * ROOM
            spread.total[unit] = total
            return
    _lay_each(current, before, at, _within(differing(PART, current, before, at), length), spread, unit)


@stage
def _within(bits: Int, length: Int) -> Int:
    """The lowest `length` of 64 bits."""
    return bits if length == PART else bits & ((np.int64(1) << length) - 1)


@stage
def _lay_each(
    current: npt.NDArray[np.int8], before: npt.NDArray[np.int8], at: Int, bits: Int, spread: Spread, unit: Int
) -> None:
    """Any change; what is more than an operand takes several of them."""
    place = unit * ROOM
    total = np.int32(0)
    while bits != 0:
        channel = lowest(bits)
        bits &= bits - 1
        change = np.int32(current[at + channel]) - np.int32(before[at + channel])
        total += change
        while not _LEAST <= change <= _MOST:
            some = np.int32(_MOST if change > 0 else _LEAST)
            spread.channel[place], spread.change[place] = channel, some
            change -= some
            place += 1
        spread.channel[place], spread.change[place] = channel, change
        place += 1
    spread.filled[unit] = place - unit * ROOM
    spread.total[unit] = total
    _fill_word(spread, place)


@stage
def _fill_word(spread: Spread, place: Int) -> None:
    """No changes, up to the end of the word at hand."""
    for spare in range(place, place + TAPS - 1):
        spread.channel[spare], spread.change[spare] = 0, 0


@stage
def _gather(reading: Reading, pixel: Int) -> tuple[Int, Int]:
    """List the words of changes that a row reads, and where the weights of their taps begin: how many, and the sum of
    the changes.

    A few of each unit are listed, whatever it holds: it seldom holds more, and no branch is guessed wrong. Those of a
    unit are filled up to whole words with zeros.
    """
    count: Int = 0
    total: Int = 0
    first = reading.taps_at + pixel * reading.each
    for tap in range(reading.each):
        unit = reading.unit_at + peek(reading.taps, first + tap) * reading.step
        offset = tap * reading.depth * reading.n
        for part in range(reading.parts):
            words = (peek(reading.spread.filled, unit + part) + TAPS - 1) // TAPS
            total += peek(reading.spread.total, unit + part)
            place, done = (unit + part) * ROOM, np.int64(0)
            while True:
                queued(place + done * TAPS, offset, reading.place, reading.offset, count + done)
                done += QUEUED
                if done >= words:
                    break
            count += words
            offset += reading.part * reading.n
    return count, total


@stage
def _settle(
    empty: Any, reading: Reading, it: Settling, pixel: Int, count: Int, total: Int, first: Int
) -> bool:
    """The outputs of a tile, from output `first` on; has any changed?"""
    tile, spread = empty, reading.spread
    weight_at = reading.weight_at + first
    for i in range(count):
        begin = weight_at + peek(reading.offset, i)
        tile = accumulated(
            tile, spread.channel, spread.change, peek(reading.place, i), reading.n, reading.weight, begin
        )
    at = pixel * it.stride + first
    changed: bool = requantised(
        tile, np.int32(total), it.weight_zero, it.column + first, reading.n - first,
        it.acc, it.acc_at + at, it.scale, it.column + first, np.int32(it.zero_point), np.int32(it.low),
        np.int32(it.high), it.before, it.after, it.at + at,
    )  # fmt: skip
    return changed


@stage
def settle_row(reading: Reading, it: Settling, pixel: Int) -> bool:
    """See the package."""
    count, total = _gather(reading, pixel)
    if count == 0:
        return False
    changed = False
    first: Int = 0
    while first < reading.n:
        left = reading.n - first
        if left <= 16:
            changed |= _settle(no_sums(16), reading, it, pixel, count, total, first)
        elif left <= 32 or WIDEST == 2:
            changed |= _settle(no_sums(32), reading, it, pixel, count, total, first)
        else:
            changed |= _settle(no_sums(64), reading, it, pixel, count, total, first)
        first += 32 if WIDEST == 2 else 64
    return changed
