"""Register class to geometry and kernel."""

from __future__ import annotations

import numpy as np

from emulator.array.bits import wrap_words
from emulator.array.closed_form import control, geometry, output_stationary, sums
from emulator.array.closed_form.records import AccumulatorErrors, Errors, Ints, Touched, Words, room
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


def accumulator_errors(
    plan: Schedule,
    operands: Operands,
    register: Register,
    at: Sites,
    fold: Ints | None = None,
    bits: Ints | None = None,
) -> AccumulatorErrors:
    """The errors of transient single-bit flips at each site of `register`, all independent.

    fold: those of the sites, -1 where dead, as `register.lifetime.offset` gives them; None: to be found. bits: how many
    bits, from the site's on, are flipped in turn, a fault each, in the order of the sites; None: one. Raises BadData
    for operands of another shape than the plan's, BadConfig for a site that is not `covered`.
    """
    check_operands(plan, operands)
    if fold is None:
        fold, _ = register.lifetime.offset(plan, at)
    solved = covered(plan, register, at, fold)
    if not solved.all():
        raise BadConfig(
            f"register {register.name!r}: {np.count_nonzero(~solved)} of {len(solved)} sites have no closed form "
            f"on {plan.spec.name!r}; allowed: those that are `covered`. Use replay_layer for the others."
        )
    words = StruckWords(*at, bits=np.ones_like(fold) if bits is None else bits)
    errors, used = _solve(plan, operands.streamed(plan.spec), register, words, fold)
    errors, used = _within(plan.spec.acc_bits, errors, used)
    m, n = errors.m[:used], errors.n[:used]
    if plan.spec.dataflow == "is":
        group, row = np.divmod(n, plan.streamed.n)
        m, n = row, group * plan.streamed.m + m
    return AccumulatorErrors(
        ptr=errors.ptr, m=m, n=n, delta=errors.delta[:used], before=errors.before, after=errors.after
    )


def _within(bits: int, errors: Errors, used: int) -> tuple[Errors, int]:
    """Deltas modulo 2^bits, without those that are none then."""
    if bits == ALL_BITS:
        return errors, used
    delta = wrap_words(errors.delta[:used].astype(np.int64), bits)
    stays = delta != 0
    ptr = np.concatenate(([0], np.cumsum(stays)))[errors.ptr]
    m, n, delta = (words[:used][stays] for words in (errors.m, errors.n, delta))
    return errors._replace(ptr=ptr, m=m, n=n, delta=delta.astype(np.int32)), int(ptr[-1])


def _solve(
    plan: Schedule, x: Streamed, register: Register, at: StruckWords, fold: Ints
) -> tuple[Errors, int]:
    if (fold < 0).all():
        zero = np.zeros_like(fold)
        return room(geometry.touched(plan, register, at, fold), zero), 0
    if register.name in control.FIELD_OF:
        return control.errors_of(plan, x, register.name, at.sites, fold)
    solve = _output_stationary if plan.output_stationary else _weight_stationary
    return solve(plan, x, register, at, fold)


def _weight_stationary(
    plan: Schedule, x: Streamed, register: Register, at: StruckWords, fold: Ints
) -> tuple[Errors, int]:
    name = register.name
    if name in (*ACTIVATION, "act_buffer"):
        find = geometry.buffered_activation if name in BUFFERS else geometry.activation
        touched = find(plan, register, at, fold)
        errors = room(touched, touched.last - touched.first)
        return errors, sums.activation_errors(x.act, x.wgt, touched, errors)
    if name in (*CHAIN, *BANKS, "wgt_buffer"):
        find = geometry.buffered_weight if name in BUFFERS else geometry.stationary_weight
        touched = find(plan, register, at, fold)
        # Bits above the weight are dead, so it is the weight that flips.
        touched = touched._replace(width=np.full_like(touched.width, plan.spec.wgt_bits))
        errors = room(touched, touched.last - touched.first)
        return errors, sums.weight_errors(x.act, x.wgt, touched, errors)
    if name in RUNNING:
        return _running(plan, x, register, at, fold)
    touched = geometry.partial_sum(plan, register, at, fold)
    if name not in DOWN:
        touched = touched._replace(width=np.full_like(touched.width, plan.spec.psum_bits))
    errors = room(touched, np.ones_like(fold))
    used = sums.partial_sum_errors(x.act, x.wgt, _preload(x), plan.spec.psum_bits, touched, errors)
    return errors, used


def _output_stationary(
    plan: Schedule, x: Streamed, register: Register, at: StruckWords, fold: Ints
) -> tuple[Errors, int]:
    name, out = register.name, (plan.spec.psum_bits, plan.shift)
    if name in RUNNING:
        return _running(plan, x, register, at, fold)
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
        errors = room(touched, touched.last - touched.first)
        starts = np.append(np.unique(plan.k_start), plan.shape.k)
        used = output_stationary.moved_operand_errors(
            x.act, x.wgt, _preload(x), out, by_row, starts, touched, errors
        )
        return errors, used
    touched = geometry.stationary_element(plan, register, at, fold)
    touched = _stationary_width(plan, register, touched)
    errors = room(touched, np.ones_like(fold))
    used = output_stationary.element_errors(x.act, x.wgt, _preload(x), out, touched, errors)
    return errors, used


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


def _running(
    plan: Schedule, x: Streamed, register: Register, at: StruckWords, fold: Ints
) -> tuple[Errors, int]:
    touched = geometry.running_sum(plan, register, at, fold)
    errors = room(touched, np.ones_like(fold))
    used = sums.running_sum_errors(x.act, x.wgt, _preload(x), x.bias, touched, errors)
    return errors, used


def _preload(x: Streamed) -> Words:
    return np.zeros((0, 0, 0), np.int8) if x.preload is None else x.preload
