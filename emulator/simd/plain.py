"""The same products as loops: for processors without the instructions, and for Python without the JIT."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.jit import Int, inlined, kernel


@inlined
def _wrapped(total: Int) -> Int:
    """The sum as an int32 register holds it."""
    return ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


@kernel
def packed_words(groups: int, k: int, n: int, channels: int) -> int:
    """How many int32 `pack_into` fills."""
    return groups * k * n


@kernel
def pack_into(weight: npt.NDArray[np.int8], channels: int, packed: npt.NDArray[np.int32]) -> None:
    """Weights (groups, k, n) as `conv` reads them: widened."""
    packed[:] = weight.reshape(-1)


@kernel
def packed_depthwise_words(taps: int, channels: int) -> int:
    """How many int32 `pack_depthwise_into` fills."""
    return taps * channels


@kernel
def pack_depthwise_into(weight: npt.NDArray[np.int8], packed: npt.NDArray[np.int32]) -> None:
    """Weights (taps, channels) as `depthwise` reads them: widened."""
    packed[:] = weight.reshape(-1)


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
    outputs, taps_each = taps.shape
    depth, n = channels // groups, acc.shape[1] // groups
    for row in range(outputs):
        acc[row] = bias
        for tap in range(taps_each):
            pixel = taps[row, tap]
            for channel in range(channels):
                value = padding if pixel < 0 else int(values[pixel * channels + channel])
                if value == 0:
                    continue
                group = channel // depth
                at = ((group * taps_each + tap) * depth + channel % depth) * n
                sums, weights = acc[row, group * n : (group + 1) * n], packed[at : at + n]
                for column in range(n):
                    sums[column] = _wrapped(int(sums[column]) + value * int(weights[column]))


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
