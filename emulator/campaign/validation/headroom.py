"""Do the sums fit their registers? Accumulators against int32 and the array's width, partial sums against the
width of the array's columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule
from emulator.campaign.validation.layers import Product
from emulator.graph.wide import Words
from emulator.jit import Int, kernel

Ints = npt.NDArray[np.int64]


def signed_bits(low: int, high: int) -> int:
    """The narrowest two's complement register for low to high (0 included)."""
    return max(max(high, 0).bit_length(), (-min(low, 0) - 1).bit_length() if low < 0 else 0) + 1


@dataclass(slots=True, kw_only=True)
class Sums:
    """Range of some sums over the samples, and how many of them a register of `bits` can't hold."""

    bits: int
    low: int = 0
    high: int = 0
    overflowed: int = 0
    count: int = 0

    @property
    def bits_needed(self) -> int:
        return signed_bits(self.low, self.high)

    def add(self, low: int, high: int, overflowed: int, count: int) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.overflowed += overflowed
        self.count += count

    def to_json(self, name: str) -> dict[str, Any]:
        return {
            f"{name}_min": self.low,
            f"{name}_max": self.high,
            f"{name}_bits_needed": self.bits_needed,
            f"{name}_bits": self.bits,
            f"{name}_overflowed": self.overflowed,
        }


@dataclass(slots=True, kw_only=True)
class Headroom:
    """Headroom of one layer. accumulator: exact sums, bias included; partial: what stands in a column of PEs
    between the first and the last product of a k-fold, without the bias, which waits in the accumulator."""

    accumulator: Sums
    partial: Sums
    fold: Ints = field(repr=False)

    @classmethod
    def of(cls, array: ArraySpec, plan: Schedule) -> Headroom:
        starts = np.unique(plan.k_start)
        return cls(
            accumulator=Sums(bits=array.acc_bits),
            partial=Sums(bits=array.psum_bits),
            fold=np.append(starts, plan.shape.k),
        )

    def add(self, product: Product) -> None:
        """One sample."""
        exact = exact_sums(product)
        self.accumulator.add(*_range(exact, self.accumulator.bits))
        found = np.zeros(3, np.int64)
        limit = 1 << (self.partial.bits - 1)
        for act, wgt in zip(product.act, product.wgt, strict=True):
            partial_sums(act, np.ascontiguousarray(wgt), self.fold, limit, found)
        self.partial.add(int(found[0]), int(found[1]), int(found[2]), product.act.size * product.wgt.shape[2])


def exact_sums(product: Product) -> Ints:
    """(groups, m, n) int64: bias + act @ wgt, which no width cuts short. Float64 holds sums of up to 2^37
    products of 8 bits exactly, and multiplies matrices faster than integers do."""
    sums = product.act.astype(np.float64) @ product.wgt.astype(np.float64)
    bias = product.bias if product.bias.ndim == 3 else product.bias[:, np.newaxis, :]
    return sums.astype(np.int64) + bias


def _range(values: Ints, bits: int) -> tuple[int, int, int, int]:
    limit = 1 << (bits - 1)
    overflowed = int(((values < -limit) | (values >= limit)).sum())
    return int(values.min()), int(values.max()), overflowed, values.size


@kernel
def partial_sums(act: Words, wgt: Words, fold: Ints, limit: Int, found: Ints) -> None:
    """Every partial sum of act (m, k) x wgt (k, n): after each product, from 0 at each k in `fold`.

    found (3,): lowest, highest, and how many lie outside [-limit, limit); updated in place.
    """
    low, high, over = found[0], found[1], found[2]
    column = np.empty(wgt.shape[1], np.int32)
    for row in range(act.shape[0]):
        for part in range(len(fold) - 1):
            column[:] = 0
            for k in range(fold[part], fold[part + 1]):
                value = np.int32(act[row, k])
                for n in range(wgt.shape[1]):
                    total = np.int32(column[n] + value * np.int32(wgt[k, n]))
                    column[n] = total
                    low, high = min(low, total), max(high, total)
                    over += total < -limit or total >= limit
    found[0], found[1], found[2] = low, high, over
