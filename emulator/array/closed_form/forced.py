"""A layer under any upsets of data registers, every tile of it: the columns they reach PE by PE and slot by slot, the
others as a plain product. No mesh is simulated, and the operands may be wrong already.

A word passes one register after the other, a cycle each. So an upset of a register that a slot reaches `delay` cycles
after it entered strikes the slots `delay` below its cycles, and those of one word act in the order of their delays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from emulator.array.bits import wrap_signed
from emulator.array.closed_form.pe import Widths, Words5, clocked_out, clocked_weight, narrowed, widths
from emulator.array.closed_form.records import Int32s, Ints, Words
from emulator.array.closed_form.streams import (
    GROUP,
    M_START,
    N_SIZE,
    N_START,
    Streams,
    act_tile,
    computes,
    part_of,
    shift_at,
    stationary_tile,
    steps_of,
    streamed_tile,
    streams,
    take_column,
)
from emulator.array.operands import Operands, Streamed, check_operands
from emulator.array.registers import check_upset, register
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule
from emulator.array.upset import FLIP, Upset
from emulator.errors import BadConfig
from emulator.jit import Int, kernel

# What a PE reads: words that pass, and its banks. Below the array there are only words that pass.
ACT, PSUM, CHAIN, BANK1, BANK2 = range(5)
FIELD_OF = {
    "pe_a": ACT,
    "buf_a": ACT,
    "skew_a": ACT,
    "pe_b": PSUM,
    "buf_b": PSUM,
    "skew_b": PSUM,
    "out_b": PSUM,
    "pe_d": CHAIN,
    "buf_d": CHAIN,
    "skew_d": CHAIN,
    "out_c": CHAIN,
    "pe_c1": BANK1,
    "pe_c2": BANK2,
}
BUS = ("deskew_data", "write_data")

# Past every slot.
END = 1 << 62


class Masks(NamedTuple):
    """The upsets of one column, each of them (upsets,) int64: of which word, in which slots first to last, and what
    they make of it: (word & kept) ^ flipped, where a sign bit stands for all bits above. Entries ptr[r] to ptr[r + 1]
    are those of row r; row `rows` is below the array."""

    ptr: Ints
    field: Ints
    first: Ints
    last: Ints
    kept: Ints
    flipped: Ints


class Entry(NamedTuple):
    """An upset that words of a column meet: its row of the column, the cycles from their slot to there, and its line of
    Masks."""

    row: int
    delay: int
    field: int
    first: int
    last: int
    kept: int
    flipped: int


def has_forced_form(plan: Schedule, upsets: Sequence[Upset]) -> bool:
    """Are all of these upsets, of any kind and window, of registers that hold data in or around the mesh?"""
    return all(upset.register in FIELD_OF or upset.register in BUS for upset in upsets)


def forced_accumulator(plan: Schedule, operands: Operands, upsets: Sequence[Upset]) -> Int32s:
    """The accumulators (m, groups * n) int32, wrapped or saturated as the array does, as `replay_layer` gives them;
    cycle 0 accepts the first row of the layer's first preload.

    Raises BadData for operands of another shape than the plan's, BadConfig for an upset outside the array or of a
    register that has no forced form.
    """
    check_operands(plan, operands)
    for upset in upsets:
        check_upset(plan.spec, upset)
    if not has_forced_form(plan, upsets):
        raise BadConfig(
            f"{', '.join(sorted({upset.register for upset in upsets}))}: not all have a forced form; allowed: "
            f"{', '.join((*FIELD_OF, *BUS))}. Use replay_layer."
        )
    x = operands.streamed(plan.spec)
    alike, stepped = _columns(plan, _by_column(plan.spec, upsets))
    acc = np.array(x.bias, order="C")
    for entries, cols in alike.items():
        add_product(plan, x, _changed(plan, x.act, entries), cols, acc)
    entering, k = streams(plan, x), widths(plan.spec)
    for col, met in stepped.items():
        forced_column(entering, k, col, _masks(plan.spec.rows, met), acc)
    if plan.spec.dataflow == "is":
        acc = acc.transpose(0, 2, 1)
    return np.ascontiguousarray(acc.transpose(1, 0, 2)).reshape(plan.shape.m, -1)


def is_linear(plan: Schedule) -> bool:
    """Is the fault-free layer the plain product, wrapped at the end?"""
    spec = plan.spec
    # k products stay below k * 2^(act + wgt - 2), and the word they are added to is smaller than that.
    exact = int(plan.k_size.max()) << (spec.act_bits + spec.wgt_bits) <= 1 << spec.psum_bits
    # What wraps at more bits than the accumulator has wraps there just the same.
    return (exact or spec.psum_bits >= spec.acc_bits) and spec.overflow == "wrap" and plan.shift == 0


def add_product(plan: Schedule, x: Streamed, act: Words, cols: Sequence[int], acc: Int32s) -> None:
    """act @ wgt (+ preload) onto the array's columns `cols` of acc (groups, m, n)."""
    keep = np.flatnonzero(np.isin(np.arange(plan.streamed.n) % plan.spec.cols, cols))
    # float64 holds these sums exactly, and has a fast product.
    left, right = (np.ascontiguousarray(words, np.float64) for words in (act, x.wgt[:, :, keep]))
    total = (left @ right).astype(np.int64)
    total += acc[:, :, keep]
    if x.preload is not None:
        total += x.preload[:, :, keep]
    half = 1 << (plan.spec.acc_bits - 1)
    acc[:, :, keep] = ((total + half) & (2 * half - 1)) - half


