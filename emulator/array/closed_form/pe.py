"""One PE and one slot: the equations of docs/machine.md section 2, with the banks by what they do.

PE(r, c) works on row slot s in cycle s + 2 + r + c, and what it hands down is there one cycle later, for the same
slot. So in slots a column is swept from the top to the bottom, row by row, each over as many slots as one likes; of its
neighbours it needs nothing but the activations that pass, and those are never gated.
"""

from __future__ import annotations

from typing import NamedTuple

from emulator.array.bits import wrap_signed
from emulator.array.closed_form.output_stationary import result_of, saturated
from emulator.array.spec import ArraySpec
from emulator.jit import Int, kernel

Words4 = tuple[Int, Int, Int, Int]
Words5 = tuple[Int, Int, Int, Int, Int]


class Widths(NamedTuple):
    """Bits of weights, partial sums, banks and accumulators; whether sums saturate, else they wrap."""

    wgt: int
    psum: int
    bank: int
    acc: int
    saturate: bool


def widths(spec: ArraySpec) -> Widths:
    """A bank loads a word of psum_bits at most, however wide it is."""
    bank = min(spec.bank_bits, spec.psum_bits)
    return Widths(spec.wgt_bits, spec.psum_bits, bank, spec.acc_bits, spec.overflow == "saturate")


@kernel
def narrowed(total: Int, bits: int, saturate: bool) -> Int:
    """A sum as the array keeps it."""
    return saturated(total, bits) if saturate else wrap_signed(total, bits)


@kernel
def clocked(words: Words5, stationary_out: bool, shift: int, k: Widths) -> Words4:
    """(out_b, out_c, moving, resting) of words = (a, b, d, moving, resting) after a valid slot: the bank that shifts,
    and the other one, which is in use."""
    return clocked_out(words, shift, k) if stationary_out else clocked_weight(words, k)


@kernel
def clocked_weight(words: Words5, k: Widths) -> Words4:
    """Weight-stationary: b is a partial sum."""
    act, psum, chain, moving, resting = words
    total = narrowed(act * wrap_signed(resting, k.wgt) + psum, k.psum, k.saturate)
    return total, wrap_signed(moving, k.psum), wrap_signed(chain, k.bank), resting


@kernel
def clocked_out(words: Words5, shift: int, k: Widths) -> Words4:
    """Output-stationary: b is a weight."""
    act, weight, chain, moving, resting = words
    total = narrowed(act * wrap_signed(weight, k.wgt) + wrap_signed(resting, k.psum), k.psum, k.saturate)
    return weight, result_of(moving, k.psum, shift), wrap_signed(chain, k.bank), wrap_signed(total, k.bank)
