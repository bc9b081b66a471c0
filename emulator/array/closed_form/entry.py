"""Register class to geometry and kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from emulator.array.bits import wrap_words
from emulator.array.closed_form import control, geometry, output_stationary, sums
from emulator.array.closed_form.records import (
    DEAD,
    AccumulatorErrors,
    Errors,
    Ints,
    Touched,
    Words,
    empty_errors,
    part_of,
)
from emulator.array.closed_form.sums import ALL_BITS
from emulator.array.exposure.lifetime import Flags, Sites, StruckWords
from emulator.array.operands import Operands, Streamed, check_operands
from emulator.array.registers import Register
from emulator.array.tiling import Schedule
from emulator.errors import BadConfig

ACTIVATION = ("pe_a", "buf_a", "skew_a")
DOWN = ("pe_b", "buf_b", "skew_b")
CHAIN = ("pe_d", "buf_d", "skew_d")
BANKS = ("pe_c1", "pe_c2")
RESULT = ("deskew_data", "write_data")
RUNNING = ("accumulator", "write_sum", "write_bias", "requant_acc")
BUFFERS = ("act_buffer", "wgt_buffer")

Kernel = Callable[[Streamed, Touched, Errors], int]
ALL = slice(None)


def has_closed_form(plan: Schedule, name: str) -> bool:
    """Is there a closed form for flips of this register? None where sums saturate or partial sums narrower than the
    accumulator may overflow, and none for sums of results that were shifted on their way out."""
    spec = plan.spec
    if spec.overflow == "saturate" or spec.psum_bits < min(spec.exact_psum_bits, spec.acc_bits):
        return False
    bus = "out_c" if plan.output_stationary else "out_b"
    running = RUNNING if plan.shift == 0 else ()
    return name in (*ACTIVATION, *DOWN, *CHAIN, *BANKS, *RESULT, *running, *BUFFERS, bus, *control.FIELD_OF)


def covered(plan: Schedule, register: Register, at: Sites, fold: Ints | None = None) -> Flags:
    """(sites,): is `accumulator_errors` exact there? It is at every dead site, and at the live ones of a register that
    has a closed form, but for control bits that do more than spoil words of their columns. fold as there."""
    if fold is None:
        fold, _ = register.lifetime.offset(plan, at)
    dead: Flags = fold < 0
    if not has_closed_form(plan, register.name):
        return dead
    if register.name not in control.FIELD_OF:
        return np.ones_like(dead)
    return dead | control.spoils_words_only(plan, register.name, at)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flips:
    """Flips of one register in one layer, prepared: what they touch, whatever the operands are. `solve` gives the
    errors of a run of words, and how many there are."""

    plan: Schedule
    solve: Callable[[Streamed, slice], tuple[Errors, int]]

    def errors(self, operands: Operands, words: slice = ALL) -> AccumulatorErrors:
        """Those of some words, by default all, with these operands. Raises BadData for operands of another shape than
        the plan's."""
        check_operands(self.plan, operands)
        errors, used = self.solve(operands.streamed(self.plan.spec), words)
        errors, used = _within(self.plan.spec.acc_bits, errors, used)
        m, n = errors.m[:used], errors.n[:used]
        if self.plan.spec.dataflow == "is":
            group, row = np.divmod(n, self.plan.streamed.n)
            m, n = row, group * self.plan.streamed.m + m
        return AccumulatorErrors(
            ptr=errors.ptr, m=m, n=n, delta=errors.delta[:used], before=errors.before, after=errors.after
        )


def accumulator_errors(
    plan: Schedule,
    operands: Operands,
    register: Register,
    at: Sites,
    fold: Ints | None = None,
    bits: Ints | None = None,
) -> AccumulatorErrors:
    """The errors of transient single-bit flips at each site of `register`, all independent; see `prepare`."""
    return prepare(plan, register, at, fold, bits).errors(operands)


def prepare(
    plan: Schedule, register: Register, at: Sites, fold: Ints | None = None, bits: Ints | None = None
) -> Flips:
    """Transient single-bit flips at each site of `register`, all independent.

    fold: those of the sites, -1 where dead, as `register.lifetime.offset` gives them; None: to be found. bits: how many
    bits, from the site's on, are flipped in turn, a fault each, in the order of the sites; None: one. Raises BadConfig
    for a site that is not `covered`.
    """
    if fold is None:
        fold, _ = register.lifetime.offset(plan, at)
    solved = covered(plan, register, at, fold)
    if not solved.all():
        raise BadConfig(
            f"register {register.name!r}: {np.count_nonzero(~solved)} of {len(solved)} sites have no closed form "
            f"on {plan.spec.name!r}; allowed: those that are `covered`. Use replay_layer for the others."
        )
    words = StruckWords(*at, bits=np.ones_like(fold) if bits is None else bits)
    if register.name in control.FIELD_OF and (fold >= 0).any():
        return Flips(plan=plan, solve=partial(control.errors_of, plan, register.name, at, fold))
    touched, most, kernel = _find(plan, register, words, fold)
    room = np.where(touched.group != DEAD, most * words.bits, 0)

    def solve(x: Streamed, chosen: slice) -> tuple[Errors, int]:
        part = part_of(touched, chosen)
        errors = empty_errors(int(part.fault[-1]), int(room[chosen].sum()))
        return errors, kernel(x, part, errors)

    return Flips(plan=plan, solve=solve)


