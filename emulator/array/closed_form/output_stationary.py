"""Kernels for an output-stationary array: the error acts on the sum in a PE, which is shifted, rounded and
clipped on its way out."""

from __future__ import annotations

import numpy as np

from emulator.array.bits import wrap_signed
from emulator.array.closed_form.records import (
    DEAD,
    Errors,
    Ints,
    Touched,
    Words,
    add_error,
    dot,
    preloaded,
    record_flip,
)
from emulator.jit import Int, kernel

# Where a struck word is: a stationary word on its way in, a sum between two products, a sum about to leave,
# a result on its way out in the banks (clipped at every PE) or elsewhere.
COMING_IN, SUMMING, LEAVING, IN_BANKS, ON_ITS_WAY = range(5)


@kernel
def result_of(total: Int, psum_bits: int, shift: int) -> Int:
    """What leaves the array: total / 2^shift, half to even, saturated to psum_bits."""
    quotient = total >> shift
    rest = total - (quotient << shift)
    half = (1 << shift) >> 1
    if shift > 0 and (rest > half or (rest == half and quotient & 1 != 0)):
        quotient += 1
    return saturated(quotient, psum_bits)


@kernel
def saturated(value: Int, bits: int) -> Int:
    most = (1 << (bits - 1)) - 1
    return min(max(value, ~most), most)


@kernel
def stationary_sum(
    act: Words, wgt: Words, preload: Words, at: tuple[Int, Int, Int], first: Int, last: Int
) -> Int:
    """Products [first, last) of element at = (group, m, n), on the preloaded word in the first k-block."""
    group, m, n = at
    start = preloaded(preload, group, m, n) if first == 0 else np.int64(0)
    return start + dot(act, wgt, group, m, n, first, last)


@kernel
def moved_operand_errors(
    act: Words,
    wgt: Words,
    preload: Words,
    out: tuple[int, int],
    by_row: bool,
    starts: Ints,
    t: Touched,
    e: Errors,
) -> int:
    """A wrong activation (m, k) for the columns [first, last) (by_row), or a wrong weight (k, n) for the rows
    [first, last). out: psum_bits and shift; starts: first product of each k-block, and the depth."""
    psum_bits, shift = out
    used = 0
    for i in range(t.group.shape[0]):
        group, k, before = t.group[i], t.k[i], np.int64(0)
        if group != DEAD:
            before += act[group, t.m[i], k] if by_row else wgt[group, k, t.n[i]]
        for f in range(t.fault[i], t.fault[i + 1]):
            if group != DEAD:
                change = record_flip(t, e, i, f, before) - before
                where = np.searchsorted(starts, k, side="right")
                for other in range(t.first[i], t.last[i]):
                    m, n = (t.m[i], other) if by_row else (other, t.n[i])
                    total = stationary_sum(act, wgt, preload, (group, m, n), starts[where - 1], starts[where])
                    step = change * (wgt[group, k, n] if by_row else act[group, m, k])
                    wrong = result_of(wrap_signed(total + step, psum_bits), psum_bits, shift)
                    delta = wrong - result_of(wrap_signed(total, psum_bits), psum_bits, shift)
                    used = add_error(e, used, m, group * wgt.shape[2] + n, delta)
            e.ptr[f + 1] = used
    return used


@kernel
def element_errors(
    act: Words, wgt: Words, preload: Words, out: tuple[int, int], t: Touched, e: Errors
) -> int:
    """One element (m, n), its k-block [first, last), struck before product k (SUMMING) or elsewhere (stage)."""
    used = 0
    for i in range(t.group.shape[0]):
        at = (t.group[i], t.m[i], t.n[i])
        word: tuple[Int, Int, Int] = (np.int64(0), np.int64(0), np.int64(0))
        if at[0] != DEAD:
            start = preloaded(preload, *at) if t.first[i] == 0 else np.int64(0)
            total = stationary_sum(act, wgt, preload, at, t.first[i], t.last[i])
            word = (start, stationary_sum(act, wgt, preload, at, t.first[i], t.k[i]), total)
        for f in range(t.fault[i], t.fault[i + 1]):
            if at[0] != DEAD:
                delta = element_error(t, e, i, f, word, out)
                used = add_error(e, used, at[1], at[0] * wgt.shape[2] + at[2], delta)
            e.ptr[f + 1] = used
    return used


@kernel
def element_error(
    t: Touched, e: Errors, i: int, f: Int, word: tuple[Int, Int, Int], out: tuple[int, int]
) -> Int:
    """The error of one flip of word `i`: what it starts from, its sum before product k, and its sum."""
    psum_bits, shift = out
    start, head, total = word
    golden = result_of(wrap_signed(total, psum_bits), psum_bits, shift)
    stage = t.stage[i]
    if stage == COMING_IN:
        wrong = saturated(record_flip(t, e, i, f, start), psum_bits)
        wrong = result_of(wrap_signed(total - start + wrong, psum_bits), psum_bits, shift)
    elif stage == SUMMING:
        head = wrap_signed(head, psum_bits)
        wrong = record_flip(t, e, i, f, head) - head + total
        wrong = result_of(wrap_signed(wrong, psum_bits), psum_bits, shift)
    elif stage == LEAVING:
        wrong = result_of(record_flip(t, e, i, f, wrap_signed(total, psum_bits)), psum_bits, shift)
    elif stage == IN_BANKS:
        wrong = saturated(record_flip(t, e, i, f, golden), psum_bits)
    else:
        wrong = record_flip(t, e, i, f, golden)
    return wrong - golden
