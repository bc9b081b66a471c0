"""The same products as loops: for processors without the instructions, and for Python without the JIT."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.jit import Int, inlined, kernel, stage
from emulator.simd.changes import Changes, Laid, Row, Sizes, add_one_by_one


@inlined
def _wrapped(total: Int) -> Int:
    """The sum as an int32 register holds it."""
    return ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


@kernel
def packed_words(groups: int, k: int, n: int, channels: int) -> int:
    """How many int32 `pack_into` fills."""
    return -(-groups * k * n // 4)


@kernel
def pack_into(weight: npt.NDArray[np.int8], channels: int, packed: npt.NDArray[np.int32]) -> None:
    """Weights (groups, k, n) as `conv` reads them: bytes (groups, n, k)."""
    groups, k, n = weight.shape
    columns = packed.view(np.int8)[: weight.size].reshape((groups, n, k))
    for group in range(groups):
        for row in range(k):
            for column in range(n):
                columns[group, column, row] = weight[group, row, column]


@kernel
def packed_depthwise_words(taps: int, channels: int) -> int:
    """How many int32 `pack_depthwise_into` fills."""
    return taps * channels


@kernel
def pack_depthwise_into(weight: npt.NDArray[np.int8], packed: npt.NDArray[np.int32]) -> None:
    """Weights (taps, channels) as `depthwise` reads them: widened."""
    packed[:] = weight.reshape(-1)


@stage
def _dot(left: npt.NDArray[np.int8], right: npt.NDArray[np.int8]) -> Int:
    """The sum of products, in parts that int32 holds: 2^16 * 2^14, which numba adds in narrow lanes."""
    total = 0
    for start in range(0, len(left), 1 << 16):
        some, other = left[start : start + (1 << 16)], right[start : start + (1 << 16)]
        part = np.int32(0)
        for place in range(len(some)):
            part = np.int32(part + np.int32(some[place]) * np.int32(other[place]))
        total += int(part)
    return total


@stage
def _gather(
    values: npt.NDArray[np.int8],
    channels: int,
    first: int,
    taps: npt.NDArray[np.int32],
    padding: int,
    patch: npt.NDArray[np.int8],
) -> None:
    """The operands of one pixel, (T * depth,), from channel `first` of each tap."""
    depth = len(patch) // len(taps)
    for tap in range(len(taps)):
        place, filled = taps[tap] * channels + first, patch[tap * depth : (tap + 1) * depth]
        if taps[tap] < 0:
            filled[:] = padding
        else:
            filled[:] = values[place : place + depth]


@kernel
def conv(
    values: npt.NDArray[np.int8],
    channels: int,
    groups: int,
    taps: npt.NDArray[np.int32],
    padding: int,
    packed: npt.NDArray[np.int32],
    bias: npt.NDArray[np.int32],
    acc: npt.NDArray[np.int32],
) -> None:
    """See the package."""
    depth, n = channels // groups, acc.shape[1] // groups
    patch = np.empty(taps.shape[1] * depth, np.int8)
    columns = packed.view(np.int8)[: len(bias) * len(patch)].reshape((len(bias), len(patch)))
    for row in range(len(taps)):
        for group in range(groups):
            _gather(values, channels, group * depth, taps[row], padding, patch)
            for column in range(group * n, (group + 1) * n):
                acc[row, column] = _wrapped(int(bias[column]) + _dot(patch, columns[column]))


@kernel
def depthwise(
    values: npt.NDArray[np.int8],
    channels: int,
    taps: npt.NDArray[np.int32],
    padding: int,
    packed: npt.NDArray[np.int32],
    bias: npt.NDArray[np.int32],
    acc: npt.NDArray[np.int32],
) -> None:
    """See the package."""
    outputs, taps_each = taps.shape
    outside = np.full(channels, padding, np.int8)
    for row in range(outputs):
        sums = acc[row]
        sums[:] = bias
        for tap in range(taps_each):
            pixel, weights = taps[row, tap], packed[tap * channels : (tap + 1) * channels]
            source = outside if pixel < 0 else values[pixel * channels : (pixel + 1) * channels]
            for channel in range(channels):
                product = int(source[channel]) * int(weights[channel])
                sums[channel] = _wrapped(int(sums[channel]) + product)


@kernel
def sum_width(n: int) -> int:
    """int32 that a row of n sums takes."""
    return n


@stage
def in_words(changes: Changes, count: Int, n: Int) -> tuple[Int, Int]:
    """No words: changes are added one at a time."""
    return 0, 0


@stage
def add_changes(
    changes: Changes,
    count: Int,
    words: tuple[Int, Int],
    weight: npt.NDArray[np.int8],
    packed: npt.NDArray[np.int32],
    group: Int,
    tap: Int,
    taps: Int,
    depth: Int,
    n: Int,
    sums: npt.NDArray[np.int32],
    place: Int,
) -> None:
    """See the package."""
    first = (group * taps + tap) * depth * n
    add_one_by_one(changes.channel[:count], changes.change[:count], weight, first, n, sums, place)


def laid_for(units: Sizes, depth: Sizes, taps: Sizes) -> Laid:
    """Nothing is laid out."""
    blank = np.zeros(1, np.int32)
    return Laid(words=blank, listed=blank, filled=blank, total=blank, units=blank, read=blank, step=blank)


@stage
def lay_changes(
    touched: npt.NDArray[np.int32],
    current: npt.NDArray[np.int8],
    before: npt.NDArray[np.int8],
    depth: Int,
    n: Int,
    laid: Laid,
) -> Int:
    """Nothing can be laid out: changes are added one at a time."""
    return -1


@stage
def clear_changes(laid: Laid, units: Int, depth: Int) -> None:
    """Nothing was laid out."""


@stage
def list_words(
    laid: Laid, taps: npt.NDArray[np.int32], groups: Int, group: Int, depth: Int
) -> tuple[Int, Int]:
    """Never called: nothing was laid out."""
    return 0, 0


@stage
def settle_row(
    laid: Laid, it: Row, group: Int, taps: Int, depth: Int, noted: npt.NDArray[np.int32], count: Int
) -> Int:
    """Never called: nothing was laid out."""
    return count
