"""What goes into the closed forms and what comes out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.bits import flip_signed
from emulator.jit import Int, kernel

Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Words = npt.NDArray[np.int8] | npt.NDArray[np.int16]

DEAD = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AccumulatorErrors:
    """Fault f adds delta[ptr[f] : ptr[f + 1]] (mod 2^acc_bits, never zero) to the accumulators [m, n].

    ptr (faults + 1,) int64; m, n, delta (errors,) int32, n counts through the groups. before, after
    (faults,) int64: the value around the flip, as the MAC or the adder reads it; 0 for a dead site, which has
    no errors.
    """

    ptr: Ints
    m: Int32s
    n: Int32s
    delta: Int32s
    before: Ints
    after: Ints


class Touched(NamedTuple):
    """What the flips of each word touch, (words,) int64: operand indices as the array streams them, a range
    [first, last) along the axis its error spreads or sums over, the first bit and the width. group is DEAD where the
    site is. stage: where an output-stationary word is, one of the codes in `output_stationary`. fault (words + 1,):
    word i has the faults [fault[i], fault[i + 1]), each the flip of one bit more."""

    group: Ints
    m: Ints
    k: Ints
    n: Ints
    first: Ints
    last: Ints
    bit: Ints
    width: Ints
    stage: Ints
    fault: Ints


class Errors(NamedTuple):
    """The arrays of AccumulatorErrors while they are filled, with room for one error more than can be."""

    ptr: Ints
    m: Int32s
    n: Int32s
    delta: Int32s
    before: Ints
    after: Ints


def part_of(touched: Touched, words: slice) -> Touched:
    """Those of some words in a row, their faults numbered from 0."""
    chosen = Touched(*(column[words] for column in touched))
    first, last, _ = words.indices(len(touched.group))
    fault = touched.fault[first : last + 1]
    return chosen._replace(fault=fault - fault[0])


def empty_errors(faults: int, most: int) -> Errors:
    """Arrays for at most `most` errors; pages that stay empty cost nothing."""
    m, n, delta = (np.empty(most + 1, np.int32) for _ in range(3))
    return Errors(np.zeros(faults + 1, np.int64), m, n, delta, *np.zeros((2, faults), np.int64))


@kernel
def dot(act: Words, wgt: Words, group: Int, m: Int, n: Int, first: Int, last: Int) -> Int:
    """The products [first, last) of accumulator (m, n)."""
    total: Int = 0
    for k in range(first, last):
        total += np.int32(act[group, m, k]) * np.int32(wgt[group, k, n])
    return total


@kernel
def preloaded(preload: Words, group: Int, m: Int, n: Int) -> Int:
    """The word that element (m, n) starts from; preload is empty where there is none."""
    return np.int64(preload[group, m, n]) if preload.shape[0] > 0 else np.int64(0)


@kernel
def record_flip(t: Touched, e: Errors, i: Int, f: Int, before: Int) -> Int:
    """The value of word `i` after the flip of fault `f`, kept with the one before."""
    after = flip_signed(before, np.int64(1) << (t.bit[i] + f - t.fault[i]), t.width[i])
    e.before[f], e.after[f] = before, after
    return after


@kernel
def add_error(e: Errors, used: int, m: Int, n: Int, delta: Int) -> int:
    """Store an error and count it if it is one: a zero is overwritten by the next."""
    e.m[used] = m
    e.n[used] = n
    e.delta[used] = delta
    return used + (1 if delta != 0 else 0)
