"""The operands of a dot product as words of 32 bits: the source of a layer, and its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.instructions import CHOSEN
from emulator.jit import Int, inlined, kernel, stage
from emulator.simd.vectors import LANES, WIDEST

VNNI = CHOSEN.name == "vnni"

PER_WORD = 4 if VNNI else 2
"""Operands in a word: 4 bytes, or 2 int16."""

FLIP = 128 if VNNI else 0
"""VNNI's left operands are unsigned: value ^ 128 is value + 128."""

OPERAND = np.int8 if VNNI else np.int16
"""A right operand, and as wide as a left one."""


BOUNDARY = 64
"""Bytes: a vector across two cache lines takes two reads."""


def aligned(size: int, dtype: Any = np.int32) -> npt.NDArray[Any]:
    """Zeros, (size,) of dtype, from a BOUNDARY on."""
    room = np.zeros(size * np.dtype(dtype).itemsize + BOUNDARY, np.uint8)
    skipped = -room.ctypes.data % BOUNDARY
    return room[skipped : skipped + size * np.dtype(dtype).itemsize].view(dtype)


@inlined
def words_of(depth: Int) -> Int:
    """How many words `depth` operands take."""
    return -(-depth // PER_WORD)


@inlined
def next_vectors(panels: Int) -> Int:
    """Vectors in the next tile of a row that has `panels` to go: 1 or 2 where they are odd, else the most there are."""
    return 1 if panels & 1 else 2 if panels & 2 or WIDEST == 2 else 4


@stage
def lay_out(values: npt.NDArray[np.int8], depth: int, width: Int, room: npt.NDArray[Any]) -> None:
    """Runs of `depth` values into runs of `width` operands, filled up with zeros."""
    if width == depth:
        for place in range(len(values)):
            room[place] = values[place] ^ FLIP
        return
    for run in range(len(values) // depth):
        filled, given = room[run * width : (run + 1) * width], values[run * depth : (run + 1) * depth]
        for place in range(depth):
            filled[place] = given[place] ^ FLIP
        for place in range(depth, width):
            filled[place] = 0


@stage
def places_of(taps: npt.NDArray[np.int32], size: Int, width: int) -> npt.NDArray[np.int32]:
    """Where the pixel of each tap starts, (m * width,) int32, if pixels are `size` long and -1 is the first.

    Taps from T to `width` are pixel -1. Done once a call: a core multiplies one pair of scalars a cycle.
    """
    outputs, taps_each = taps.shape
    if width == taps_each:
        table, flat = np.empty(outputs * width, np.int32), taps.reshape(-1)
        for place in range(len(flat)):
            table[place] = (flat[place] + 1) * size
        return table
    table = np.zeros(outputs * width, np.int32)
    for row in range(outputs):
        filled, given = table[row * width : (row + 1) * width], taps[row]
        for tap in range(taps_each):
            filled[tap] = (given[tap] + 1) * size
    return table


@kernel
def corrected(
    bias: npt.NDArray[np.int32], packed: npt.NDArray[np.int32], groups: int, panels: int
) -> npt.NDArray[np.int32]:
    """What the sums of each group start from, (groups, panels * LANES): the bias, less what FLIP will add."""
    n, width = len(bias) // groups, panels * LANES
    begin = np.zeros(groups * width, np.int32)
    corrections = packed[len(packed) - len(begin) :]
    for group in range(groups):
        for column in range(n):
            place = group * width + column
            begin[place] = bias[group * n + column] - FLIP * corrections[place]
    return begin
