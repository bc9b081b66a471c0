"""The closed forms: what a flip in a data register adds to the accumulators, without simulating a cycle.

Each register class has a geometry (which operands its sites touch, NumPy over all faults at once) and a
kernel (the integers). Derivation: a weight-stationary sum is linear in the flipped value as long as no word
wraps; partial sums are wide enough unless the flip is in the sum itself, so only there the wrap is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.bits import flip_signed, wrap_signed
from emulator.array.exposure import (
    AccumulatorWord,
    ActivationPipe,
    PartialSum,
    Sites,
    WeightBank,
    WeightChain,
    pe_slot,
)
from emulator.array.operands import Operands, check_operands
from emulator.array.registers import Register
from emulator.array.tiling import Schedule
from emulator.errors import BadConfig
from emulator.jit import Int, kernel

Ints = npt.NDArray[np.int64]
Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]

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


class Strikes(NamedTuple):
    """What each fault touches, (faults,) int64: operand indices, a range [first, last) along the axis its
    error spreads or sums over, bit, word width. group is DEAD where the site is."""

    group: Ints
    m: Ints
    k: Ints
    n: Ints
    first: Ints
    last: Ints
    bit: Ints
    width: Ints


class Errors(NamedTuple):
    """The arrays of AccumulatorErrors while they are filled, with room for one error more than can be."""

    ptr: Ints
    m: Int32s
    n: Int32s
    delta: Int32s
    before: Ints
    after: Ints


def accumulator_errors(
    plan: Schedule, operands: Operands, register: Register, at: Sites
) -> AccumulatorErrors:
    """The errors of one transient single-bit flip at each site of `register`, the sites independent.

    Raises BadData for operands of another shape than the plan's, BadConfig for a register that has no closed
    form.
    """
    check_operands(plan, operands)
    act, wgt = operands.act, operands.wgt
    psum = np.zeros((0, 0, 0), np.int8) if operands.psum is None else operands.psum
    fold, offset = register.lifetime.offset(plan, at)
    match register.lifetime:
        case ActivationPipe():
            strikes = _activation_strikes(plan, register, at, fold)
            errors = _room(strikes, strikes.last - strikes.first)
            used = activation_errors(act, wgt, strikes, errors)
        case PartialSum():
            strikes = _partial_sum_strikes(plan, register, at, fold)
            errors = _room(strikes, np.ones_like(fold))
            used = partial_sum_errors(act, wgt, psum, plan.spec.psum_bits, strikes, errors)
        case WeightChain() | WeightBank():
            strikes = _weight_strikes(plan, register, at, fold)
            errors = _room(strikes, strikes.last - strikes.first)
            used = weight_errors(act, wgt, strikes, errors)
        case AccumulatorWord():
            strikes = _accumulator_strikes(plan, register, at, fold, offset)
            errors = _room(strikes, np.ones_like(fold))
            used = accumulator_word_errors(act, wgt, psum, operands.bias, strikes, errors)
        case _:
            raise BadConfig(
                f"register {register.name!r} has no closed form; allowed: pe_a, pe_b, pe_d, pe_c1, pe_c2, "
                "accumulator. Use replay_layer."
            )
    return AccumulatorErrors(
        ptr=errors.ptr,
        m=errors.m[:used],
        n=errors.n[:used],
        delta=errors.delta[:used],
        before=errors.before,
        after=errors.after,
    )


def _room(strikes: Strikes, most: Ints) -> Errors:
    """Empty arrays for at most `most` errors a fault; pages that stay empty cost nothing."""
    count = len(most)
    total = int(most[strikes.group != DEAD].sum()) + 1
    m, n, delta = (np.empty(total, np.int32) for _ in range(3))
    return Errors(np.zeros(count + 1, np.int64), m, n, delta, *np.zeros((2, count), np.int64))


# ---- geometry: from a site to the operands it touches


def _activation_strikes(plan: Schedule, register: Register, at: Sites, fold: Ints) -> Strikes:
    """Row m, weight row k; the wrong value travels on through columns [first, last)."""
    return Strikes(
        group=_group(plan, fold),
        m=(plan.m_start - plan.first_slot)[fold] + pe_slot(at),
        k=plan.k_start[fold] + at.row,
        n=at.col,
        first=plan.n_start[fold] + at.col,
        last=(plan.n_start + plan.n_size)[fold],
        bit=at.bit,
        width=_width(register, at),
    )


def _partial_sum_strikes(plan: Schedule, register: Register, at: Sites, fold: Ints) -> Strikes:
    """Element (m, n): the flipped word holds the products [first, k); those of [k, last) are to come."""
    return Strikes(
        group=_group(plan, fold),
        m=(plan.m_start - plan.first_slot)[fold] + pe_slot(at),
        k=plan.k_start[fold] + np.minimum(at.row, plan.k_size[fold]),
        n=plan.n_start[fold] + at.col,
        first=plan.k_start[fold],
        last=(plan.k_start + plan.k_size)[fold],
        bit=at.bit,
        width=_width(register, at),
    )


def _weight_strikes(plan: Schedule, register: Register, at: Sites, fold: Ints) -> Strikes:
    """Weight (k, n), wrong for the rows [first, last) of the fold's block."""
    age = pe_slot(at) - plan.first_slot[fold]
    # Before its fold starts, the weight of PE row q is still on its way, in row `at.row` above q.
    in_chain = isinstance(register.lifetime, WeightChain)
    row = np.where(age < 0, at.row - age - (1 if in_chain else 0), at.row)
    return Strikes(
        group=_group(plan, fold),
        m=plan.m_start[fold],
        k=plan.k_start[fold] + row,
        n=plan.n_start[fold] + at.col,
        first=plan.m_start[fold] + np.maximum(age, 0),
        last=(plan.m_start + plan.m_size)[fold],
        bit=at.bit,
        width=np.full_like(fold, plan.spec.wgt_bits),
    )


