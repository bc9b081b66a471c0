"""The register inventory: name, geometry, width, lifetime. One entry drives the fault space, the engines,
the documentation and the reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.array.exposure import (
    AccumulatorWord,
    ActivationPipe,
    Lifetime,
    PartialSum,
    WeightBank,
    WeightChain,
)
from emulator.array.spec import ArraySpec
from emulator.errors import BadConfig

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """A class of equal registers, rows x cols of them; row 0 may be narrower (`first_row_bits`)."""

    name: str
    code: int
    rows: int
    cols: int
    bits: int
    first_row_bits: int
    lifetime: Lifetime
    meaning: str

    @property
    def total_bits(self) -> int:
        """Bits of the whole class."""
        return self.cols * (self.first_row_bits + (self.rows - 1) * self.bits)

    def width(self, row: int) -> int:
        """Bits of one register in `row`."""
        return self.first_row_bits if row == 0 else self.bits

    def place(self, index: Ints) -> tuple[Ints, Ints, Ints]:
        """index in [0, total_bits) to (row, col, bit)."""
        first = self.cols * self.first_row_bits
        in_first = index < first
        rest = np.maximum(index - first, 0)
        row = np.where(in_first, 0, 1 + rest // (self.cols * self.bits))
        width = np.where(in_first, self.first_row_bits, self.bits)
        word = np.where(in_first, index, rest % (self.cols * self.bits))
        return row, word // width, word % width

    def index(self, row: Ints, col: Ints, bit: Ints) -> Ints:
        """The inverse of `place`."""
        rest = self.cols * self.first_row_bits + ((row - 1) * self.cols + col) * self.bits + bit
        return np.where(row == 0, col * self.first_row_bits + bit, rest)


def inventory(spec: ArraySpec) -> tuple[Register, ...]:
    """Every register class of `spec`, in the order of their codes."""
    r, c = spec.rows, spec.cols
    psum, bank = spec.psum_bits, spec.bank_bits
    entries: tuple[tuple[str, int, int, int, int, Lifetime, str], ...] = (
        ("pe_a", r, c, spec.act_bits, spec.act_bits, ActivationPipe(), "activation travelling right"),
        ("pe_b", r, c, psum, spec.act_bits, PartialSum(), "partial sum travelling down"),
        ("pe_d", r, c, psum, spec.wgt_bits, WeightChain(), "weight shift chain travelling down"),
        ("pe_c1", r, c, bank, bank, WeightBank(bank=0), "weight bank 1, active every other tile"),
        ("pe_c2", r, c, bank, bank, WeightBank(bank=1), "weight bank 2, active every other tile"),
        (
            "accumulator",
            spec.acc_rows,
            c,
            spec.acc_bits,
            spec.acc_bits,
            AccumulatorWord(),
            "running sum of the K loop",
        ),
    )
    return tuple(
        Register(name=n, code=i, rows=rows, cols=cols, bits=b, first_row_bits=b0, lifetime=life, meaning=text)
        for i, (n, rows, cols, b, b0, life, text) in enumerate(entries)
    )


def register(spec: ArraySpec, name: str) -> Register:
    """The register class called `name`; raises BadConfig with the list of names."""
    for entry in inventory(spec):
        if entry.name == name:
            return entry
    names = ", ".join(entry.name for entry in inventory(spec))
    raise BadConfig(f"register {name!r} is not in the array {spec.name!r}; allowed: {names}.")