# ---- the upsets of a column


def _columns(
    plan: Schedule, struck: dict[int, list[Entry]]
) -> tuple[dict[tuple[Entry, ...], list[int]], dict[int, list[Entry]]]:
    """(columns that are a product, by what becomes of their activations; those that must be stepped).

    Sums stay exact whatever the activations are.
    """
    alike: dict[tuple[Entry, ...], list[int]] = {}
    stepped: dict[int, list[Entry]] = {}
    linear = is_linear(plan)
    for col in range(min(plan.spec.cols, plan.streamed.n)):
        entries = struck.get(col, [])
        if linear and all(entry.field == ACT and entry.first <= 0 and entry.last == END for entry in entries):
            alike.setdefault(tuple(sorted(entries, key=_in_time)), []).append(col)
        else:
            stepped[col] = entries
    return alike, stepped


def _changed(plan: Schedule, act: Words, entries: Sequence[Entry]) -> Words:
    """Activations (groups, m, k) under upsets of all slots. A row of the array takes every `rows`-th k, with sums
    stationary every `rows`-th m."""
    if not entries:
        return act
    # The register may be wider than the words given.
    act = act.astype(np.int16)
    for entry in entries:
        of_row = slice(entry.row, None, plan.spec.rows)
        seen = act[:, of_row] if plan.output_stationary else act[:, :, of_row]
        seen[:] = (seen & np.int16(entry.kept)) ^ np.int16(entry.flipped)
    return act


def _in_time(entry: Entry) -> tuple[int, int]:
    return entry.row, entry.delay


def _by_column(spec: ArraySpec, upsets: Sequence[Upset]) -> dict[int, list[Entry]]:
    """The upsets that words of each column meet."""
    struck: dict[int, list[Entry]] = {}
    for upset in upsets:
        if FIELD_OF.get(upset.register) == ACT:
            # A wrong activation goes on to the right.
            cols = range(upset.col if upset.register == "pe_a" else 0, spec.cols)
        else:
            by_line = upset.register.startswith(("buf", "skew", "deskew"))
            cols = range(upset.row, upset.row + 1) if by_line else range(upset.col, upset.col + 1)
        for col in cols:
            struck.setdefault(col, []).append(_mask(spec, upset))
    return struck


def _masks(rows: int, entries: list[Entry]) -> Masks:
    table = np.array(sorted(entries, key=_in_time), np.int64).reshape(-1, 7)
    ptr = np.searchsorted(table[:, 0], np.arange(rows + 2))
    return Masks(ptr, *np.ascontiguousarray(table[:, 2:].T))


def _mask(spec: ArraySpec, upset: Upset) -> Entry:
    row, field, delay = _place(spec, upset)
    last = upset.cycle if upset.kind == FLIP else upset.until_cycle
    # A word is sign-extended, and so is what is done to its sign bit.
    mask = int(
        wrap_signed(sum(1 << bit for bit in upset.bits), register(spec, upset.register).width(upset.row))
    )
    kept, flipped = {"flip": (-1, mask), "stuck-at-0": (~mask, 0), "stuck-at-1": (~mask, mask)}[upset.kind]
    return Entry(row, delay, field, upset.cycle - delay, END if last is None else last - delay, kept, flipped)


def _place(spec: ArraySpec, upset: Upset) -> tuple[int, int, int]:
    """(row of the column, field, delay); of what is below the array only the bus is read."""
    name, rows, lag = upset.register, spec.rows, spec.drain_cycles
    if name in BUS:
        bus = CHAIN if spec.dataflow == "os" else PSUM
        return rows, bus, lag - upset.col if name == "deskew_data" else lag + 1
    if name.startswith("out"):
        return rows, FIELD_OF[name], rows + 2 + upset.col
    if name.startswith("pe"):
        return upset.row, FIELD_OF[name], 2 + upset.row + upset.col
    stages = upset.row - upset.col if name.startswith("skew") else 0
    return upset.row if FIELD_OF[name] == ACT else 0, FIELD_OF[name], 1 + stages


# ---- the column


