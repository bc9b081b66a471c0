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

from emulator.faults.strike import LayerErrors, Strikes
from emulator.graph.golden import Golden, Inference
from emulator.graph.program import Col, Kind, Program
from emulator.jit import Int, kernel
from emulator.propagate.delta import Propagator, Scratch, Stage, flow, restore, strike_layer

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Where exact propagation ends and the Jacobian takes over: after operator `op`, when everything that
    changed and is still needed is in `tensor`."""

    op: int
    tensor: int


def horizons(program: Program, lookahead: int) -> tuple[Horizon, ...]:
    """One a MAC layer: the last operator with one changed tensor left, at most `lookahead` MAC layers on."""
    return tuple(_horizon(program, int(op), lookahead) for op in program.layer_op)


def _horizon(p: Program, struck: int, lookahead: int) -> Horizon:
    readers: dict[int, int] = {}
    for index, row in enumerate(p.ops):
        for tensor in _sources(row):
            readers[tensor] = index
    changed = {int(p.ops[struck, Col.TARGET])}
    best = Horizon(op=struck, tensor=int(p.ops[struck, Col.TARGET]))
    for index in range(struck + 1, len(p.ops)):
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
    op: Int,
    end: Int,
    frontier: Int,
    jacobian: Floats,
    chosen: Ints,
    errors: LayerErrors,
    change: Floats,
    alive: npt.NDArray[np.bool_],
) -> None:
    """Predicted change of every logit for the faults `chosen`, all of one layer; alive: not yet masked."""
    start = p.tensor_start[frontier]
    for f in chosen:
        stage = strike_layer(p, s, golden, acc, op, errors, f)
        if stage == Stage.NONE:
            flow(p, s, golden, acc, op, end)
        for i in range(s.counts[frontier]):
            alive[f] = True
            element = s.touched[start + i]
            step = np.float32(s.current[start + element]) - np.float32(golden[start + element])
            for c in range(change.shape[1]):
                change[f, c] += step * jacobian[element, c]
        restore(p, s, golden)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scorer:
    """Scores faults of one image. jacobians: (elements, classes) at the tensor of each horizon."""

    golden: Golden
    propagator: Propagator = field(repr=False)
    image: Inference = field(repr=False)
    horizons: tuple[Horizon, ...] = field(repr=False)
    jacobians: Mapping[int, Floats] = field(repr=False)
    softness: Softness = Softness()

    def score(self, layer: Ints, strikes: Strikes) -> npt.NDArray[np.float64]:
        """(faults,) float64 in [0, 1]; exactly 0 where the fault is masked before its horizon."""
        change, alive = self.predicted_change(layer, strikes)
        logits = self.golden.logits(self.image).astype(np.float32)
        top = int(logits.argmax())
        moved = logits + change
        left = moved[:, top] - np.delete(moved, top, axis=1).max(axis=1)
        margin = logits[top] - np.delete(logits, top).max()
        width = self.softness.floor_lsb + self.softness.slope * np.abs(margin - left)
        score: npt.NDArray[np.float64] = np.where(alive, 1.0 / (1.0 + np.exp(left / width)), 0.0)
        return score

    def predicted_change(self, layer: Ints, strikes: Strikes) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """(faults, classes) predicted change of the logits in LSB, and which faults reach their horizon."""
        change = np.zeros((len(layer), self.golden.graph.classes), np.float32)
        alive = np.zeros(len(layer), np.bool_)
        self.propagator.scratch.current[:] = self.image.values
        for index in np.unique(layer).tolist():
            horizon = self.horizons[index]
            _score_layer(
                self.golden.program,
                self.propagator.scratch,
                self.image.values,
                self.image.accumulators,
                int(self.golden.program.layer_op[index]),
                horizon.op,
                horizon.tensor,
                self.jacobians[horizon.tensor],
                np.flatnonzero(layer == index),
                strikes.errors,
                change,
                alive,
            )
        return change, alive
