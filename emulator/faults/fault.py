"""A fault: an upset of the array while it runs one layer of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.array.exposure.lifetime import Sites
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.array.upset import FLIP, Upset

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`upset` strikes while MAC layer `layer` (index in execution order) runs; cycles count from its start."""

    layer: int
    upset: Upset

    def __str__(self) -> str:
        u = self.upset
        bits = ",".join(map(str, u.bits))
        text = f"layer={self.layer} register={u.register} row={u.row} col={u.col} cycle={u.cycle} bit={bits}"
        if u.kind != FLIP:
            text += f" kind={u.kind}"
        return text if u.until_cycle is None else f"{text} until_cycle={u.until_cycle}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaultBatch:
    """Many transient single-bit faults: int64 arrays of one length. register: code in the inventory; fold: the one
    of the layer in which the site is live, -1 for a dead site."""

    layer: Ints
    register: Ints
    row: Ints
    col: Ints
    bit: Ints
    cycle: Ints
    fold: Ints

    def __len__(self) -> int:
        return len(self.layer)

    def __getitem__(self, chosen: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> FaultBatch:
        return FaultBatch(**{name: getattr(self, name)[chosen] for name in self.__slots__})

    def upsets(self, array: ArraySpec) -> list[Upset]:
        """The flips, one by one."""
        registers = inventory(array)
        columns = (getattr(self, name).tolist() for name in ("register", "row", "col", "bit", "cycle"))
        return [
            Upset(register=registers[code].name, row=row, col=col, bits=(bit,), cycle=cycle)
            for code, row, col, bit, cycle in zip(*columns, strict=True)
        ]

    @property
    def sites(self) -> Sites:
        return Sites(self.row, self.col, self.bit, self.cycle)


def joined_faults(parts: Sequence[FaultBatch]) -> FaultBatch:
    """Batches one after the other, at least one."""
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in FaultBatch.__slots__}
    return FaultBatch(**columns)
