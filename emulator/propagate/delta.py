"""Sparse exact propagation: only what changed is computed again, and the rest is golden by definition.

A fault is applied to a copy of the golden values and removed exactly afterwards. MAC layers: see `sparse_mac`; every
other operator recomputes the output elements that see a changed input, with the very kernels of the golden run.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from emulator.faults.strike import LayerErrors
from emulator.gemm import requantise, round_scaled
from emulator.graph.kernels import average_at, global_average_at, max_at, pair_at, table_at
from emulator.graph.program import Col, Kind, Program
from emulator.jit import Int, borrowing
from emulator.propagate.scratch import Ints, Scratch, Values, fresh, noted, restore, settle
from emulator.propagate.sparse_mac import sparse_mac


class Stage(IntEnum):
    """The first stage at which the faulty run is bit-identical to golden again; NONE: the output differs."""

    DEAD = 0
    ARRAY = 1
    REQUANT = 2
    CLAMP = 3
    NETWORK = 4
    NONE = 5


@borrowing
def strike_layer(
    p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int, errors: LayerErrors, f: Int
) -> int:
    """The errors of fault `f`; Stage.REQUANT or CLAMP if nothing is left behind the requantiser, else NONE."""
    first, last = errors.ptr[f], errors.ptr[f + 1]
    m, n, delta = errors.m[first:last], errors.n[first:last], errors.delta[first:last]
    if errors.at_output[f]:
        return strike_output(p, s, golden, op, m, n, delta)
    return strike_accumulator(p, s, golden, acc, op, m, n, delta)


@borrowing
def strike_accumulator(
    p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int, m: Ints, n: Ints, delta: Ints
) -> int:
    """Accumulator errors through the requantiser; Stage.REQUANT or CLAMP if nothing is left, else NONE."""
    row = p.ops[op]
    channels = row[Col.GROUPS] * row[Col.N]
    start = p.tensor_start[row[Col.TARGET]]
    clamped = False
    for e in range(len(m)):
        element = m[e] * channels + n[e]
        scale = p.scale[row[Col.BIAS_START] + n[e]]
        before = acc[row[Col.ACC_START] + element]
        after = np.int32(before + delta[e])
        value = requantise(after, scale, row[Col.ZERO_POINT], row[Col.LOW], row[Col.HIGH])
        settle(s, golden, row[Col.TARGET], start, element, value)
        if value == golden[start + element] and round_scaled(after, scale) != round_scaled(before, scale):
            clamped = True
    if s.counts[row[Col.TARGET]] > 0:
        return Stage.NONE
    return Stage.CLAMP if clamped else Stage.REQUANT


@borrowing
def strike_output(p: Program, s: Scratch, golden: Values, op: Int, m: Ints, n: Ints, delta: Ints) -> int:
    """Errors of the requantised words of a MAC layer; Stage.REQUANT if there are none, else NONE."""
    row = p.ops[op]
    start = p.tensor_start[row[Col.TARGET]]
    for e in range(len(m)):
        element = m[e] * row[Col.GROUPS] * row[Col.N] + n[e]
        settle(s, golden, row[Col.TARGET], start, element, golden[start + element] + delta[e])
    return Stage.NONE if s.counts[row[Col.TARGET]] > 0 else Stage.REQUANT


@borrowing
def _sparse_table(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """A unary operator: the same element again."""
    row = p.ops[op]
    source, target = row[Col.SOURCE], row[Col.TARGET]
    first, start = p.tensor_start[source], p.tensor_start[target]
    for i in range(s.counts[source]):
        element = s.touched[first + i]
        settle(s, golden, target, start, element, table_at(p, row, s.current, element))


@borrowing
def _sparse_pair(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """A binary operator: the elements where the left operand changed, then those where only the right one did."""
    row = p.ops[op]
    left, right, start = row[Col.SOURCE], row[Col.RIGHT], p.tensor_start[row[Col.TARGET]]
    before, after, changed = golden[start:], s.current[start:], s.touched[start:]
    first, second, count = p.tensor_start[left], p.tensor_start[right], s.counts[row[Col.TARGET]]
    for element in s.touched[first:][: s.counts[left]]:
        count = noted(before, after, changed, element, pair_at(p, row, s.current, element), count)
    for element in s.touched[second:][: s.counts[right]]:
        if s.current[first + element] == golden[first + element]:
            count = noted(before, after, changed, element, pair_at(p, row, s.current, element), count)
    s.counts[row[Col.TARGET]] = count


@borrowing
def _sparse_move(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """Every place a changed value moves to."""
    row = p.ops[op]
    source, target = row[Col.SOURCE], row[Col.TARGET]
    start, first = p.tensor_start[target], p.tensor_start[source]
    reach, place = s.readers.table[s.readers.start[op] :], p.indices[row[Col.PLACE_START] :]
    readers = reach[reach[0] + 2 :]
    for i in range(s.counts[source]):
        element = s.touched[first + i]
        if element < reach[0]:
            for j in range(reach[1 + element], reach[2 + element]):
                to = place[readers[j]]
                settle(s, golden, target, start, to, s.current[first + element])


@borrowing
def _sparse_global_average(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """The mean of every channel that changed."""
    row = p.ops[op]
    source, target = row[Col.SOURCE], row[Col.TARGET]
    start, first = p.tensor_start[target], p.tensor_start[source]
    for i in range(s.counts[source]):
        channel = s.touched[first + i] % row[Col.CHANNELS]
        if fresh(s, start + channel):
            settle(s, golden, target, start, channel, global_average_at(p, row, s.current, channel))


@borrowing
def _sparse_pool(p: Program, s: Scratch, golden: Values, op: Int) -> None:
    """Every pooling window that sees a changed element."""
    row = p.ops[op]
    source, target = row[Col.SOURCE], row[Col.TARGET]
    start, first = p.tensor_start[target], p.tensor_start[source]
    channels, reach, tap_bits = (
        row[Col.CHANNELS],
        s.readers.table[s.readers.start[op] :],
        s.readers.tap_bits[op],
    )
    readers = reach[reach[0] + 2 :]
    for i in range(s.counts[source]):
        pixel, channel = divmod(np.int64(s.touched[first + i]), channels)
        if pixel >= reach[0]:
            continue
        for j in range(reach[1 + pixel], reach[2 + pixel]):
            element = (np.int64(readers[j]) >> tap_bits) * channels + channel
            if fresh(s, start + element):
                if row[Col.KIND] == Kind.MAX_POOL:
                    value = max_at(p, row, s.current, element)
                else:
                    value = average_at(p, row, s.current, element)
                settle(s, golden, target, start, element, value)


@borrowing
def _sparse_op(p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int) -> None:
    """One operator, wherever its input changed."""
    kind = p.ops[op, Col.KIND]
    if kind == Kind.MAC:
        sparse_mac(p, s, golden, acc, op)
    elif kind == Kind.TABLE:
        _sparse_table(p, s, golden, op)
    elif kind == Kind.PAIR_TABLE:
        _sparse_pair(p, s, golden, op)
    elif kind == Kind.MOVE:
        _sparse_move(p, s, golden, op)
    elif kind == Kind.GLOBAL_AVERAGE_POOL:
        _sparse_global_average(p, s, golden, op)
    else:
        _sparse_pool(p, s, golden, op)


@borrowing
def flow(p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], first: Int, last: Int) -> None:
    """Operators [first, last); stops when nothing changed is read any more."""
    alive = np.int64(-1)
    for tensor in range(len(s.counts)):
        if s.counts[tensor] > 0:
            alive = max(alive, s.last_use[tensor])
    for op in range(first, last):
        if op > alive:
            break
        row = p.ops[op]
        changed = s.counts[row[Col.SOURCE]]
        if row[Col.KIND] == Kind.PAIR_TABLE:
            changed += s.counts[row[Col.RIGHT]]
        if changed > 0:
            _sparse_op(p, s, golden, acc, op)
            if s.counts[row[Col.TARGET]] > 0:
                alive = max(alive, s.last_use[row[Col.TARGET]])


@borrowing
def propagate_many(
    p: Program,
    s: Scratch,
    golden: Values,
    acc: npt.NDArray[np.int32],
    op: Ints,
    output: Int,
    errors: LayerErrors,
    logits: Values,
    stage: Values,
    corrupted: Ints,
) -> None:
    """Faults in compiled layers (rows `op`), each followed to the tensor `output` by rows alone."""
    out = p.tensor_start[output]
    for f in range(len(op)):
        if errors.ptr[f] < errors.ptr[f + 1]:
            stage[f] = strike_layer(p, s, golden, acc, op[f], errors, f)
            corrupted[f] = s.counts[p.ops[op[f], Col.TARGET]]
            if stage[f] == Stage.NONE:
                flow(p, s, golden, acc, op[f] + 1, p.ops.shape[0])
                if s.counts[output] == 0:
                    stage[f] = Stage.NETWORK
        for c in range(logits.shape[1]):
            logits[f, c] = s.current[out + c]
        restore(p, s, golden)
