"""The product of a layer on vector instructions: pixels by channels, in tiles of registers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.jit import Int, kernel, stage
from emulator.simd.vectors import LANES, WIDEST, blank, load, multiply_operands, places, store
from emulator.simd.words import OPERAND, PER_WORD, VNNI, corrected, lay_out, next_vectors, places_of, words_of

# Rows of a tile of 1, 2 and 4 vectors. The sums must stay in registers: there are 32 with AVX-512, 16 with AVX2, less
# those that hold the weights of a step and one broadcast word. So should the places of the rows, in 16 of integers,
# which makes more than 8 rows slower (measured).
_ROWS_1, _ROWS_2, _ROWS_4 = (8, 8, 6) if VNNI else (8, 6, 3)


@kernel
def packed_words(groups: int, k: int, n: int, channels: int) -> int:
    """How many int32 `pack_into` fills."""
    panels, words = -(-n // LANES), words_of(channels)
    return int(groups * panels * LANES * (k // channels * words + 1))


@kernel
def pack_into(weight: npt.NDArray[np.int8], channels: int, packed: npt.NDArray[np.int32]) -> None:
    """Weights in the order in which `conv` reads them; `packed` is all zeros before.

    weight (groups, k, n), k index = tap * channels + channel, `channels` of one group. Words (groups, panels, taps,
    words a tap, LANES), where a panel is LANES output channels and a word PER_WORD input channels; then the sums
    over k, (groups, panels, LANES).
    """
    groups, k, n = weight.shape
    panels, words = -(-n // LANES), words_of(channels)
    steps = k // channels * words
    operands, sums = packed.view(OPERAND), packed[groups * panels * steps * LANES :]
    for group in range(groups):
        for row in range(k):
            tap, channel = row // channels, row % channels
            step = tap * words + channel // PER_WORD
            for column in range(n):
                panel = group * panels + column // LANES
                word = (panel * steps + step) * LANES + column % LANES
                operands[word * PER_WORD + channel % PER_WORD] = weight[group, row, column]
                sums[panel * LANES + column % LANES] += weight[group, row, column]


class _Columns(NamedTuple):
    """Some panels of one group: where the operands lie, and where the sums go."""

    source: npt.NDArray[np.int32]
    table: npt.NDArray[np.int32]
    weights: npt.NDArray[np.int32]
    begin: npt.NDArray[np.int32]
    out: npt.NDArray[np.int32]
    taps_each: Int
    source_at: Int
    words: Int
    weights_at: Int
    begin_at: Int
    out_at: Int
    out_stride: Int


@stage
def _sum_rows(empty: Any, rows: int, it: _Columns) -> None:
    """All pixels, a tile of `rows` at a time; the last tile moves back over some of the one before."""
    pixels = len(it.table) // it.taps_each
    panel = it.taps_each * it.words * LANES
    for start in range(0, pixels, rows):
        row = min(start, pixels - rows)
        tile = load(empty, it.begin, it.begin_at, 0)
        at = it.weights_at
        for tap in range(it.taps_each):
            first = row * it.taps_each + tap
            where = places(empty, it.table, first, it.taps_each, it.source_at)
            for word in range(it.words):
                tile = multiply_operands(tile, it.source, where, word, it.weights, at, panel)
                at += LANES
        store(tile, it.out, it.out_at + row * it.out_stride, it.out_stride)


@stage
def _sum_columns(tall: Any, rows: int, single: Any, it: _Columns) -> None:
    """In tiles of `rows` pixels, or single ones where there are fewer."""
    if len(it.table) >= rows * it.taps_each:
        _sum_rows(tall, rows, it)
    else:
        _sum_rows(single, 1, it)


@stage
def _sum_group(panels: Int, it: _Columns) -> None:
    """All panels of a group, from the last back, for what it spills into the first of the next row."""
    panel = it.taps_each * it.words * LANES
    while panels > 0:
        vectors = next_vectors(panels)
        panels -= vectors
        rest = _Columns(
            it.source, it.table, it.weights, it.begin, it.out, it.taps_each, it.source_at, it.words,
            it.weights_at + panels * panel, it.begin_at + panels * LANES, it.out_at + panels * LANES, it.out_stride,
        )  # fmt: skip
        if vectors == 1:
            _sum_columns(blank(_ROWS_1, 1), _ROWS_1, blank(1, 1), rest)
        elif vectors == 2:
            _sum_columns(blank(_ROWS_2, 2), _ROWS_2, blank(1, 2), rest)
        elif WIDEST == 4:
            _sum_columns(blank(_ROWS_4, 4), _ROWS_4, blank(1, 4), rest)


@stage
def _take(out: npt.NDArray[np.int32], acc: npt.NDArray[np.int32], first: int, n: int) -> None:
    """Rows of n sums into the columns of `acc` from `first` on."""
    if n == acc.shape[1]:
        acc.reshape(-1)[:] = out[: acc.size]
        return
    for row in range(len(acc)):
        for column in range(n):
            acc[row, first + column] = out[row * n + column]


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
    words, panels = words_of(depth), -(-n // LANES)
    pixel_words, width = groups * words, panels * LANES
    source = np.empty((len(values) // channels + 1) * pixel_words, np.int32)
    operands = source.view(OPERAND)
    # Pixel -1, the padding, comes first.
    lay_out(np.full(channels, padding, np.int8), depth, words * PER_WORD, operands)
    lay_out(values, depth, words * PER_WORD, operands[pixel_words * PER_WORD :])
    table = places_of(taps, pixel_words, taps_each)
    begin = corrected(bias, packed, groups, panels)
    # Where the last panel is not full, a row spills into the row after, and the last one beyond the end.
    whole = n == width
    out = acc.reshape(-1) if whole else np.empty(outputs * n + LANES, np.int32)
    for group in range(groups):
        it = _Columns(
            source, table, packed, begin, out, taps_each, group * words, words,
            group * panels * taps_each * words * LANES, group * width,
            group * n if whole else 0, acc.shape[1] if whole else n,
        )  # fmt: skip
        _sum_group(panels, it)
        if not whole:
            _take(out, acc, group * n, n)
