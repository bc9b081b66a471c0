"""Registers that hold data, and what several upsets of them can do together.

An upset of data changes neither when nor where anything is read or written. So what nobody reads stays unread, however
many words are wrong. One kind of dead word is read all the same: padding, which meets zero at the multiplier. There the
other operand may have been struck too.
"""

from __future__ import annotations

from collections.abc import Iterable

# One operand of each multiplier, from its buffer to the PEs.
STREAMED = frozenset({"act_buffer", "buf_a", "skew_a", "pe_a"})

# The other operand, and all sums.
STATIONARY_AND_SUMS = frozenset(
    {
        *("wgt_buffer", "buf_b", "skew_b", "pe_b", "buf_d", "skew_d", "pe_d", "pe_c1", "pe_c2"),
        *("out_b", "out_c", "deskew_data", "write_data", "write_bias", "write_sum", "accumulator"),
        *("requant_acc", "requant_scale", "requant_result"),
    }
)


def dead_stay_dead(registers: Iterable[str]) -> bool:
    """Do upsets of dead sites change nothing, however many sites of these registers are struck in one layer?

    True only if all hold data of one side of the multipliers: flips that do nothing alone may do something together
    where control registers are among them, or both operands of a product of padding.
    """
    names = set(registers)
    return names <= STREAMED or names <= STATIONARY_AND_SUMS
