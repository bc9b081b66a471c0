"""What some steps of protection leave of each unit, and of each trial that matters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.harden.knapsack import Choice

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Events(NamedTuple):
    """Trials that matter, and steps of the units that they struck. trial, unit (events,): unit is a number among those
    struck; step, of, gain (steps,): the place of each among all, that unit, and what the step removes of it."""

    trial: Ints
    unit: Ints
    step: Ints
    of: Ints
    gain: Floats

    def left(self, choice: Choice) -> Floats:
        """(events,) the fraction that is left of each."""
        taken = choice.has(self.step)
        return left_after(self.of[taken], self.gain[taken], int(self.unit.max()) + 1)[self.unit]


def left_after(unit: Ints, gain: Floats, units: int) -> Floats:
    """(units,) the fraction of each unit's rate that is left after steps (steps,) of these units."""
    gone = np.bincount(unit, gain, units)
    # Sums of gains are exact up to rounding.
    return np.where(gone > 1 - 1e-9, 0.0, 1 - gone)
