"""Faults of many images struck together: which operands a fault touches does not depend on the image, so that is found
once for all faults of a register and layer, and only the integers are looked up image by image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.array.closed_form import Flips, covered, prepare
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.faults.fault import FaultBatch
from emulator.faults.plan import plan_of
from emulator.faults.strike import of_closed_form, operands, strike_by_cycles, unsolved
from emulator.faults.strikes import Strikes, in_order
from emulator.graph.golden import Golden, Inference

Index = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Group:
    """Faults of one layer and register, image after image: their places in the salvo. flips: None where only the cycle
    engine can tell."""

    layer: int
    place: Index
    flips: Flips | None


class Salvo:
    """faults: on image[f] each. Strike the images one by one, in any order."""

    def __init__(
        self, golden: Golden, array: ArraySpec, faults: FaultBatch, image: npt.NDArray[np.int64]
    ) -> None:
        self.golden = golden
        self.array = array
        self.faults = faults
        self.image = image
        self._groups = list(self._grouped())
        self._order = np.argsort(image, kind="stable")
        self._of_image: dict[int, list[tuple[_Group, slice]]] = {}
        for group in self._groups:
            for which, part in _runs(image[group.place]):
                self._of_image.setdefault(which, []).append((group, part))

    def __iter__(self) -> Iterator[tuple[int, Index]]:
        """Each image with the places of its faults, in ascending order."""
        for which, part in _runs(self.image[self._order]):
            yield which, self._order[part]

    def strike(self, inference: Inference, image: int, *, by_cycles: bool = True) -> Strikes:
        """The errors of all faults of an image, in their order; without by_cycles those that have no closed form are
        left UNSOLVED. inference: that of the image."""
        parts, order = [], []
        for group, chosen in self._of_image[image]:
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
        places = np.concatenate(order)
        return in_order(parts, np.argsort(np.argsort(places)), len(places))

    def _grouped(self) -> Iterator[_Group]:
        faults, registers = self.faults, inventory(self.array)
        kind = faults.layer * len(registers) + faults.register
        order = np.lexsort((self.image, kind))
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
    """A salvo on one image."""
    salvo = Salvo(golden, array, faults, np.zeros(len(faults), np.int64))
    return salvo.strike(image, 0, by_cycles=by_cycles)
