"""A fault: an upset of the array while it runs one layer of the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.array.exposure import Sites
from emulator.array.upset import Upset

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`upset` strikes while MAC layer `layer` (index in execution order) runs; cycles count from its start."""

    layer: int
    upset: Upset

    def __str__(self) -> str:
        u = self.upset
        bits = ",".join(map(str, u.bits))
        return f"layer={self.layer} register={u.register} row={u.row} col={u.col} cycle={u.cycle} bit={bits}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaultBatch:
    """Many transient single-bit faults: int64 arrays of one length. register: code in the inventory."""

    layer: Ints
    register: Ints
    row: Ints
    col: Ints
    bit: Ints
    cycle: Ints

    def __len__(self) -> int:
        return len(self.layer)

    def __getitem__(self, chosen: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> FaultBatch:
        return FaultBatch(**{name: getattr(self, name)[chosen] for name in self.__slots__})

    @property
    def sites(self) -> Sites:
        return Sites(self.row, self.col, self.bit, self.cycle)
