"""Kernels for what is linear in an accumulator: operands of a weight-stationary array, partial sums, and the
running sums of any dataflow."""

from __future__ import annotations

import numpy as np

from emulator.array.bits import wrap_signed
from emulator.array.closed_form.records import (
    DEAD,
    Errors,
    Int32s,
    Touched,
    Words,
    add_error,
    dot,
    preloaded,
    record_flip,
)
from emulator.jit import Int, kernel

# Of a delta.
ALL_BITS = 32


@kernel
def activation_errors(act: Words, wgt: Words, t: Touched, e: Errors) -> int:
    """delta = (flipped - a) * W[k, n] for every column [first, last) that still meets the activation."""
    used = 0
    for i in range(t.group.shape[0]):
        group, m, k = t.group[i], t.m[i], t.k[i]
        before = np.int64(0) if group == DEAD else np.int64(act[group, m, k])
        for f in range(t.fault[i], t.fault[i + 1]):
            if group != DEAD:
                change = record_flip(t, e, i, f, before) - before
                for n in range(t.first[i], t.last[i]):
                    used = add_error(e, used, m, group * wgt.shape[2] + n, change * wgt[group, k, n])
            e.ptr[f + 1] = used
    return used


@kernel
def weight_errors(act: Words, wgt: Words, t: Touched, e: Errors) -> int:
    """delta = A[m, k] * (flipped - w) for every row [first, last) that still meets the weight."""
    used = 0
    for i in range(t.group.shape[0]):
        group, k, n = t.group[i], t.k[i], t.n[i]
        before = np.int64(0) if group == DEAD else np.int64(wgt[group, k, n])
        for f in range(t.fault[i], t.fault[i + 1]):
            if group != DEAD:
                change = record_flip(t, e, i, f, before) - before
                for m in range(t.first[i], t.last[i]):
                    used = add_error(e, used, m, group * wgt.shape[2] + n, act[group, m, k] * change)
            e.ptr[f + 1] = used
    return used


@kernel
def partial_sum_errors(act: Words, wgt: Words, preload: Words, psum_bits: int, t: Touched, e: Errors) -> int:
    """The flipped word holds the products [first, k); delta = wrap(flipped + tail) - (head + tail), the tail
    [k, last): the sum below the struck register may wrap, and so may the head where it is wide as the accumulator."""
    used = 0
    for i in range(t.group.shape[0]):
        group, m, n = t.group[i], t.m[i], t.n[i]
        head: Int = np.int64(0)
        tail: Int = np.int64(0)
        if group != DEAD:
            entered = preloaded(preload, group, m, n) if t.first[i] == 0 else np.int64(0)
            head = wrap_signed(entered + dot(act, wgt, group, m, n, t.first[i], t.k[i]), psum_bits)
            tail += dot(act, wgt, group, m, n, t.k[i], t.last[i])
        for f in range(t.fault[i], t.fault[i + 1]):
            if group != DEAD:
                wrong = wrap_signed(record_flip(t, e, i, f, head) + tail, psum_bits)
                delta = wrap_signed(wrong - head - tail, ALL_BITS)
                used = add_error(e, used, m, group * wgt.shape[2] + n, delta)
            e.ptr[f + 1] = used
    return used


@kernel
def running_sum_errors(act: Words, wgt: Words, preload: Words, bias: Int32s, t: Touched, e: Errors) -> int:
    """delta = the change of a word that holds the bias and the products [0, last), last < 0: the bias only."""
    used = 0
    for i in range(t.group.shape[0]):
        group, m, n = t.group[i], t.m[i], t.n[i]
        before: Int = np.int64(0)
        if group != DEAD:
            total = np.int64(bias[group, m, n])
            if t.last[i] >= 0:
                total += preloaded(preload, group, m, n) + dot(act, wgt, group, m, n, 0, t.last[i])
            before = wrap_signed(total, t.width[i])
        for f in range(t.fault[i], t.fault[i + 1]):
            if group != DEAD:
                change = wrap_signed(record_flip(t, e, i, f, before) - before, t.width[i])
                used = add_error(e, used, m, group * wgt.shape[2] + n, change)
            e.ptr[f + 1] = used
    return used
