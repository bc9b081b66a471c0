"""How far a fault is followed exactly before it is predicted: to where one tensor holds all that changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.graph.golden import Golden
from emulator.graph.program import Col, Kind, Rows
from emulator.graph.qgraph import HostOp, MacLayer

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Where exact propagation ends and the Jacobian takes over: after operator `op`, when everything that
    changed and is still needed is in `tensor`."""

    op: int
    tensor: int


# A lookahead that ends at the output of the struck layer itself.
STRUCK = -1


def horizons(golden: Golden, lookahead: int) -> tuple[Horizon | None, ...]:
    """One a MAC layer: the last operator with one changed tensor left, at most `lookahead` MAC layers on, or STRUCK.
    None for layers outside the kernels, and where more than one changed tensor leaves the run of rows."""
    result = []
    for op in golden.program.layer_op.tolist():
        runs = [step for step in golden.steps if isinstance(step, Rows) and step.first <= op < step.last]
        result.append(_horizon(golden, op, runs[0].last, lookahead) if runs else None)
    return tuple(result)


def _horizon(golden: Golden, struck: int, end: int, lookahead: int) -> Horizon | None:
    p = golden.program
    readers = _last_readers(golden)
    changed = {int(p.ops[struck, Col.TARGET])}
    best = Horizon(op=struck, tensor=int(p.ops[struck, Col.TARGET]))
    if lookahead == STRUCK:
        return best
    for index in range(struck + 1, end):
        row = p.ops[index]
        if changed.intersection(_sources(row)):
            lookahead -= int(row[Col.KIND] == Kind.MAC)
            if lookahead < 0:
                break
            changed.add(int(row[Col.TARGET]))
        needed = [tensor for tensor in changed if readers.get(tensor, len(p.ops)) > index]
        if len(needed) == 1:
            best = Horizon(op=index, tensor=needed[0])
    return best


def _last_readers(golden: Golden) -> dict[int, int]:
    """The last row that reads each tensor; one past the rows for what a later step reads, and for the answer."""
    p, graph = golden.program, golden.graph
    readers = {tensor: index for index, row in enumerate(p.ops) for tensor in _sources(row)}
    outside: list[int | str | None] = [graph.output]
    for op in graph.ops:
        if isinstance(op, HostOp):
            outside += [graph.index.get(name) for name in op.inputs]
        elif isinstance(op, MacLayer) and not op.compiled:
            outside += [op.source, op.right]
    return readers | {tensor: len(p.ops) for tensor in outside if isinstance(tensor, int)}


def _sources(row: Ints) -> set[int]:
    right = {int(row[Col.RIGHT])} if row[Col.KIND] == Kind.PAIR_TABLE else set()
    return {int(row[Col.SOURCE])} | right
