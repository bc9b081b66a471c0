"""MAC layers the kernels do not take: two computed operands (attention), 16-bit operands, zero points that are known at
run time only, accumulators that leave as they are. Whole products, exact modulo 2^32."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.graph.qgraph import Int32, MacLayer

Words = npt.NDArray[np.int8] | npt.NDArray[np.int16]
Ints = npt.NDArray[np.int64]

# How far unsigned integers are moved to be stored as signed ones.
OFFSETS = {np.dtype(np.uint8): 128, np.dtype(np.uint16): 1 << 15}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WideOperands:
    """act (groups, m, k), wgt (groups, k, n): signed, as the array sees them; zero_point: of act; zero_points
    (groups, n): of wgt."""

    act: Words = field(repr=False)
    wgt: Words = field(repr=False)
    zero_point: int
    zero_points: Int32 = field(repr=False)

    def bias(self, given: Int32) -> Int32:
        """(groups, n), or (groups, m, n) where weights have a zero point, int32: what the sums of products start from,
        so that they end as given + sum of (x - zx) * (w - zw)."""
        k = self.act.shape[2]
        zw = self.zero_points.astype(np.int64)
        start = given.astype(np.int64) - self.zero_point * (self.wgt.sum(axis=1, dtype=np.int64) - k * zw)
        if zw.any():
            rows = self.act.sum(axis=2, dtype=np.int64)[:, :, np.newaxis]
            start = start[:, np.newaxis] - rows * zw[:, np.newaxis]
        corrected: Int32 = start.astype(np.int32)
        return corrected

    def accumulate(self, given: Int32) -> Int32:
        """(m, groups * n) int32. Products are exact in float64: below 2^30 each, k below 2^23."""
        start = self.bias(given)
        start = start[:, np.newaxis] if start.ndim == 2 else start
        total = (self.act.astype(np.float64) @ self.wgt.astype(np.float64)).astype(np.int64) + start
        return np.ascontiguousarray(total.transpose(1, 0, 2)).reshape(total.shape[1], -1).astype(np.int32)


def signed(values: npt.NDArray[Any]) -> Words:
    """8- or 16-bit integers as signed ones of the same width."""
    moved = values.astype(np.int32) - OFFSETS.get(values.dtype, 0)
    return moved.astype(np.int16) if values.dtype.itemsize == 2 else moved.astype(np.int8)


def signed_zero(values: npt.NDArray[Any]) -> Int32:
    """Zero points that belong to `signed` values."""
    return values.astype(np.int32).reshape(-1) - OFFSETS.get(values.dtype, 0)


def left_operand(mac: MacLayer, values: Words, zero_point: int) -> Words:
    """(groups, m, k) of values in ONNX order, padding in place."""
    shape = mac.shape
    if mac.taps is None:
        return _stack(values, (shape.m, shape.k), mac.batch)
    pixels = np.moveaxis(values, 1, -1) if mac.op == "Conv" else values
    pixels = pixels.reshape(-1, mac.channels)
    padding = np.full((1, mac.channels), zero_point, values.dtype)
    # Tap -1 reads the last row: the padding.
    met = np.concatenate([pixels, padding])[mac.taps]
    met = met.reshape(shape.m, -1, shape.groups, mac.channels // shape.groups)
    return np.ascontiguousarray(met.transpose(2, 0, 1, 3)).reshape(shape.groups, shape.m, shape.k)


def right_operand(mac: MacLayer, values: Words) -> Words:
    """(groups, k, n) of values in ONNX order."""
    return _stack(values, (mac.shape.k, mac.shape.n), mac.batch)


def _stack(values: Words, matrix: tuple[int, int], batch: tuple[int, ...]) -> Words:
    """Matrices, one a group; those of a smaller batch serve several groups."""
    whole = values.reshape(*values.shape[:-2], *matrix)
    return np.ascontiguousarray(np.broadcast_to(whole, (*batch, *matrix))).reshape(-1, *matrix)


def as_stored(mac: MacLayer, result: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(m, groups * n) to the order in which a tensor of this layer is stored."""
    if mac.taps is not None:
        return result.reshape(-1)
    shape = mac.shape
    return result.reshape(shape.m, shape.groups, shape.n).transpose(1, 0, 2).reshape(-1)


def target_element(mac: MacLayer, m: Ints, n: Ints) -> Ints:
    """Where [m, n] of the accumulator matrix is in that order."""
    if mac.taps is not None:
        return m * mac.columns + n
    group, column = np.divmod(n, mac.shape.n)
    return (group * mac.shape.m + m) * mac.shape.n + column


def in_shape(mac: MacLayer, acc: Int32) -> Int32:
    """Accumulators (m, groups * n) in the ONNX shape of the layer's output."""
    if mac.op == "Conv":
        n, c, *spatial = mac.target_shape
        return np.ascontiguousarray(np.moveaxis(acc.reshape(n, *spatial, c), -1, 1))
    ordered: Int32 = np.array(as_stored(mac, acc).reshape(mac.target_shape), order="C")
    return ordered
