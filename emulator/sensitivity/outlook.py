"""What can be foreseen of a fault without running the whole network.

1. delta_acc: the fault's exact accumulator errors (closed form).
2. delta_q: each error requantised exactly, rounding and saturation included.
3. Exact propagation as far as it is cheap: through some MAC layers, up to a horizon.
4. delta_z: what arrives there through the image's own Jacobian, summed over all elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.faults.strikes import Strikes, errors_of
from emulator.graph.golden import Golden, Inference
from emulator.graph.program import Program
from emulator.jit import Int, kernel
from emulator.propagate.classes import Changes, Classes
from emulator.propagate.delta import flow, write
from emulator.propagate.outcome import in_lsb
from emulator.propagate.propagator import Propagator
from emulator.propagate.scratch import Scratch, list_changed, restore
from emulator.propagate.stage import Stage
from emulator.sensitivity.horizon import Horizon
from emulator.sensitivity.jacobian import Rivals

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Outlook(NamedTuple):
    """Of faults, or classes of them, (faults,) each. margin: of the fault-free answer; left: what is left of it if the
    logits of the rivals move as predicted; movement: by how much they move in all; all in logit LSB. changed: elements
    that the struck layer stores wrongly. alive: something is wrong at the horizon, else the fault is masked; foreseen:
    its layer has a horizon, else nothing of this is known."""

    layer: Ints
    margin: Floats
    left: Floats
    movement: Floats
    changed: Ints
    alive: Flags
    foreseen: Flags


def joined_outlooks(parts: Sequence[Outlook]) -> Outlook:
    """One after the other."""
    return Outlook._make(map(np.concatenate, zip(*parts, strict=True)))


def outlook_at(outlook: Outlook, chosen: npt.NDArray[np.intp] | Flags) -> Outlook:
    """Of some of the faults."""
    return Outlook._make(part[chosen] for part in outlook)


@kernel
def _predict(
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
    """Predicted change of each rival's logit for the classes `chosen`, all of one layer; alive: not yet masked."""
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
class Predictor:
    """Foresees faults of one image. rivals: the classes whose logits are followed; jacobians: (elements, rivals) at the
    tensor of each horizon."""

    golden: Golden
    propagator: Propagator = field(repr=False)
    image: Inference = field(repr=False)
    horizons: tuple[Horizon | None, ...] = field(repr=False)
    rivals: Rivals = field(repr=False)
    jacobians: Mapping[int, Floats] = field(repr=False)

    def outlook(self, layer: Ints, strikes: Strikes) -> Outlook:
        """Fault f struck MAC layer layer[f]."""
        found = self._outlook(layer, np.zeros((len(layer), len(self.rivals)), np.float32))
        seen = np.flatnonzero(found.foreseen)
        classes = Classes(self.golden.program, self.image)
        of = classes.add(layer[seen], errors_of(strikes.errors, seen))
        of_classes = self.outlook_of_classes(classes.changes)
        columns: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = list(zip(found, of_classes, strict=True))
        for mine, theirs in columns:
            mine[seen] = theirs[of]
        return found

    def outlook_of_classes(self, changes: Changes) -> Outlook:
        """Of classes of faults in compiled layers."""
        change, alive = self.predicted_change(changes)
        layer_of = np.zeros(int(self.golden.program.layer_op.max()) + 1, np.int64)
        compiled = np.flatnonzero(self.golden.program.layer_op >= 0)
        layer_of[self.golden.program.layer_op[compiled]] = compiled
        layer = layer_of[changes.op]
        found = self._outlook(layer, change)
        return found._replace(changed=np.diff(changes.ptr), alive=alive)

    def _outlook(self, layer: Ints, change: Floats) -> Outlook:
        """Of predicted changes of the logits (faults, rivals)."""
        logits = in_lsb(self.golden.logits(self.image)).astype(np.float32)[self.rivals]
        top = int(logits.argmax())
        moved: Floats = logits + change
        left: Floats = moved[:, top] - np.delete(moved, top, axis=1).max(axis=1)
        margin = logits[top] - np.delete(logits, top).max()
        return Outlook(
            layer=layer,
            margin=np.full_like(left, margin),
            left=left,
            movement=np.abs(change).sum(axis=1),
            changed=np.zeros(len(layer), np.int64),
            alive=np.zeros(len(layer), np.bool_),
            foreseen=np.array([horizon is not None for horizon in self.horizons])[layer],
        )

    def predicted_change(self, changes: Changes) -> tuple[Floats, Flags]:
        """(faults, rivals) predicted change of the logits in LSB, and which faults reach their horizon."""
        program = self.golden.program
        change = np.zeros((len(changes.op), len(self.rivals)), np.float32)
        alive = np.zeros(len(changes.op), np.bool_)
        self.propagator.scratch.current[:] = self.image.values
        for index, horizon in enumerate(self.horizons):
            chosen = np.flatnonzero(changes.op == program.layer_op[index])
            if horizon is not None and len(chosen):
                _predict(
                    program, self.propagator.scratch, self.image.values, self.image.accumulators, changes, chosen,
                    horizon.op, horizon.tensor, self.jacobians[horizon.tensor], change, alive,
                )  # fmt: skip
        return change, alive
