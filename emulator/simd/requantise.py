"""A whole layer's accumulators to int8, in loops that LLVM turns into vector instructions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.jit import Int, borrowing_stage, kernel


@borrowing_stage
def requantise_row(
    sums: npt.NDArray[np.int32],
    scale: npt.NDArray[np.float32],
    zero_point: Int,
    low: Int,
    high: Int,
    out: npt.NDArray[np.int8],
) -> None:
    """One row, (n,), as `requantise_rows` says."""
    floor, ceiling = np.float32(low - zero_point), np.float32(high - zero_point)
    for channel in range(len(scale)):
        scaled = np.rint(np.float32(sums[channel]) * scale[channel])
        out[channel] = np.int32(min(max(scaled, floor), ceiling)) + zero_point


@kernel
def requantise_rows(
    acc: npt.NDArray[np.int32],
    scale: npt.NDArray[np.float32],
    zero_point: int,
    low: int,
    high: int,
    out: npt.NDArray[np.int8],
) -> None:
    """out = clip(rint(float32(acc) * scale), low - zero_point, high - zero_point) + zero_point.

    acc and out (m, n), C-contiguous, scale (n,) float32; zero_point, low and high in int8. The same as
    `gemm.requantise` of each element: the bounds are small integers, exact in float32, and the clip comes before the
    conversion, so that no product is beyond int32.
    """
    for row in range(acc.shape[0]):
        requantise_row(acc[row], scale, zero_point, low, high, out[row])
