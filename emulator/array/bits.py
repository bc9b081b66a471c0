"""Two's-complement words of any width: wrap, flip. Values travel as int64 and are narrowed explicitly,
because numba's int32 + int32 is int64."""

from __future__ import annotations

from emulator.jit import Int, kernel


@kernel
def wrap_signed(value: Int, bits: Int) -> Int:
    """`value` modulo 2^bits, read as a signed word."""
    half = 1 << (bits - 1)
    return ((value + half) & ((1 << bits) - 1)) - half


@kernel
def flip_signed(value: Int, mask: Int, bits: Int) -> Int:
    """The signed word of `bits` bits with the bits of `mask` inverted: flip_signed(5, 1 << 7, 8) is -123."""
    return wrap_signed(value ^ mask, bits)
