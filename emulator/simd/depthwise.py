"""A depthwise convolution on vector instructions: a lane is a channel, a word holds PER_WORD taps of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.jit import kernel
from emulator.simd.vectors import LANES, blank, load, multiply_channels, store, tap_places
from emulator.simd.words import OPERAND, PER_WORD, corrected, lay_out


@kernel
def packed_depthwise_words(taps: int, channels: int) -> int:
    """How many int32 `pack_depthwise_into` fills."""
    return -(-channels // LANES) * LANES * (-(-taps // PER_WORD) + 1)


@kernel
def pack_depthwise_into(weight: npt.NDArray[np.int8], packed: npt.NDArray[np.int32]) -> None:
    """Weights (taps, channels) as `depthwise` reads them; `packed` is all zeros before.

    Words (panels, steps of PER_WORD taps, LANES), then the sums over taps, (panels, LANES).
    """
    taps, channels = weight.shape
    panels, steps = -(-channels // LANES), -(-taps // PER_WORD)
    operands, sums = packed.view(OPERAND), packed[panels * steps * LANES :]
    for tap in range(taps):
        for channel in range(channels):
            word = (channel // LANES * steps + tap // PER_WORD) * LANES + channel % LANES
            operands[word * PER_WORD + tap % PER_WORD] = weight[tap, channel]
            sums[channel] += weight[tap, channel]


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
    panels, steps = -(-channels // LANES), -(-taps_each // PER_WORD)
    width = panels * LANES
    source = np.empty((len(values) // channels + 1) * width, np.int8)
    # Pixel -1, the padding, comes first.
    lay_out(np.full(channels, padding, np.int8), channels, width, source)
    lay_out(values, channels, width, source[width:])
    begin = corrected(bias, packed, 1, panels)
    whole = channels == width
    out = acc.reshape(-1) if whole else np.empty(outputs * width, np.int32)
    flat = taps.reshape(-1)
    for row in range(outputs):
        for panel in range(panels):
            tile = load(blank(1, 1), begin, panel * LANES, 0)
            for step in range(steps):
                first = step * PER_WORD
                where = tap_places(
                    flat, row * taps_each + first, taps_each - first, width, width + panel * LANES
                )
                tile = multiply_channels(tile, source, where, packed, (panel * steps + step) * LANES)
            store(tile, out, row * width + panel * LANES, 0)
    if not whole:
        for row in range(outputs):
            for channel in range(channels):
                acc[row, channel] = out[row * width + channel]
