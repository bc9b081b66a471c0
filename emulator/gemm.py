"""What the network and the hardware both speak: an integer matrix product and its requantisation.

`graph` lowers layers to this, `array` executes it; neither knows the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.jit import Int, Real, kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmShape:
    """`groups` independent products (m, k) x (k, n); a depthwise convolution has one group a channel."""

    m: int
    k: int
    n: int
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return self.groups * self.m * self.k * self.n


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requantisation:
    """`q = clip(rint(float32(acc) * scale) + zero_point, low, high)`, round half to even.

    scale (channels,) float32: x_scale * w_scale / y_scale, the product taken in float32, as ONNX Runtime's
    QLinearConv does. zero_point, low, high: in the signed int8 domain the array streams.
    """

    scale: npt.NDArray[np.float32]
    zero_point: int
    low: int = -128
    high: int = 127

    def __call__(self, acc: npt.NDArray[np.int32]) -> npt.NDArray[np.int8]:
        """acc (..., channels) int32 to int8, the same shape."""
        flat = np.ascontiguousarray(acc).reshape(-1, acc.shape[-1])
        out = np.empty(flat.shape, np.int8)
        _requantise_rows(flat, self.scale, self.zero_point, self.low, self.high, out)
        return out.reshape(acc.shape)


@kernel
def round_scaled(acc: Int, scale: Real) -> Real:
    """The rounded product before the clip, still float32: `rint(float32(acc) * scale)`."""
    rounded: Real = np.rint(np.float32(acc) * scale)
    return rounded


@kernel
def requantise(acc: Int, scale: Real, zero_point: Int, low: Int, high: Int) -> Int:
    """One int32 accumulator to its int8 value; scale must be float32."""
    return int(min(max(round_scaled(acc, scale), low - zero_point), high - zero_point)) + zero_point


@kernel
def _requantise_rows(
    acc: npt.NDArray[np.int32],
    scale: npt.NDArray[np.float32],
    zero_point: int,
    low: int,
    high: int,
    out: npt.NDArray[np.int8],
) -> None:
    for row in range(acc.shape[0]):
        for channel in range(acc.shape[1]):
            out[row, channel] = requantise(acc[row, channel], scale[channel], zero_point, low, high)
