"""Two's-complement words of any width: wrap, flip. Values travel as int64 and are narrowed explicitly,
because numba's int32 + int32 is int64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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


def wrap_words(words: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    """`wrap_signed` of a whole array."""
    half = 1 << (bits - 1)
    return ((words + half) & ((1 << bits) - 1)) - half
