"""Integer operators, dense. One output element at a time where propagation needs the same arithmetic.

`values` is the value pool, `row` an operator row, `start` where a tensor begins in the pool.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.gemm import requantise
from emulator.graph.program import Col, Kind, Program
from emulator.jit import Int, borrowing, kernel
from emulator.simd import conv, depthwise, requantise_rows

Values = npt.NDArray[np.int8]
Row = npt.NDArray[np.int64]
Accumulators = npt.NDArray[np.int32]


@kernel
def im2col(p: Program, row: Row, values: Values, group: Int, out: Values) -> None:
    """The streamed operand of one group: out (m, k) int8, the zero point where a tap leaves the source."""
    channels = row[Col.CHANNELS]
    width = channels // row[Col.GROUPS]
    start = p.tensor_start[row[Col.SOURCE]] + group * width
    taps = p.indices[row[Col.TAPS_START] :]
    tap = 0
    for m in range(row[Col.M]):
        for t in range(row[Col.TAPS]):
            k = t * width
            if taps[tap] < 0:
                out[m, k : k + width] = row[Col.PADDING]
            else:
                base = start + taps[tap] * channels
                out[m, k : k + width] = values[base : base + width]
            tap += 1


@kernel
def _correct_weight_zero(p: Program, row: Row, values: Values, acc: Accumulators) -> None:
    """acc (m, groups * n) -= zero point of the weights * the sum of what each row of a group streams."""
    act = np.empty((row[Col.M], row[Col.K]), np.int8)
    n = row[Col.N]
    for group in range(row[Col.GROUPS]):
        im2col(p, row, values, group, act)
        zero = p.weight_zero[row[Col.BIAS_START] + group * n :]
        for m in range(row[Col.M]):
            total = np.int32(0)
            for k in range(row[Col.K]):
                total = np.int32(total + act[m, k])
            for column in range(n):
                acc[m, group * n + column] -= np.int32(total * zero[column])


@kernel
def accumulate(p: Program, row: Row, values: Values, acc: Accumulators) -> None:
    """The accumulators of a MAC layer into the accumulator pool."""
    m, groups, channels, columns = (
        row[Col.M],
        row[Col.GROUPS],
        row[Col.CHANNELS],
        row[Col.GROUPS] * row[Col.N],
    )
    out = acc[row[Col.ACC_START] : row[Col.ACC_START] + m * columns].reshape(m, columns)
    source = values[p.tensor_start[row[Col.SOURCE]] : p.tensor_start[row[Col.SOURCE] + 1]]
    taps = p.indices[row[Col.TAPS_START] : row[Col.TAPS_START] + m * row[Col.TAPS]].reshape(m, row[Col.TAPS])
    bias = p.bias[row[Col.BIAS_START] : row[Col.BIAS_START] + columns]
    packed = p.packed[row[Col.PACKED_START] : row[Col.PACKED_START] + row[Col.PACKED_SIZE]]
    if row[Col.DEPTHWISE]:
        depthwise(source, channels, taps, row[Col.PADDING], packed, bias, out)
    else:
        conv(source, channels, groups, taps, row[Col.PADDING], packed, bias, out)
    if row[Col.LOPSIDED]:
        _correct_weight_zero(p, row, values, out)


@kernel
def requantise_layer(p: Program, row: Row, values: Values, acc: Accumulators) -> None:
    """Every accumulator of a MAC layer to its int8 value."""
    m, columns = row[Col.M], row[Col.GROUPS] * row[Col.N]
    start = p.tensor_start[row[Col.TARGET]]
    requantise_rows(
        acc[row[Col.ACC_START] : row[Col.ACC_START] + m * columns].reshape(m, columns),
        p.scale[row[Col.BIAS_START] : row[Col.BIAS_START] + columns],
        row[Col.ZERO_POINT],
        row[Col.LOW],
        row[Col.HIGH],
        values[start : start + m * columns].reshape(m, columns),
    )


@borrowing
def table_at(p: Program, row: Row, values: Values, element: Int) -> Int:
    """A unary operator at one element."""
    code = np.int64(values[p.tensor_start[row[Col.SOURCE]] + element]) + 128
    channels = row[Col.CHANNELS]
    own = element % channels * 256 if channels > 0 else 0
    return np.int64(p.tables[row[Col.TABLE_START] + own + code])


@borrowing
def pair_at(p: Program, row: Row, values: Values, element: Int) -> Int:
    """A binary operator at one element."""
    left = np.int64(values[p.tensor_start[row[Col.SOURCE]] + element]) + 128
    right = np.int64(values[p.tensor_start[row[Col.RIGHT]] + element]) + 128
    return np.int64(p.tables[row[Col.TABLE_START] + left * 256 + right])


@borrowing
def max_at(p: Program, row: Row, values: Values, element: Int) -> Int:
    """The maximum of one window; element = pixel * CHANNELS + channel."""
    pixel, channel = divmod(element, row[Col.CHANNELS])
    start = p.tensor_start[row[Col.SOURCE]] + channel
    first = row[Col.TAPS_START] + pixel * row[Col.TAPS]
    best = np.int64(-128)
    for tap in p.indices[first : first + row[Col.TAPS]]:
        if tap >= 0:
            best = max(best, np.int64(values[start + tap * row[Col.CHANNELS]]))
    return best


@borrowing
def average_at(p: Program, row: Row, values: Values, element: Int) -> Int:
    """The mean of one window, in the order and precision of ONNX Runtime's QLinearAveragePool."""
    pixel, channel = divmod(element, row[Col.CHANNELS])
    start = p.tensor_start[row[Col.SOURCE]] + channel
    first = row[Col.TAPS_START] + pixel * row[Col.TAPS]
    scale_in, scale_out = p.real[row[Col.REAL_START]], p.real[row[Col.REAL_START] + 1]
    zero_in, zero_out = p.zero_points[row[Col.SOURCE]], p.zero_points[row[Col.TARGET]]
    total = np.float32(0)
    count = 0
    for tap in p.indices[first : first + row[Col.TAPS]]:
        if tap >= 0:
            total += np.float32(values[start + tap * row[Col.CHANNELS]] - zero_in) * scale_in
            count += 1
    if row[Col.COUNT_PAD]:
        count = row[Col.TAPS]
    mean = total / np.float32(count)
    # ONNX Runtime adds the zero point before it rounds, so the sum must have the size it has there.
    offset = p.real[row[Col.REAL_START] + 2]
    rounded = np.rint(mean / scale_out + (np.float32(zero_out) + offset)) - offset
    return int(min(max(rounded, np.float32(-128)), np.float32(127)))


