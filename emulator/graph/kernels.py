"""Integer operators, dense. One output element at a time where propagation needs the same arithmetic.

`values` is the value pool, `row` an operator row, `start` where a tensor begins in the pool.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.gemm import requantise
from emulator.graph.program import Col, Program
from emulator.jit import Int, kernel

Values = npt.NDArray[np.int8]
Row = npt.NDArray[np.int64]


@kernel
def im2col(values: Values, start: Int, row: Row, group: Int, padding: Int, out: Values) -> None:
    """The streamed operand of one group: out (m, k) int8, padding where the window leaves the image."""
    per_group = row[Col.CHANNELS] // row[Col.GROUPS]
    m = 0
    for oh in range(row[Col.OUT_HEIGHT]):
        for ow in range(row[Col.OUT_WIDTH]):
            k = 0
            for kh in range(row[Col.KERNEL_H]):
                ih = oh * row[Col.STRIDE_H] + kh * row[Col.DILATION_H] - row[Col.PAD_TOP]
                for kw in range(row[Col.KERNEL_W]):
                    iw = ow * row[Col.STRIDE_W] + kw * row[Col.DILATION_W] - row[Col.PAD_LEFT]
                    if 0 <= ih < row[Col.HEIGHT] and 0 <= iw < row[Col.WIDTH]:
                        base = start + (ih * row[Col.WIDTH] + iw) * row[Col.CHANNELS] + group * per_group
                        out[m, k : k + per_group] = values[base : base + per_group]
                    else:
                        out[m, k : k + per_group] = padding
                    k += per_group
            m += 1


@kernel
def gemm(
    act: Values, weight_t: Values, bias: npt.NDArray[np.int32], acc: npt.NDArray[np.int32], first: Int
) -> None:
    """acc[:, first:first + n] = bias + act (m, k) @ weight_t (n, k) transposed, modulo 2^32."""
    for m in range(act.shape[0]):
        for n in range(weight_t.shape[0]):
            total = np.int32(0)
            for k in range(act.shape[1]):
                total = np.int32(total + np.int32(act[m, k]) * np.int32(weight_t[n, k]))
            acc[m, first + n] = total + bias[n]


@kernel
def accumulate(p: Program, row: Row, values: Values, acc: npt.NDArray[np.int32]) -> None:
    """The accumulators of a MAC layer into the accumulator pool."""
    groups, k, n = row[Col.GROUPS], row[Col.K], row[Col.N]
    m = row[Col.OUT_HEIGHT] * row[Col.OUT_WIDTH]
    out = acc[row[Col.ACC_START] : row[Col.ACC_START] + m * groups * n].reshape(m, groups * n)
    act = np.empty((m, k), np.int8)
    start = p.tensor_start[row[Col.SOURCE]]
    padding = p.zero_points[row[Col.SOURCE]]
    for group in range(groups):
        im2col(values, start, row, group, padding, act)
        w = row[Col.WEIGHT_START] + group * k * n
        b = row[Col.BIAS_START] + group * n
        gemm(act, p.weight_t[w : w + k * n].reshape(n, k), p.bias[b : b + n], out, group * n)


@kernel
def requantise_layer(p: Program, row: Row, values: Values, acc: npt.NDArray[np.int32]) -> None:
    """Every accumulator of a MAC layer to its int8 value."""
    channels = row[Col.GROUPS] * row[Col.N]
    zero_point, low, high = row[Col.ZERO_POINT], row[Col.LOW], row[Col.HIGH]
    scale = p.scale[row[Col.BIAS_START] : row[Col.BIAS_START] + channels]
    for m in range(row[Col.OUT_HEIGHT] * row[Col.OUT_WIDTH]):
        total = acc[row[Col.ACC_START] + m * channels :]
        out = values[p.tensor_start[row[Col.TARGET]] + m * channels :]
        for c in range(channels):
            out[c] = requantise(total[c], scale[c], zero_point, low, high)


@kernel
def table_at(p: Program, row: Row, values: Values, element: Int) -> Int:
    """A unary operator at one element."""
    code = np.int64(values[p.tensor_start[row[Col.SOURCE]] + element]) + 128
    return np.int64(p.tables[row[Col.TABLE_START] + code])


@kernel
def pair_at(p: Program, row: Row, values: Values, element: Int) -> Int:
    """A binary operator at one element."""
    left = np.int64(values[p.tensor_start[row[Col.SOURCE]] + element]) + 128
    right = np.int64(values[p.tensor_start[row[Col.RIGHT]] + element]) + 128
    return np.int64(p.tables[row[Col.TABLE_START] + left * 256 + right])


@kernel
def moved_at(p: Program, row: Row, values: Values, element: Int) -> Int:
    """A moved value, or the fill of a Pad."""
    origin = p.moves[row[Col.INDEX_START] + element]
    if origin < 0:
        return np.int64(row[Col.FILL])
    return np.int64(values[p.tensor_start[row[Col.SOURCE]] + origin])


@kernel
def max_at(p: Program, row: Row, values: Values, element: Int) -> Int:
    """The maximum of one window; element = (oh * OUT_WIDTH + ow) * CHANNELS + c."""
    channel = element % row[Col.CHANNELS]
    ow = element // row[Col.CHANNELS] % row[Col.OUT_WIDTH]
    oh = element // row[Col.CHANNELS] // row[Col.OUT_WIDTH]
    start = p.tensor_start[row[Col.SOURCE]] + channel
    best = np.int64(-128)
    for kh in range(row[Col.KERNEL_H]):
        ih = oh * row[Col.STRIDE_H] + kh * row[Col.DILATION_H] - row[Col.PAD_TOP]
        for kw in range(row[Col.KERNEL_W]):
            iw = ow * row[Col.STRIDE_W] + kw * row[Col.DILATION_W] - row[Col.PAD_LEFT]
            if 0 <= ih < row[Col.HEIGHT] and 0 <= iw < row[Col.WIDTH]:
                best = max(best, np.int64(values[start + (ih * row[Col.WIDTH] + iw) * row[Col.CHANNELS]]))
    return best


@kernel
def average_at(p: Program, row: Row, values: Values, element: Int) -> Int:
    """The mean of one window, in the order and precision of ONNX Runtime's QLinearAveragePool."""
    channel = element % row[Col.CHANNELS]
    ow = element // row[Col.CHANNELS] % row[Col.OUT_WIDTH]
    oh = element // row[Col.CHANNELS] // row[Col.OUT_WIDTH]
    start = p.tensor_start[row[Col.SOURCE]] + channel
    scale_in, scale_out = p.real[row[Col.REAL_START]], p.real[row[Col.REAL_START] + 1]
    zero_in, zero_out = p.zero_points[row[Col.SOURCE]], p.zero_points[row[Col.TARGET]]
    total = np.float32(0)
    count = 0
    for kh in range(row[Col.KERNEL_H]):
        ih = oh * row[Col.STRIDE_H] + kh * row[Col.DILATION_H] - row[Col.PAD_TOP]
        for kw in range(row[Col.KERNEL_W]):
            iw = ow * row[Col.STRIDE_W] + kw * row[Col.DILATION_W] - row[Col.PAD_LEFT]
            if 0 <= ih < row[Col.HEIGHT] and 0 <= iw < row[Col.WIDTH]:
                value = values[start + (ih * row[Col.WIDTH] + iw) * row[Col.CHANNELS]]
                total += np.float32(value - zero_in) * scale_in
                count += 1
    if row[Col.COUNT_PAD]:
        count = row[Col.KERNEL_H] * row[Col.KERNEL_W]
    mean = total / np.float32(count)
    # ONNX Runtime adds the zero point before it rounds, so the sum must have the size it has there.
    offset = p.real[row[Col.REAL_START] + 2]
    rounded = np.rint(mean / scale_out + (np.float32(zero_out) + offset)) - offset
    return int(min(max(rounded, np.float32(-128)), np.float32(127)))


@kernel
def global_average_at(p: Program, row: Row, values: Values, element: Int) -> Int:
    """The mean of a channel: integer sum, one requantisation."""
    start = p.tensor_start[row[Col.SOURCE]] + element
    total = np.int32(0)
    for position in range(row[Col.HEIGHT]):
        total += values[start + position * row[Col.CHANNELS]] - p.zero_points[row[Col.SOURCE]]
    return requantise(total, p.real[row[Col.REAL_START]], p.zero_points[row[Col.TARGET]], -128, 127)
