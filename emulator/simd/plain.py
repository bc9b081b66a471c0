"""The same products as loops: for processors without the instructions, and for Python without the JIT."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.jit import Int, borrowing_stage, inlined, kernel, stage
from emulator.simd.requantise import requantise_row
from emulator.simd.spread import LOW, Queues, Reading, Settling, Spread


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


PART = 64
CHANGE: Any = np.int32
QUEUE = 1


def room_of(part: int) -> int:
    """Room for the lists of a unit."""
    return part


@borrowing_stage
def lay(
    current: npt.NDArray[np.int8],
    before: npt.NDArray[np.int8],
    at: Int,
    length: Int,
    spread: Spread,
    unit: Int,
    place: Int,
) -> None:
    """See the package."""
    first, total = place, np.int64(0)
    for channel in range(length):
        change = np.int64(current[at + channel]) - np.int64(before[at + channel])
        if change != 0:
            spread.channel[place], spread.change[place] = channel, change
            total += change
            place += 1
    spread.mark[unit] = total << 32 | place - first


def weight_rows(weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Weights (groups, k, n) as they are."""
    return weight.reshape(-1)


def row_bytes(n: int) -> int:
    """Bytes that the weights of one element take."""
    return n


@borrowing_stage
def read_by(
    readers: npt.NDArray[np.int32],
    tap_bits: Int,
    groups: Int,
    group: Int,
    depth: Int,
    skipped: Int,
    spread: Spread,
    unit: Int,
    place: Int,
    queues: Queues,
    rows: npt.NDArray[np.int32],
    count: Int,
) -> Int:
    """Nothing is queued: each row looks at all its taps."""
    for reader in readers:
        row = (np.int64(reader) >> tap_bits) * groups + group
        if queues.mark[row] == 0:
            queues.mark[row] = 1
            rows[count] = row
            count += 1
    return count


@borrowing_stage
def settle_row(reading: Reading, it: Settling, queues: Queues, row: Int, pixel: Int) -> bool:
    """See the package."""
    queues.mark[row] = 0
    n, total = reading.n, np.int64(0)
    at, sums, values = pixel * it.stride, reading.sums[: reading.n], reading.values[: reading.n]
    for i in range(n):
        sums[i] = it.acc[it.acc_at + at + i]
    for tap in range(reading.each):
        source = np.int64(reading.taps[reading.taps_at + pixel * reading.each + tap])
        weight_at = reading.weight_at + tap * reading.depth * n
        for part in range(reading.parts):
            unit = reading.unit_at + source * reading.step + part
            mark, place = np.int64(reading.spread.mark[unit]), reading.places_at + unit * reading.room
            for i in range(place, place + (mark & LOW)):
                weights = reading.weight[weight_at + np.int64(reading.spread.channel[i]) * n :][:n]
                _add_scaled(sums, weights, reading.spread.change[i])
            total += mark >> 32
            weight_at += reading.part * n
    zero = it.weight_zero[it.column :][:n]
    for i in range(n):
        sums[i] = np.int32(sums[i] - np.int32(total) * zero[i])
    requantise_row(sums, it.scale[it.column :][:n], it.zero_point, it.low, it.high, values)
    differs = False
    for i in range(n):
        differs |= values[i] != it.before[it.at + at + i]
        it.after[it.at + at + i] = values[i]
    return differs


@borrowing_stage
def _add_scaled(sums: npt.NDArray[np.int32], weights: npt.NDArray[np.int8], change: Int) -> None:
    """sums += change * weights, modulo 2^32."""
    for i in range(len(sums)):
        sums[i] = np.int32(sums[i] + np.int32(change) * np.int32(weights[i]))


def rule_of(
    table: npt.NDArray[np.int8], left: Any, right: Any, target: Any
) -> npt.NDArray[np.float32] | None:
    """Tables are all there is."""
    return None


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
    """Never called: there are no rules."""
    return False
