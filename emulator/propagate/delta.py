"""Sparse exact propagation: only what changed is computed again, and the rest is golden by definition.

A fault is applied to a copy of the golden values and removed exactly afterwards. MAC layers: see `sparse_mac`; every
other operator: see `sparse_ops`.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from emulator.faults.strike import LayerErrors
from emulator.gemm import requantise, round_scaled
from emulator.graph.program import Col, Kind, Program
from emulator.jit import Int, borrowing
from emulator.propagate.scratch import (
    Ints,
    Scratch,
    Values,
    changed_elements,
    lay_out,
    relay,
    restore,
    settle,
    unlay,
)
from emulator.propagate.sparse_mac import sparse_mac
from emulator.propagate.sparse_ops import (
    sparse_global_average,
    sparse_move,
    sparse_pair,
    sparse_pool,
    sparse_table,
)


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
    channels, target = row[Col.GROUPS] * row[Col.N], row[Col.TARGET]
    clamped = changed = False
    for e in range(len(m)):
        element = m[e] * channels + n[e]
        scale = p.scale[row[Col.BIAS_START] + n[e]]
        before = acc[row[Col.ACC_START] + element]
        after = np.int32(before + delta[e])
        value = requantise(after, scale, row[Col.ZERO_POINT], row[Col.LOW], row[Col.HIGH])
        if settle(p, s, golden, target, element, value):
            changed = True
        elif round_scaled(after, scale) != round_scaled(before, scale):
            clamped = True
    if changed:
        lay_out(p, s, golden, target)
        return Stage.NONE
    return Stage.CLAMP if clamped else Stage.REQUANT


@borrowing
def strike_output(p: Program, s: Scratch, golden: Values, op: Int, m: Ints, n: Ints, delta: Ints) -> int:
    """Errors of the requantised words of a MAC layer; Stage.REQUANT if there are none, else NONE."""
    row = p.ops[op]
    start, target, changed = p.tensor_start[row[Col.TARGET]], row[Col.TARGET], False
    for e in range(len(m)):
        element = m[e] * row[Col.GROUPS] * row[Col.N] + n[e]
        changed |= settle(p, s, golden, target, element, golden[start + element] + delta[e])
    if changed:
        lay_out(p, s, golden, target)
        return Stage.NONE
    return Stage.REQUANT


@borrowing
def _sparse_op(p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], op: Int) -> None:
    """One operator, wherever its input changed."""
    kind = p.ops[op, Col.KIND]
    if kind == Kind.MAC:
        sparse_mac(p, s, golden, acc, op)
    elif kind == Kind.TABLE:
        sparse_table(p, s, golden, op)
    elif kind == Kind.PAIR_TABLE:
        sparse_pair(p, s, golden, op)
    elif kind == Kind.MOVE:
        sparse_move(p, s, golden, op)
    elif kind == Kind.GLOBAL_AVERAGE_POOL:
        sparse_global_average(p, s, golden, op)
    else:
        sparse_pool(p, s, golden, op)


@borrowing
def flow(p: Program, s: Scratch, golden: Values, acc: npt.NDArray[np.int32], first: Int, last: Int) -> None:
    """Operators [first, last); stops when nothing changed is read any more."""
    v = s.views
    alive = np.int64(-1)
    for tensor in range(len(s.last_use)):
        if s.counts[tensor] > 0:
            alive = max(alive, s.last_use[tensor])
    for op in range(first, last):
        if op > alive:
            break
        source, right = v.source[op], v.right[op]
        if s.counts[v.tensor[source]] + s.counts[v.tensor[right]] == 0:
            continue
        relay(p, s, golden, source)
        if right != source:
            relay(p, s, golden, right)
        _sparse_op(p, s, golden, acc, op)
        unlay(s, source)
        unlay(s, right)
        target = p.ops[op, Col.TARGET]
        if s.counts[target] > 0:
            alive = max(alive, s.last_use[target])


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
            corrupted[f] = changed_elements(p, s, golden, p.ops[op[f], Col.TARGET])
            if stage[f] == Stage.NONE:
                flow(p, s, golden, acc, op[f] + 1, p.ops.shape[0])
                if s.counts[output] == 0:
                    stage[f] = Stage.NETWORK
        for c in range(logits.shape[1]):
            logits[f, c] = s.current[out + c]
        restore(p, s, golden)