def _within(bits: int, errors: Errors, used: int) -> tuple[Errors, int]:
    """Deltas modulo 2^bits, without those that are none then."""
    if bits == ALL_BITS:
        return errors, used
    delta = wrap_words(errors.delta[:used].astype(np.int64), bits)
    stays = delta != 0
    ptr = np.concatenate(([0], np.cumsum(stays)))[errors.ptr]
    m, n, delta = (words[:used][stays] for words in (errors.m, errors.n, delta))
    return errors._replace(ptr=ptr, m=m, n=n, delta=delta.astype(np.int32)), int(ptr[-1])


def _find(plan: Schedule, register: Register, at: StruckWords, fold: Ints) -> tuple[Touched, Ints, Kernel]:
    """What is touched, the most errors a flip has, and what finds them."""
    if (fold < 0).all():  # of any register
        return geometry.touched(plan, register, at, fold), np.zeros_like(fold), lambda x, t, e: 0
    if plan.output_stationary:
        return _output_stationary(plan, register, at, fold)
    return _weight_stationary(plan, register, at, fold)


def _weight_stationary(
    plan: Schedule, register: Register, at: StruckWords, fold: Ints
) -> tuple[Touched, Ints, Kernel]:
    """The same."""
    name, psum = register.name, plan.spec.psum_bits
    if name in (*ACTIVATION, "act_buffer"):
        find = geometry.buffered_activation if name in BUFFERS else geometry.activation
        touched = find(plan, register, at, fold)
        return (
            touched,
            touched.last - touched.first,
            lambda x, t, e: sums.activation_errors(x.act, x.wgt, t, e),
        )
    if name in (*CHAIN, *BANKS, "wgt_buffer"):
        find = geometry.buffered_weight if name in BUFFERS else geometry.stationary_weight
        touched = find(plan, register, at, fold)
        # Bits above the weight are dead, so it is the weight that flips.
        touched = touched._replace(width=np.full_like(touched.width, plan.spec.wgt_bits))
        return touched, touched.last - touched.first, lambda x, t, e: sums.weight_errors(x.act, x.wgt, t, e)
    if name in RUNNING:
        return _running(plan, register, at, fold)
    touched = geometry.partial_sum(plan, register, at, fold)
    if name not in DOWN:
        touched = touched._replace(width=np.full_like(touched.width, psum))
    return (
        touched,
        np.ones_like(fold),
        lambda x, t, e: sums.partial_sum_errors(x.act, x.wgt, _preload(x), psum, t, e),
    )


def _output_stationary(
    plan: Schedule, register: Register, at: StruckWords, fold: Ints
) -> tuple[Touched, Ints, Kernel]:
    """The same."""
    name, out = register.name, (plan.spec.psum_bits, plan.shift)
    if name in RUNNING:
        return _running(plan, register, at, fold)
    by_row = name in (*ACTIVATION, "act_buffer")
    if by_row or name in (*DOWN, "wgt_buffer"):
        finds = {
            (True, True): geometry.buffered_activation,
            (True, False): geometry.activation,
            (False, True): geometry.buffered_weight,
            (False, False): geometry.streamed_weight,
        }
        touched = finds[by_row, name in BUFFERS](plan, register, at, fold)
        if not by_row:
            touched = touched._replace(width=np.full_like(touched.width, plan.spec.wgt_bits))
        starts = np.append(np.unique(plan.k_start), plan.shape.k)
        return (
            touched,
            touched.last - touched.first,
            lambda x, t, e: output_stationary.moved_operand_errors(
                x.act, x.wgt, _preload(x), out, by_row, starts, t, e
            ),
        )
    touched = geometry.stationary_element(plan, register, at, fold)
    touched = _stationary_width(plan, register, touched)
    return (
        touched,
        np.ones_like(fold),
        lambda x, t, e: output_stationary.element_errors(x.act, x.wgt, _preload(x), out, t, e),
    )


def _stationary_width(plan: Schedule, register: Register, touched: Touched) -> Touched:
    """A sum between two products is read psum_bits wide; a chain's row 0 is only narrower on the way in."""
    psum = plan.spec.psum_bits
    if register.name in BANKS:
        return touched._replace(
            width=np.where(touched.stage == output_stationary.SUMMING, psum, register.bits)
        )
    if register.name in CHAIN:
        return touched
    return touched._replace(width=np.full_like(touched.width, psum))


def _running(plan: Schedule, register: Register, at: StruckWords, fold: Ints) -> tuple[Touched, Ints, Kernel]:
    """The same, for what holds a sum of either dataflow."""
    touched = geometry.running_sum(plan, register, at, fold)
    return (
        touched,
        np.ones_like(fold),
        lambda x, t, e: sums.running_sum_errors(x.act, x.wgt, _preload(x), x.bias, t, e),
    )


def _preload(x: Streamed) -> Words:
    return np.zeros((0, 0, 0), np.int8) if x.preload is None else x.preload