@borrowing
def global_averages(p: Program, row: Row, values: Values, means: Accumulators) -> None:
    """The mean of every channel, (CHANNELS,): integer sum, one requantisation."""
    start, channels = p.tensor_start[row[Col.SOURCE]], row[Col.CHANNELS]
    means[:] = np.int32(-row[Col.COUNT] * p.zero_points[row[Col.SOURCE]])
    for position in range(row[Col.COUNT]):
        pixel = values[start + position * channels :][:channels]
        for channel in range(channels):
            means[channel] += np.int32(pixel[channel])
    scale, zero = p.real[row[Col.REAL_START]], p.zero_points[row[Col.TARGET]]
    for channel in range(channels):
        means[channel] = requantise(means[channel], scale, zero, -128, 127)


@kernel
def run_element_op(p: Program, op: Int, values: Values) -> None:
    """Every element of an operator that is not a MAC layer; one loop a kind, so that each stays tight."""
    row = p.ops[op]
    kind = row[Col.KIND]
    start = p.tensor_start[row[Col.TARGET]]
    size = p.tensor_start[row[Col.TARGET] + 1] - start
    if kind == Kind.TABLE:
        _look_up(p, row, values, start, size)
    elif kind == Kind.PAIR_TABLE:
        for element in range(size):
            values[start + element] = pair_at(p, row, values, element)
    elif kind == Kind.MOVE:
        _move(p, row, values, start)
    elif kind == Kind.MAX_POOL:
        for element in range(size):
            values[start + element] = max_at(p, row, values, element)
    elif kind == Kind.AVERAGE_POOL:
        for element in range(size):
            values[start + element] = average_at(p, row, values, element)
    else:
        means = np.empty(size, np.int32)
        global_averages(p, row, values, means)
        for element in range(size):
            values[start + element] = means[element]


@kernel
def _look_up(p: Program, row: Row, values: Values, start: Int, size: Int) -> None:
    """A unary operator, channel by channel where each has its own table: `table_at` would divide at each element."""
    source, tables = p.tensor_start[row[Col.SOURCE]], p.tables[row[Col.TABLE_START] :]
    step = 256 if row[Col.CHANNELS] > 0 else 0
    run = row[Col.CHANNELS] if row[Col.CHANNELS] > 0 else size
    for first in range(0, size, run):
        for channel in range(run):
            code = np.int64(values[source + first + channel]) + 128
            values[start + first + channel] = tables[channel * step + code]


@kernel
def _move(p: Program, row: Row, values: Values, start: Int) -> None:
    """Moved values, and the fill of a Pad."""
    source = p.tensor_start[row[Col.SOURCE]]
    place, origin = p.indices[row[Col.PLACE_START] :], p.indices[row[Col.ORIGIN_START] :]
    for i in range(row[Col.COUNT]):
        moved = row[Col.FILL] if origin[i] < 0 else np.int64(values[source + origin[i]])
        values[start + place[i]] = moved


@kernel
def run_rows(p: Program, values: Values, acc: Accumulators, first: Int, last: Int) -> None:
    """Operators [first, last), in place."""
    for op in range(first, last):
        row = p.ops[op]
        if row[Col.KIND] == Kind.MAC:
            accumulate(p, row, values, acc)
            requantise_layer(p, row, values, acc)
        else:
            run_element_op(p, op, values)
