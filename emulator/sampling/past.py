"""What a sampler that learns may look at: the trials of earlier chunks, never those of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emulator.faults.fault import FaultBatch

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Past:
    """Trials that have been judged, (trials,) each. critical: SDC-1; weight: population density over the proposal's."""

    image: Ints = field(repr=False)
    faults: FaultBatch = field(repr=False)
    critical: npt.NDArray[np.bool_] = field(repr=False)
    weight: npt.NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.image)


def no_past() -> Past:
    """Before the first trial."""
    none = np.zeros(0, np.int64)
    return Past(
        image=none,
        faults=FaultBatch(**dict.fromkeys(FaultBatch.__slots__, none)),
        critical=np.zeros(0, np.bool_),
        weight=np.zeros(0),
    )
