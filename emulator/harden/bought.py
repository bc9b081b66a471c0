"""What a protection costs and leaves, and the units that it protects."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from emulator.array.fit import Fit
from emulator.sampling.estimate import Estimate


class Bought(NamedTuple):
    """What some protection costs and leaves. share: of the size of all units; units, bits (cycles): protected; removed:
    the share of the SDC-FIT; residual: the SDC-1 rate over all sites that is left, at_most: its certified bound, None
    where the trials that judge chose it too; due: the rate over all sites of upsets in live ones that are detected
    instead, harmless ones among them."""

    share: float
    units: int
    bits: int
    removed: Estimate
    residual: Estimate
    fit: Fit
    at_most: float | None
    at_most_fit: float | None
    due: Estimate
    due_fit: Fit

    def to_json(self) -> dict[str, Any]:
        """Estimates as in every other command; FIT as value, low, high."""
        return {
            name: value.to_json()
            if isinstance(value, Estimate)
            else value._asdict()
            if isinstance(value, Fit)
            else value
            for name, value in self._asdict().items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A unit that is protected. cost: in flip-flops (cycles); fit: its SDC-FIT without protection, by the trials that
    judge; expected_fit: what is removed of it as the choice expects, shrunk to what is known of units like it: units
    are taken in its order, it is no estimate of this one."""

    unit: dict[str, Any]
    technique: str
    effect: str
    bits: int
    cost: float
    fit: Fit
    expected_fit: float

    def to_json(self) -> dict[str, Any]:
        """FIT as value, low, high."""
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "fit": self.fit._asdict()}