def _accumulator_strikes(plan: Schedule, register: Register, at: Sites, fold: Ints, offset: Ints) -> Strikes:
    """Element (m, n), which holds the bias and the products [0, last)."""
    spec = plan.spec
    age = offset // spec.acc_bits % plan.block_slots[fold]
    added = age // plan.slots[fold] + 1
    return Strikes(
        group=_group(plan, fold),
        m=plan.m_start[fold] + at.row,
        k=np.zeros_like(fold),
        n=plan.n_start[fold] + at.col,
        first=np.zeros_like(fold),
        last=np.minimum(added * spec.rows, plan.shape.k),
        bit=at.bit,
        width=_width(register, at),
    )


def _group(plan: Schedule, fold: Ints) -> Ints:
    return np.where(fold >= 0, plan.group[fold], DEAD)


def _width(register: Register, at: Sites) -> Ints:
    return np.where(at.row == 0, register.first_row_bits, register.bits)


# ---- kernels: the integers


@kernel
def activation_errors(act: Int8s, wgt: Int8s, s: Strikes, e: Errors) -> int:
    """delta = (flipped - a) * W[k, n] for every column the activation still passes."""
    used = 0
    for i in range(s.group.shape[0]):
        group, m, k = s.group[i], s.m[i], s.k[i]
        if group != DEAD:
            before = np.int64(act[group, m, k])
            change = record_flip(s, e, i, before) - before
            for n in range(s.first[i], s.last[i]):
                used = add_error(e, used, m, group * wgt.shape[2] + n, change * wgt[group, k, n])
        e.ptr[i + 1] = used
    return used


@kernel
def partial_sum_errors(act: Int8s, wgt: Int8s, psum: Int8s, psum_bits: int, s: Strikes, e: Errors) -> int:
    """delta = wrap(flipped head + tail) - (head + tail): the sum below the struck PE may wrap."""
    used = 0
    for i in range(s.group.shape[0]):
        group, m, n = s.group[i], s.m[i], s.n[i]
        if group != DEAD:
            entered = np.int64(psum[group, m, n]) if psum.shape[0] > 0 and s.first[i] == 0 else 0
            head = entered + dot(act, wgt, group, m, n, s.first[i], s.k[i])
            tail = dot(act, wgt, group, m, n, s.k[i], s.last[i])
            wrong = wrap_signed(record_flip(s, e, i, head) + tail, psum_bits)
            used = add_error(e, used, m, group * wgt.shape[2] + n, wrong - head - tail)
        e.ptr[i + 1] = used
    return used


@kernel
def weight_errors(act: Int8s, wgt: Int8s, s: Strikes, e: Errors) -> int:
    """delta = A[m, k] * (flipped - w) for every row that still meets the weight."""
    used = 0
    for i in range(s.group.shape[0]):
        group, k, n = s.group[i], s.k[i], s.n[i]
        if group != DEAD:
            before = np.int64(wgt[group, k, n])
            change = record_flip(s, e, i, before) - before
            for m in range(s.first[i], s.last[i]):
                used = add_error(e, used, m, group * wgt.shape[2] + n, act[group, m, k] * change)
        e.ptr[i + 1] = used
    return used


@kernel
def accumulator_word_errors(act: Int8s, wgt: Int8s, psum: Int8s, bias: Int32s, s: Strikes, e: Errors) -> int:
    """delta = +-2^bit: its sign is that of the bit in the running sum."""
    used = 0
    for i in range(s.group.shape[0]):
        group, m, n = s.group[i], s.m[i], s.n[i]
        if group != DEAD:
            entered = np.int64(psum[group, m, n]) if psum.shape[0] > 0 else 0
            total = bias[group, n] + entered + dot(act, wgt, group, m, n, s.first[i], s.last[i])
            before = wrap_signed(total, s.width[i])
            change = record_flip(s, e, i, before) - before
            used = add_error(e, used, m, group * wgt.shape[2] + n, wrap_signed(change, s.width[i]))
        e.ptr[i + 1] = used
    return used


@kernel
def dot(act: Int8s, wgt: Int8s, group: Int, m: Int, n: Int, first: Int, last: Int) -> Int:
    """The products [first, last) of accumulator (m, n)."""
    total: Int = 0
    for k in range(first, last):
        total += np.int32(act[group, m, k]) * np.int32(wgt[group, k, n])
    return total


@kernel
def record_flip(s: Strikes, e: Errors, i: int, before: Int) -> Int:
    """The value after the flip of fault `i`, kept with the one before."""
    after = flip_signed(before, 1 << s.bit[i], s.width[i])
    e.before[i], e.after[i] = before, after
    return after


@kernel
def add_error(e: Errors, used: int, m: Int, n: Int, delta: Int) -> int:
    """Store an error and count it if it is one: a zero is overwritten by the next."""
    e.m[used] = m
    e.n[used] = n
    e.delta[used] = delta
    return used + (1 if delta != 0 else 0)
