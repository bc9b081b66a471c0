"""Faults of many images struck together: which operands a fault touches does not depend on the image, so that is found
once for all faults of a register and layer, and only the integers are looked up image by image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.closed_form import Flips, covered, prepare
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.faults.fault import FaultBatch
from emulator.faults.plan import plan_of
from emulator.faults.strike import of_closed_form, operands, strike_by_cycles, unsolved
from emulator.faults.strikes import Strikes, in_order, joined
from emulator.graph.golden import Golden, Inference

Index = npt.NDArray[np.intp]

# Faults of a volley: a wrong weight may spoil a thousand sums.
VOLLEY = 2048


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Group:
    """Faults of one layer and register, volley after volley: their places in the salvo. flips: None where only the
    cycle engine can tell."""

    layer: int
    place: Index
    flips: Flips | None


class Volley(NamedTuple):
    """Faults of one image that are struck at once: their places in the salvo, ascending."""

    number: int
    image: int
    place: Index


class Salvo:
    """faults: on image[f] each. Strike the volleys one by one, in any order; an image has one, or more where its faults
    are many."""

    def __init__(
        self, golden: Golden, array: ArraySpec, faults: FaultBatch, image: npt.NDArray[np.int64]
    ) -> None:
        self.golden = golden
        self.array = array
        self.faults = faults
        order = np.argsort(image, kind="stable")
        first = np.flatnonzero(np.diff(image[order], prepend=-1))
        rank = np.arange(len(image)) - np.repeat(first, np.diff(first, append=len(image)))
        starts = rank % VOLLEY == 0
        self._volley = np.empty(len(image), np.int64)
        self._volley[order] = np.cumsum(starts) - 1
        self.volleys = [
            Volley(number, int(image[order[part.start]]), order[part])
            for number, part in _runs(self._volley[order])
        ]
        self._groups: dict[int, list[tuple[_Group, slice]]] = {}
        for group in self._grouped():
            for number, part in _runs(self._volley[group.place]):
                self._groups.setdefault(number, []).append((group, part))

    def strike(self, inference: Inference, volley: Volley, *, by_cycles: bool = True) -> Strikes:
        """The errors of the faults of a volley, in their order; without by_cycles those that have no closed form are
        left UNSOLVED. inference: that of its image."""
        parts, order = [], []
        for group, chosen in self._groups[volley.number]:
            place = group.place[chosen]
            if group.flips is not None:
                streamed = operands(self.golden, inference, group.layer)
                parts.append(of_closed_form(group.flips.errors(streamed, chosen)))
            elif by_cycles:
                upsets = [(upset,) for upset in self.faults[place].upsets(self.array)]
                parts.append(strike_by_cycles(self.golden, inference, self.array, group.layer, upsets))
            else:
                parts.append(unsolved(len(place)))
            order.append(place)
        return in_order(parts, np.searchsorted(volley.place, np.concatenate(order)), len(volley.place))

    def _grouped(self) -> Iterator[_Group]:
        faults, registers = self.faults, inventory(self.array)
        kind = faults.layer * len(registers) + faults.register
        order = np.lexsort((self._volley, kind))
        for which, part in _runs(kind[order]):
            layer, code = divmod(which, len(registers))
            plan, entry = plan_of(self.array, self.golden.graph.layers[layer]), registers[code]
            batch = faults[order[part]]
            solved = covered(plan, entry, batch.sites, batch.fold)
            if solved.any():
                batch = batch[solved]
                flips = prepare(plan, entry, batch.sites, batch.fold)
                yield _Group(layer=layer, place=order[part][solved], flips=flips)
            if not solved.all():
                yield _Group(layer=layer, place=order[part][~solved], flips=None)


def _runs(values: npt.NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Each run of equal values."""
    starts = np.flatnonzero(np.diff(values, prepend=np.int64(-1))).tolist()
    for start, stop in zip(starts, [*starts[1:], len(values)], strict=True):
        yield int(values[start]), slice(start, stop)


def strike(
    golden: Golden, image: Inference, array: ArraySpec, faults: FaultBatch, *, by_cycles: bool = True
) -> Strikes:
    """All on one image."""
    salvo = Salvo(golden, array, faults, np.zeros(len(faults), np.int64))
    return joined([salvo.strike(image, volley, by_cycles=by_cycles) for volley in salvo.volleys])
