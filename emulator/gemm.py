"""What the network and the hardware both speak: an integer matrix product and its requantisation.

`graph` lowers layers to this, `array` executes it; neither knows the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.jit import Int, Real, kernel
from emulator.simd.requantise import requantise_rows


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
        requantise_rows(flat, self.scale, self.zero_point, self.low, self.high, out)
        return out.reshape(acc.shape)

    def rounded(self, acc: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """acc (..., channels) int32 to the rounded products before the clip, float32."""
        result: npt.NDArray[np.float32] = np.rint(acc.astype(np.float32) * self.scale)
        return result

    def words(self) -> npt.NDArray[np.int32]:
        """(2, channels): the bits of the scales, as a register holds them, and no shifts."""
        return np.stack((self.scale.view(np.int32), np.zeros(len(self.scale), np.int32)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FixedPoint:
    """`q = clip(round(acc * multiplier / 2^(31 + shift)) + zero_point, low, high)`, as TensorFlow Lite does it.

    multiplier, shift (channels,) int32, shift 0 to 31. See `fixed_point` for the rounding.
    """

    multiplier: npt.NDArray[np.int32]
    shift: npt.NDArray[np.int32]
    zero_point: int
    low: int = -128
    high: int = 127

    def __call__(self, acc: npt.NDArray[np.int32]) -> npt.NDArray[np.int8]:
        """acc (..., channels) int32 to int8, the same shape."""
        flat = np.ascontiguousarray(acc).reshape(-1, acc.shape[-1])
        rounded = np.empty(flat.shape, np.int64)
        _fixed_point_rows(flat, self.multiplier, self.shift, rounded)
        clipped = np.clip(rounded, self.low - self.zero_point, self.high - self.zero_point) + self.zero_point
        return clipped.astype(np.int8).reshape(acc.shape)

    def words(self) -> npt.NDArray[np.int32]:
        """(2, channels): multipliers and shifts, as registers hold them."""
        return np.stack((self.multiplier, self.shift))

    @classmethod
    def of(cls, requantisation: Requantisation) -> FixedPoint:
        """The nearest multipliers of 31 bits; scales must lie in [2^-32, 1)."""
        fraction, exponent = np.frexp(requantisation.scale.astype(np.float64))
        multiplier = np.rint(fraction * (1 << 31)).astype(np.int64)
        shift = np.where(multiplier == 1 << 31, -exponent - 1, -exponent)
        multiplier = np.where(multiplier == 1 << 31, 1 << 30, multiplier)
        if shift.min() < 0 or shift.max() > 31:
            raise BadConfig(
                f"scales from {requantisation.scale.min():g} to {requantisation.scale.max():g} as fixed point; "
                "allowed: 2^-32 to below 1. Use requantiser='float32'."
            )
        return cls(
            multiplier=multiplier.astype(np.int32),
            shift=shift.astype(np.int32),
            zero_point=requantisation.zero_point,
            low=requantisation.low,
            high=requantisation.high,
        )


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
def fixed_point(acc: Int, multiplier: Int, shift: Int) -> Int:
    """acc * multiplier / 2^(31 + shift), rounded as gemmlowp does (SaturatingRoundingDoublingHighMul, then
    RoundingDivideByPOT; Jacob et al., CVPR'18 sec. 2.2). All are int32, shift in [0, 31]."""
    if acc == multiplier == -(1 << 31):
        high = np.int64((1 << 31) - 1)
    else:
        product = np.int64(acc) * np.int64(multiplier)
        nudged = product + (np.int64(1 << 30) if product >= 0 else np.int64(1 - (1 << 30)))
        # Division truncates towards zero, a shift would floor.
        high = nudged >> 31 if nudged >= 0 else -((-nudged) >> 31)
    rest = high & ((np.int64(1) << shift) - 1)
    half = (((np.int64(1) << shift) - 1) >> 1) + (1 if high < 0 else 0)
    return (high >> shift) + (1 if rest > half else 0)


@kernel
def _fixed_point_rows(
    acc: npt.NDArray[np.int32],
    multiplier: npt.NDArray[np.int32],
    shift: npt.NDArray[np.int32],
    out: npt.NDArray[np.int64],
) -> None:
    for row in range(acc.shape[0]):
        for channel in range(acc.shape[1]):
            out[row, channel] = fixed_point(acc[row, channel], multiplier[channel], shift[channel])
