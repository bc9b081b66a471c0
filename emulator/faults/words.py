"""Every live site of a stratum, a word at a time: flips that differ in the bit, or in the cycle but not in effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.faults.fault import FaultBatch
from emulator.faults.space import Stratum

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WordBlock:
    """Words of one stratum. first: the flip of each word's lowest bit in its first cycle; bits: flips of it, one a bit;
    cycles: for how many cycles each of them has the same effect."""

    first: FaultBatch
    bits: Ints
    cycles: Ints

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> WordBlock:
        return WordBlock(first=self.first[chosen], bits=self.bits[chosen], cycles=self.cycles[chosen])

    @property
    def word(self) -> npt.NDArray[np.intp]:
        """(flips,) the word of each."""
        return np.repeat(np.arange(len(self)), self.bits)

    def flips(self, index: npt.NDArray[np.intp]) -> FaultBatch:
        """Some of the flips, counted through the words."""
        ends = np.cumsum(self.bits)
        word = np.searchsorted(ends, index, side="right")
        columns = {name: getattr(self.first, name)[word] for name in FaultBatch.__slots__}
        columns["bit"] = columns["bit"] + index - (ends - self.bits)[word]
        return FaultBatch(**columns)


def word_blocks(stratum: Stratum, most: int) -> Iterator[WordBlock]:
    """The words of a stratum, at most `most` at once."""
    lifetime = stratum.register.lifetime
    ends = np.cumsum(lifetime.words(stratum.plan))
    for start in range(0, int(ends[-1]), most):
        index = np.arange(start, min(start + most, int(ends[-1])))
        fold = np.searchsorted(ends, index, side="right")
        within = index - np.concatenate(([0], ends))[fold]
        at, cycles = lifetime.word(stratum.plan, fold, within)
        code, layer = (np.full_like(index, x) for x in (stratum.register.code, stratum.layer))
        first = FaultBatch(
            layer=layer, register=code, row=at.row, col=at.col, bit=at.bit, cycle=at.cycle, fold=fold
        )
        yield WordBlock(first=first, bits=at.bits, cycles=cycles)
