"""The array as numbers: sizes, widths, clock. Everything else in this room is derived from an ArraySpec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from emulator.errors import BadConfig

Dataflow = Literal["ws"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """A systolic array of rows x cols PEs.

    Weight-stationary (ws): PE row r holds weight row r of a tile, activations enter from the left, partial
    sums leave at the bottom into `acc_rows` accumulator words a column.
    """

    name: str = "custom"
    rows: int = 16
    cols: int = 16
    dataflow: Dataflow = "ws"
    act_bits: int = 8
    wgt_bits: int = 8
    psum_bits: int = 20
    acc_bits: int = 32
    bank_bits: int = 32
    acc_rows: int = 1024
    clock_hz: float = 1e9

    def __post_init__(self) -> None:
        for field, low, high in _RANGES:
            value = getattr(self, field)
            if not isinstance(value, int) and field != "clock_hz":
                raise BadConfig(
                    f"ArraySpec: {field}={value!r}; allowed: a whole number. Change {field} in the array."
                )
            if not low <= value <= high:
                raise BadConfig(
                    f"ArraySpec: {field}={value!r}; allowed: {low} to {high}. Change {field} in the array."
                )
        if self.dataflow != "ws":
            raise BadConfig(
                f"ArraySpec: dataflow={self.dataflow!r}; allowed: 'ws'. Set dataflow='ws' "
                "(output- and input-stationary are not modelled yet)."
            )
        if self.psum_bits < self.exact_psum_bits:
            raise BadConfig(
                f"ArraySpec: psum_bits={self.psum_bits} can overflow: {self.rows} products of "
                f"{self.act_bits} x {self.wgt_bits} bits need {self.exact_psum_bits}. "
                f"Set psum_bits={self.exact_psum_bits} or more, or use fewer rows."
            )

    @property
    def exact_psum_bits(self) -> int:
        """The width at which a column of partial sums can't overflow (Gemmini: 8 + 8 + 4 = 20)."""
        return self.act_bits + self.wgt_bits + (self.rows - 1).bit_length()

    @property
    def drain_cycles(self) -> int:
        """Cycles from the last accepted row to its result row at the array's output, both included."""
        return self.rows + self.cols + 1

    @classmethod
    def preset(cls, name: str) -> ArraySpec:
        """A named array; raises BadConfig with the list of names."""
        if name not in PRESETS:
            raise BadConfig(
                f"array preset {name!r}; allowed: {', '.join(sorted(PRESETS))}. Choose one of them."
            )
        return PRESETS[name]


# psum_bits stays below the bank width: weights and partial sums travel in the same 32-bit words.
_RANGES = (
    ("rows", 2, 256),
    ("cols", 1, 256),
    ("act_bits", 8, 8),
    ("wgt_bits", 8, 8),
    ("psum_bits", 8, 32),
    ("acc_bits", 32, 32),
    ("bank_bits", 8, 32),
    ("acc_rows", 1, 1 << 20),
    ("clock_hz", 1.0, 1e11),
)

PRESETS = {
    # Genc et al., Gemmini, DAC'21: default configuration; 2 accumulator banks x 512 rows.
    "gemmini-16": ArraySpec(name="gemmini-16"),
    # The same machine scaled down, handy in tests and examples.
    "gemmini-8": ArraySpec(name="gemmini-8", rows=8, cols=8, psum_bits=19, acc_rows=512),
}
