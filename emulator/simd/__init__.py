"""Exact int8 products of layers, on the fastest dot-product instructions there are (`emulator.instructions`).

For kernels to call. Arrays are C-contiguous; nothing is checked inside.

    packed = pack(weight, channels)                 # once a model; or pack_into at run time, in a kernel
    conv(values, channels, groups, taps, padding, packed, bias, acc)

        acc[m, g n + j] = bias[g n + j] + sum over t, c of x[m, t, g depth + c] * weight[g, t depth + c, j]  mod 2^32

    values (pixels * channels,) int8, channels last; taps (m, T) int32: x[m, t] is pixel taps[m, t] of `values`, or
    for -1 a pixel of which every channel is `padding`, int8. weight (groups, k, n) int8 with depth = channels /
    groups and k = T depth. bias (groups n,) and acc (m, groups n) int32. The pixels that are read in place of
    im2col follow Dukhan, The Indirect Convolution Algorithm, 2019.

    packed = pack_depthwise(weight)                 # (T, channels) int8
    depthwise(values, channels, taps, padding, packed, bias, acc)

        acc[m, c] = bias[c] + sum over t of x[m, t, c] * weight[t, c]  mod 2^32

    gemm(act, wgt, bias, acc)                       # acc (m, n) = bias + act (m, k) . wgt (k, n); packs wgt
    requantise_rows(acc, scale, zero_point, low, high, out)

    lay(current, before, at, length, spread, unit, place)   # what has changed in a unit of at most PART elements
    count = read_by(readers, tap_bits, groups, group, depth, skipped, spread, unit, place, queues,
        rows, count)
    changed = settle_row(reading, settling, queues, row, pixel)             # such a row; has any of its values changed?

        after[j] = requantised(acc[j] + sum over taps and changed c of change[c] * weight[group, tap depth + c, j])

    See `emulator.simd.spread` for their arguments. Both are pasted into the kernel that calls them.

Derivation
----------
A word is 32 bits of one left operand along k, and a vector holds such words of the right operand, one for each of
LANES output channels. A step broadcasts the word and adds to every lane the dot product of the two.

`vnni`: vpdpbusd, 4 unsigned by 4 signed bytes into each of 16 lanes. It is exact: a product lies in
[255 * -128, 255 * 127], four of them and the sum are added as integers modulo 2^32 (the form that saturates is
vpdpbusds). The left operand must be unsigned, so it is u = x + 128, in bits x ^ 128, and

    sum of x w = sum of u w - 128 * sum of w:

the last term depends on the output channel only and goes into the bias when the call starts. Padding is a pixel
like the others.

`avx2`: vpmaddwd, 2 by 2 int16 into each of 8 lanes, then an addition. Operands are widened, so a pair of products is
at most 2 * 128^2 = 2^15 in int32: exact. vpmaddubsw would take bytes, but saturates the pair at 2^15 - 1:
255 * 127 + 255 * 127 is beyond it.

Sums stay in registers: a tile of `rows` pixels by `vectors` vectors uses each word of weights for all its rows, and
each broadcast for all its vectors. The source is copied once a call, converted, the padding pixel first, each pixel
filled up to whole words with zeros; weights of the filling are zeros.

The limit. On a core that starts one 512-bit vpdpbusd a cycle (AMD Zen 4) 64 MACs a cycle, on two a cycle (Intel
server cores with two such units) 128; vpmaddwd with two 256-bit units 32.

Changes: see `emulator.simd.sparse`.

Depthwise: a lane is a channel, and a word holds 4 taps of it (2 with AVX2), interleaved from runs of LANES channels
of 4 pixels.

`emulator.simd.vectors` has the tiles themselves, for other kernels on vectors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.instructions import CHOSEN
from emulator.jit import kernel
from emulator.simd.requantise import requantise_rows
from emulator.simd.spread import LOW, Queues, Reading, Settling, Spread
from emulator.simd.words import aligned

if CHOSEN.name == "plain":
    from emulator.simd.plain import (
        CHANGE,
        PART,
        QUEUE,
        add_pairs,
        conv,
        depthwise,
        lay,
        pack_depthwise_into,
        pack_into,
        packed_depthwise_words,
        packed_words,
        read_by,
        room_of,
        row_bytes,
        rule_of,
        settle_row,
        weight_rows,
    )
else:
    from emulator.simd.dense import conv, pack_into, packed_words
    from emulator.simd.depthwise import depthwise, pack_depthwise_into, packed_depthwise_words
    from emulator.simd.pairs import add_pairs, rule_of
    from emulator.simd.sparse import (
        CHANGE,
        PART,
        QUEUE,
        lay,
        read_by,
        room_of,
        row_bytes,
        settle_row,
        weight_rows,
    )

__all__ = [
    "CHANGE",
    "CHOSEN",
    "LOW",
    "PART",
    "QUEUE",
    "Queues",
    "Reading",
    "Settling",
    "Spread",
    "add_pairs",
    "aligned",
    "conv",
    "depthwise",
    "gemm",
    "lay",
    "pack",
    "pack_depthwise",
    "pack_depthwise_into",
    "pack_into",
    "packed_depthwise_words",
    "packed_words",
    "read_by",
    "requantise_rows",
    "room_of",
    "row_bytes",
    "rule_of",
    "settle_row",
    "weight_rows",
]


def pack(weight: npt.NDArray[np.int8], channels: int) -> npt.NDArray[np.int32]:
    """Weights (groups, k, n) for `conv`, `channels` of one group; (packed_words(groups, k, n, channels),) int32."""
    groups, k, n = weight.shape
    packed = aligned(packed_words(groups, k, n, channels))
    pack_into(np.ascontiguousarray(weight), channels, packed)
    return packed


def pack_depthwise(weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """Weights (taps, channels) for `depthwise`; (packed_depthwise_words(taps, channels),) int32."""
    taps, channels = weight.shape
    packed = aligned(packed_depthwise_words(taps, channels))
    pack_depthwise_into(np.ascontiguousarray(weight), packed)
    return packed


@kernel
def gemm(
    act: npt.NDArray[np.int8],
    wgt: npt.NDArray[np.int8],
    bias: npt.NDArray[np.int32],
    acc: npt.NDArray[np.int32],
) -> None:
    """acc (m, n) = bias (n,) + act (m, k) . wgt (k, n), modulo 2^32, of operands that are both new."""
    m, k = act.shape
    n = wgt.shape[1]
    packed = np.zeros(packed_words(1, k, n, k), np.int32)
    pack_into(wgt.reshape((1, k, n)), k, packed)
    taps = np.arange(m).astype(np.int32).reshape((m, 1))
    conv(act.reshape(-1), k, 1, taps, 0, packed, bias, acc)
