"""Sparse exact propagation: only what changed is computed again, and the rest is golden by definition.

What a class of faults stores is applied to a copy of the golden values and removed exactly afterwards. MAC layers: see
`sparse_mac`; every other operator: see `sparse_ops`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emulator.graph.program import Col, Kind, Program
from emulator.jit import Int, borrowing
from emulator.propagate.classes import Changes
from emulator.propagate.scratch import Scratch, Values, lay_out, relay, restore, settle, unlay
from emulator.propagate.sparse_mac import sparse_mac
from emulator.propagate.sparse_ops import (
    sparse_global_average,
    sparse_move,
    sparse_pair,
    sparse_pool,
    sparse_table,
)
from emulator.propagate.stage import Stage


@borrowing
def write(p: Program, s: Scratch, golden: Values, c: Changes, of: Int) -> None:
    """What the faults of a class store."""
    target = p.ops[c.op[of], Col.TARGET]
    for i in range(c.ptr[of], c.ptr[of + 1]):
        settle(p, s, golden, target, c.element[i], c.value[i])
    lay_out(p, s, golden, target)


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
    output: Int,
    changes: Changes,
    logits: Values,
    stage: Values,
) -> None:
    """Each class followed from the layer it strikes to the tensor `output` by rows alone."""
    out = p.tensor_start[output]
    for c in range(len(changes.op)):
        stage[c] = changes.stage[c]
        if stage[c] == Stage.NONE:
            write(p, s, golden, changes, c)
            flow(p, s, golden, acc, changes.op[c] + 1, p.ops.shape[0])
            if s.counts[output] == 0:
                stage[c] = Stage.NETWORK
        for i in range(logits.shape[1]):
            logits[c, i] = s.current[out + i]
        restore(p, s, golden)
