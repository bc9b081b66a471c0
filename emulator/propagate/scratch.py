"""Working memory for following one fault after the other, and how a changed element is noted in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.graph.program import Col, Kind, Program
from emulator.jit import Int, borrowing, inlined
from emulator.propagate.readers import Readers, readers_of
from emulator.simd import Changes, Laid, changes_for, laid_for, sum_width

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.int8]


class Scratch(NamedTuple):
    """Working memory, clean between faults: `current` equals golden, counts and acc_delta are zero.

    touched (value_size,): per tensor the list of its changed elements, counts[t] long. stamp: the last epoch in
    which an element was recomputed. rows, row_mark, row_change, row_values: the accumulator rows touched in
    the operator at hand, the sum of the changes each has seen, and room for one (row_before, row_acc, row_scale, too).
    changes: those of one pixel; laid: of a tensor.
    last_use: the last operator that reads each tensor.
    """

    current: Values
    touched: npt.NDArray[np.int32]
    counts: Ints
    stamp: Ints
    epoch: Ints
    acc_delta: npt.NDArray[np.int32]
    rows: Ints
    row_mark: npt.NDArray[np.uint8]
    row_change: npt.NDArray[np.int32]
    row_values: Values
    row_before: Values
    row_acc: npt.NDArray[np.int32]
    row_scale: npt.NDArray[np.float32]
    changes: Changes
    laid: Laid
    readers: Readers
    last_use: Ints


@inlined
def noted(
    before: Values, after: Values, changed: npt.NDArray[np.int32], element: Int, value: Int, count: Int
) -> Int:
    """A recomputed element of a tensor of which `count` have changed so far: note it if it differs from golden; how
    many have now. before, after, changed: from where the tensor starts in golden, current and touched. Where many
    follow, the count stays in a register."""
    if value != before[element]:
        after[element] = value
        changed[count] = element
        count += 1
    return count


@inlined
def settle(s: Scratch, golden: Values, tensor: Int, start: Int, element: Int, value: Int) -> None:
    """A single recomputed element."""
    s.counts[tensor] = noted(
        golden[start:], s.current[start:], s.touched[start:], element, value, s.counts[tensor]
    )


@inlined
def fresh(s: Scratch, at: Int) -> bool:
    """True the first time in an epoch, so that no element is recomputed twice for one fault."""
    if s.stamp[at] == s.epoch[0]:
        return False
    s.stamp[at] = s.epoch[0]
    return True


@borrowing
def restore(p: Program, s: Scratch, golden: Values) -> None:
    """Remove the fault: every changed element is golden again."""
    for tensor in range(len(s.counts)):
        start = p.tensor_start[tensor]
        for i in range(s.counts[tensor]):
            at = start + s.touched[start + i]
            s.current[at] = golden[at]
        s.counts[tensor] = 0
    s.epoch[0] += 1


def scratch_for(p: Program) -> Scratch:
    """Working memory for the faults of one image at a time."""
    tensors = len(p.tensor_start) - 1
    mac = p.ops[p.layer_op[p.layer_op >= 0]]
    rows = mac[:, Col.M] * mac[:, Col.GROUPS]
    last_use = np.full(tensors, -1, np.int64)
    for i, row in enumerate(p.ops):
        last_use[row[Col.SOURCE]] = i
        if row[Col.KIND] == Kind.PAIR_TABLE:
            last_use[row[Col.RIGHT]] = i
    most = int(rows.max(initial=1))
    widths = np.array([sum_width(int(n)) for n in mac[:, Col.N]], np.int64)
    widest = int(widths.max(initial=1))
    return Scratch(
        current=np.zeros(p.value_size, np.int8),
        touched=np.zeros(p.value_size, np.int32),
        counts=np.zeros(tensors, np.int64),
        stamp=np.full(p.value_size, -1, np.int64),
        epoch=np.zeros(1, np.int64),
        acc_delta=np.zeros(int((rows * widths).max(initial=1)), np.int32),
        rows=np.zeros(most, np.int64),
        row_mark=np.zeros(most, np.uint8),
        row_change=np.zeros(most, np.int32),
        row_values=np.zeros(widest, np.int8),
        row_before=np.zeros(widest, np.int8),
        row_acc=np.zeros(widest, np.int32),
        row_scale=np.zeros(widest, np.float32),
        changes=changes_for(int((mac[:, Col.CHANNELS] // mac[:, Col.GROUPS]).max(initial=1))),
        laid=_laid_for(p, mac),
        readers=readers_of(p),
        last_use=last_use,
    )


def _laid_for(p: Program, mac: Ints) -> Laid:
    """Room for the changes of the source of any MAC layer."""
    depth = mac[:, Col.CHANNELS] // mac[:, Col.GROUPS]
    units = np.diff(p.tensor_start)[mac[:, Col.SOURCE]] // depth
    return laid_for(units, depth, mac[:, Col.TAPS])
