"""The score of a fault: the probability that it flips the top-1, predicted without running the whole network.

1. delta_acc: the fault's exact accumulator errors (closed form).
2. delta_q: each error requantised exactly, rounding and saturation included; no delta_q left: score 0.
3. Exact propagation as far as it is cheap: pools, adds and tables that follow, up to a horizon.
4. delta_z: what arrives there through the image's own Jacobian, summed over all elements.
5. score: soft crossing of the margin, sharp for small predicted changes and vague for large ones, because a
   linear prediction errs in proportion to what it predicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emulator.faults.strikes import Strikes, errors_of
from emulator.graph.golden import Golden, Inference
from emulator.graph.program import Col, Kind, Program, Rows
from emulator.graph.qgraph import HostOp, MacLayer
from emulator.jit import Int, kernel
from emulator.propagate.classes import Changes, Classes
from emulator.propagate.delta import flow, write
from emulator.propagate.outcome import in_lsb
from emulator.propagate.propagator import Propagator
from emulator.propagate.scratch import Scratch, list_changed, restore
from emulator.propagate.stage import Stage

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Where exact propagation ends and the Jacobian takes over: after operator `op`, when everything that
    changed and is still needed is in `tensor`."""

    op: int
    tensor: int


def horizons(golden: Golden, lookahead: int) -> tuple[Horizon | None, ...]:
    """One a MAC layer: the last operator with one changed tensor left, at most `lookahead` MAC layers on. None for
    layers outside the kernels, and where more than one changed tensor leaves the run of rows."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Softness:
    """Width of the crossing in logit LSB: floor_lsb + slope * |predicted change of the margin|."""

    floor_lsb: float = 4.0
    slope: float = 1.5


@kernel
def _score_layer(
    p: Program,
    s: Scratch,
    golden: npt.NDArray[np.int8],
    acc: npt.NDArray[np.int32],
    changes: Changes,
    chosen: Ints,
    end: Int,
    frontier: Int,
    jacobian: Floats,
    change: Floats,
    alive: npt.NDArray[np.bool_],
) -> None:
    """Predicted change of every logit for the classes `chosen`, all of one layer; alive: not yet masked."""
    start = p.tensor_start[frontier]
    changed = np.empty(p.tensor_start[frontier + 1] - start, np.int64)
    for c in chosen:
        if changes.stage[c] != Stage.NONE:
            continue
        write(p, s, golden, changes, c)
        flow(p, s, golden, acc, changes.op[c] + 1, end + 1)
        for element in changed[: list_changed(p, s, golden, frontier, changed)]:
            alive[c] = True
            step = np.float32(s.current[start + element]) - np.float32(golden[start + element])
            for i in range(change.shape[1]):
                change[c, i] += step * jacobian[element, i]
        restore(p, s, golden)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scorer:
    """Scores faults of one image. jacobians: (elements, classes) at the tensor of each horizon. unsolved: the score of
    faults in layers that have no horizon."""

    golden: Golden
    propagator: Propagator = field(repr=False)
    image: Inference = field(repr=False)
    horizons: tuple[Horizon | None, ...] = field(repr=False)
    jacobians: Mapping[int, Floats] = field(repr=False)
    unsolved: float = 0.02
    softness: Softness = Softness()

    def score(self, layer: Ints, strikes: Strikes) -> npt.NDArray[np.float64]:
        """(faults,) float64 in [0, 1]; exactly 0 where the fault is masked before its horizon."""
        change, alive = self.predicted_change(layer, strikes)
        logits = in_lsb(self.golden.logits(self.image)).astype(np.float32)
        top = int(logits.argmax())
        moved = logits + change
        left = moved[:, top] - np.delete(moved, top, axis=1).max(axis=1)
        margin = logits[top] - np.delete(logits, top).max()
        width = self.softness.floor_lsb + self.softness.slope * np.abs(margin - left)
        crossing = np.where(alive, 1.0 / (1.0 + np.exp(left / width)), 0.0)
        seen = np.array([horizon is not None for horizon in self.horizons])[layer]
        score: npt.NDArray[np.float64] = np.where(seen, crossing, self.unsolved)
        return score

    def predicted_change(self, layer: Ints, strikes: Strikes) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """(faults, classes) predicted change of the logits in LSB, and which faults reach their horizon."""
        change = np.zeros((len(layer), self.golden.graph.classes), np.float32)
        alive = np.zeros(len(layer), np.bool_)
        seen = np.flatnonzero(np.array([horizon is not None for horizon in self.horizons])[layer])
        classes = Classes(self.golden.program, self.image)
        of = classes.add(layer[seen], errors_of(strikes.errors, seen))
        change[seen], alive[seen] = (found[of] for found in self._of_classes(classes.changes))
        return change, alive

    def _of_classes(self, changes: Changes) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """The same for each class."""
        program = self.golden.program
        change = np.zeros((len(changes.op), self.golden.graph.classes), np.float32)
        alive = np.zeros(len(changes.op), np.bool_)
        self.propagator.scratch.current[:] = self.image.values
        for index, horizon in enumerate(self.horizons):
            chosen = np.flatnonzero(changes.op == program.layer_op[index])
            if horizon is not None and len(chosen):
                _score_layer(
                    program, self.propagator.scratch, self.image.values, self.image.accumulators, changes, chosen,
                    horizon.op, horizon.tensor, self.jacobians[horizon.tensor], change, alive,
                )  # fmt: skip
        return change, alive