@kernel
def forced_column(x: Streams, k: Widths, col: int, masks: Masks, acc: Int32s) -> None:
    """Column `col` of every tile onto acc (groups, m, n), which holds the bias."""
    # Whatever the banks hold before the first slot is shifted out before the first result.
    banks = np.zeros((2, x.rows), np.int64)
    slot = 0
    for fold in range(-1, x.table.shape[1] + (1 if x.output_stationary else 0)):
        passing = np.zeros((3, steps_of(x, fold)), np.int64)
        take_column(streamed_tile(x, fold), col, passing[1])
        # The next fold's stationary words enter in the last request, bottom row first.
        take_column(stationary_tile(x, fold + 1), col, passing[2, ::-1])
        stream_fold(x, k, fold, slot, banks, masks, passing)
        if x.output_stationary:
            add_results(x, k, fold - 1, passing[2, : x.rows][::-1], col, acc)
        else:
            add_results(x, k, fold, passing[1], col, acc)
        slot += passing.shape[1]


@kernel
def stream_fold(
    x: Streams, k: Widths, fold: int, slot: int, banks: Ints, masks: Masks, passing: Ints
) -> None:
    """The slots of a fold, the first of them `slot`, through the column: passing (3, steps), the words at a, b and d;
    the last two become what leaves it."""
    acts, propagate, steps = act_tile(x, fold), fold & 1, passing.shape[1]
    moving, resting = banks[1 - propagate], banks[propagate]
    effect, first_shift = np.empty((5, 2), np.int64), shift_at(x, fold, 0)
    for row in range(x.rows + 1):
        take_column(acts, row, passing[0])
        done = 0
        while done < steps:
            until = min(effect_of(masks, row, slot + done, propagate, effect) - slot, steps)
            part = passing[:, done:until]
            if row == x.rows:
                strike_bus(part, effect)
            elif x.output_stationary:
                # Only the first word of a bank that was in use is shifted.
                shift = first_shift if done == 0 else 0
                moving[row], resting[row] = stream_out(part, moving[row], resting[row], effect, shift, k)
            else:
                moving[row], resting[row] = stream_weight(part, moving[row], resting[row], effect, k)
            done = until


@kernel
def effect_of(masks: Masks, row: int, slot: int, propagate: int, effect: Ints) -> int:
    """effect (5, 2): kept and flipped bits of a, b, d and of the moving and the resting bank in `slot`, all upsets of a
    row together; the first slot in which it is another."""
    effect[:, 0] = -1
    effect[:, 1] = 0
    until: Int = END
    for i in range(masks.ptr[row], masks.ptr[row + 1]):
        if slot < masks.first[i]:
            until = min(until, masks.first[i])
        elif slot <= masks.last[i]:
            until = min(until, masks.last[i] + 1)
            field = masks.field[i]
            word = field if field < BANK1 else BANK1 + (1 if field - BANK1 == propagate else 0)
            effect[word, 0] &= masks.kept[i]
            effect[word, 1] = (effect[word, 1] & masks.kept[i]) ^ masks.flipped[i]
    return int(until)


@kernel
def struck(words: Words5, effect: Ints) -> Words5:
    act, psum, chain, moving, resting = words
    return (
        (act & effect[0, 0]) ^ effect[0, 1],
        (psum & effect[1, 0]) ^ effect[1, 1],
        (chain & effect[2, 0]) ^ effect[2, 1],
        (moving & effect[3, 0]) ^ effect[3, 1],
        (resting & effect[4, 0]) ^ effect[4, 1],
    )


@kernel
def stream_weight(passing: Ints, moving: Int, resting: Int, effect: Ints, k: Widths) -> tuple[Int, Int]:
    """Slots of a fold through one PE; its banks afterwards."""
    act, psum, chain = passing
    for i in range(len(act)):
        words = struck((act[i], psum[i], chain[i], moving, resting), effect)
        psum[i], chain[i], moving, resting = clocked_weight(words, k)
    return moving, resting


@kernel
def stream_out(
    passing: Ints, moving: Int, resting: Int, effect: Ints, shift: int, k: Widths
) -> tuple[Int, Int]:
    """The same, output-stationary; shift: of the first word that leaves."""
    act, psum, chain = passing
    for i in range(len(act)):
        words = struck((act[i], psum[i], chain[i], moving, resting), effect)
        psum[i], chain[i], moving, resting = clocked_out(words, shift if i == 0 else 0, k)
    return moving, resting


@kernel
def strike_bus(passing: Ints, effect: Ints) -> None:
    """What leaves the column, below it."""
    for word in (PSUM, CHAIN):
        for i in range(passing.shape[1]):
            passing[word, i] = (passing[word, i] & effect[word, 0]) ^ effect[word, 1]


@kernel
def add_results(x: Streams, k: Widths, fold: int, leaving: Ints, col: int, acc: Int32s) -> None:
    """The words of rows 0, 1, ... of a fold."""
    if not computes(x, fold) or col >= x.table[N_SIZE, fold]:
        return
    group, n = x.table[GROUP, fold], x.table[N_START, fold] + col
    start, end = part_of(x, fold, M_START)
    for m in range(start, end):
        total = np.int64(acc[group, m, n]) + leaving[m - start]
        acc[group, m, n] = narrowed(total, k.acc, k.saturate)
