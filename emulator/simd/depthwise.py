"""A depthwise convolution on vector instructions: a lane is a channel, a word holds PER_WORD taps of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.jit import kernel, stage
from emulator.simd.vectors import LANES, blank, load, multiply_channels, places, store, vectors_of
from emulator.simd.words import OPERAND, PER_WORD, corrected, lay_out, places_of


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


@stage
def _sum_panels(
    empty: Any,
    first: int,
    source: npt.NDArray[np.int8],
    table: npt.NDArray[np.int32],
    packed: npt.NDArray[np.int32],
    begin: npt.NDArray[np.int32],
    acc: npt.NDArray[np.int32],
) -> None:
    """Panels from `first` on, as many as `empty` has vectors, of all pixels.

    A row that ends inside the last panel spills into the row after, which is written next.
    """
    outputs, channels = acc.shape
    out, steps, column = acc.reshape(-1), len(table) // outputs // PER_WORD, first * LANES
    spill = np.empty(vectors_of(empty) * LANES, np.int32)
    for row in range(outputs):
        tile = load(empty, begin, column, 0)
        for step in range(steps):
            where = places(blank(PER_WORD, 1), table, (row * steps + step) * PER_WORD, 1, column)
            tile = multiply_channels(
                tile, source, where, packed, (first * steps + step) * LANES, steps * LANES
            )
        at = row * channels + column
        if at + len(spill) <= len(out):
            store(tile, out, at, 0)
        else:
            store(tile, spill, 0, 0)
            out[at : (row + 1) * channels] = spill[: channels - column]


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
    panels, steps = -(-channels // LANES), -(-taps.shape[1] // PER_WORD)
    table = places_of(taps, channels, steps * PER_WORD)
    # Pixel -1, the padding, comes first; the last panel of the last pixel reads on beyond it.
    source = np.empty(len(values) + channels + LANES, np.int8)
    lay_out(np.full(channels, padding, np.int8), channels, channels, source)
    lay_out(values, channels, channels, source[channels:])
    source[channels + len(values) :] = 0
    begin = corrected(bias, packed, 1, panels)
    # From the last panel back, for what spills into the first of the next row.
    while panels > 0:
        if panels & 1:
            panels -= 1
            _sum_panels(blank(1, 1), panels, source, table, packed, begin, acc)
        elif panels & 2:
            panels -= 2
            _sum_panels(blank(1, 2), panels, source, table, packed, begin, acc)
        else:
            panels -= 4
            _sum_panels(blank(1, 4), panels, source, table, packed, begin, acc)
