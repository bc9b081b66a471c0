"""Additions of two int8 tensors in vector registers, as ONNX Runtime rounds them.

A binary operator is a table of 256 x 256 results. Where

    y = clip(rint(fma(a + 128, ra, fma(b + 128, rb, c))) - 128),    ra = sa / sy, rb = sb / sy, c = zy - (ra za + rb zb)

in float32 (ONNX Runtime 1.23, QLinearAdd; for int8 tensors without the 128), gives each of the 65,536 results, it is
computed so: a table takes longer, as it lies far from the core. `rule_of` tries every pair.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.jit import Int, borrowing_stage, kernel
from emulator.simd.sparse import PART
from emulator.simd.vectors import scaled_sum

Quantised = tuple[float, int, int]
"""Of a tensor: scale, zero point as stored, offset (128 for uint8)."""


def rule_of(
    table: npt.NDArray[np.int8], left: Quantised, right: Quantised, target: Quantised
) -> npt.NDArray[np.float32] | None:
    """The numbers for `add_pairs`, None where they don't give the table, (65536,)."""
    (sa, za, oa), (sb, zb, ob), (sy, zy, oy) = left, right, target
    ra, rb = np.float32(sa) / np.float32(sy), np.float32(sb) / np.float32(sy)
    fixed = np.float32(zy + oy) - (ra * np.float32(za + oa) + rb * np.float32(zb + ob))
    rule = np.array([ra, rb, fixed, oa, ob, oy, table.min(), table.max()], np.float32)
    return rule if np.isfinite(rule).all() and _gives(rule, table) else None


@kernel
def _gives(rule: npt.NDArray[np.float32], table: npt.NDArray[np.int8]) -> bool:
    codes = np.arange(-128, 128).astype(np.int8)
    left, out = np.zeros(PART, np.int8), np.zeros(PART, np.int8)
    for a in range(256):
        left[:] = codes[a]
        for first in range(0, 256, PART):
            if add_pairs(left, 0, codes, first, rule, 0, PART, table[a * 256 + first :], out, 0):
                return False
    return True


@borrowing_stage
def add_pairs(
    left: npt.NDArray[np.int8],
    left_at: Int,
    right: npt.NDArray[np.int8],
    right_at: Int,
    rule: npt.NDArray[np.float32],
    rule_at: Int,
    count: Int,
    before: npt.NDArray[np.int8],
    after: npt.NDArray[np.int8],
    at: Int,
) -> bool:
    """`count` <= PART sums into after[at:]; is any not what it is in before[at:]?"""
    differs: bool = scaled_sum(PART, left, left_at, right, right_at, rule, rule_at, count, before, after, at)
    return differs
