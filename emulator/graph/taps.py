"""Sliding windows of any rank as taps: which source pixel each output pixel meets at each position of the window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]


def taps_of(
    attributes: Mapping[str, Any], kernel: Sequence[int], source: Sequence[int], target: Sequence[int]
) -> Int32:
    """(pixels out, window positions) int32 for ONNX shapes (N, C, ...): pixel index in the channels-last source, -1
    for padding. attributes: those of Conv and the pools (strides, dilations, pads, auto_pad)."""
    rank = len(source) - 2
    strides = attributes.get("strides", (1,) * rank)
    dilations = attributes.get("dilations", (1,) * rank)
    begin = _padding_before(attributes, kernel, source[2:], target[2:], strides, dilations)
    batch = np.arange(target[0]).reshape(-1, *(1,) * (2 * rank))
    pixel, inside = batch, np.ones_like(batch, np.bool_)
    for axis in range(rank):
        out, position = np.arange(target[2 + axis]), np.arange(kernel[axis])
        at = out[:, np.newaxis] * strides[axis] + position * dilations[axis] - begin[axis]
        shape = [1] * (2 * rank + 1)
        shape[1 + axis], shape[1 + rank + axis] = at.shape
        at = at.reshape(shape)
        inside = inside & (at >= 0) & (at < source[2 + axis])
        pixel = pixel * source[2 + axis] + at
    pixels = int(target[0]) * int(np.prod(target[2:], dtype=np.int64))
    return np.where(inside, pixel, -1).reshape(pixels, -1).astype(np.int32)


def row_taps(rows: int) -> Int32:
    """(rows, 1): every row of a matrix is a pixel, met once."""
    return np.arange(rows, dtype=np.int32)[:, np.newaxis]


def _padding_before(
    attributes: Mapping[str, Any],
    kernel: Sequence[int],
    spatial: Sequence[int],
    out: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Padding at the start of each axis; what is missing at the end follows from the output size."""
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        return list(attributes.get("pads", (0,) * len(spatial)))[: len(spatial)]
    if auto == "VALID":
        return [0] * len(spatial)
    total = [
        max(0, (o - 1) * s + d * (k - 1) + 1 - i)
        for o, s, d, k, i in zip(out, strides, dilations, kernel, spatial, strict=True)
    ]
    return [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
