"""The array as numbers: sizes, widths, clock. Everything else in this room is derived from an ArraySpec."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal, get_args

from emulator.array.presets import PRESETS
from emulator.errors import BadConfig
from emulator.notebook import titled_table

Dataflow = Literal["ws", "os", "is"]
Dataflows = Literal["both", "ws"]
Overflow = Literal["wrap", "saturate"]
Requantiser = Literal["float32", "fixed-point"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """A systolic array of rows x cols PEs.

    dataflow: weight-stationary (ws), output-stationary (os) or input-stationary (is: ws with the operands
    exchanged). dataflows: what the PEs are built for, "ws" has narrower banks and no dataflow, shift or last_s
    registers. acc_rows accumulator rows serve as two halves, one fills while the other drains; the buffers
    hold act_buffer_rows rows of `rows` and wgt_buffer_rows rows of `cols` words. psum_bits may be too narrow to
    be exact; sums beyond it, and beyond acc_bits, `overflow`.
    """

    name: str = "custom"
    rows: int = 16
    cols: int = 16
    dataflow: Dataflow = "ws"
    dataflows: Dataflows = "both"
    act_bits: int = 8
    wgt_bits: int = 8
    psum_bits: int = 20
    acc_bits: int = 32
    bank_bits: int = 32
    acc_rows: int = 1024
    act_buffer_rows: int = 8192
    wgt_buffer_rows: int = 8192
    overflow: Overflow = "wrap"
    requantiser: Requantiser = "float32"
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
        for field, choices in _CHOICES:
            if getattr(self, field) not in choices:
                raise BadConfig(
                    f"ArraySpec: {field}={getattr(self, field)!r}; allowed: {', '.join(choices)}. "
                    f"Change {field} in the array."
                )
        self._check_together()

    def _check_together(self) -> None:
        rules = (
            (
                self.dataflow == "os" and self.dataflows == "ws",
                "dataflow='os' with dataflows='ws'; allowed: 'ws' or 'is'. Set dataflows='both'.",
            ),
            (
                self.dataflow == "is" and self.act_bits != self.wgt_bits,
                f"dataflow='is' with act_bits={self.act_bits}, wgt_bits={self.wgt_bits}; allowed: equal widths, "
                "because the operands are exchanged. Set them equal.",
            ),
            (
                self.psum_bits < max(self.act_bits, self.wgt_bits),
                f"psum_bits={self.psum_bits}; allowed: at least the operands' width. Set a larger psum_bits.",
            ),
            (
                self.acc_bits % 8 != 0,
                f"acc_bits={self.acc_bits}; allowed: whole bytes, 8 to 32. Set acc_bits=32.",
            ),
            (
                self.overflow == "saturate" and self.psum_bits > 31,
                "overflow='saturate' with psum_bits=32; allowed: up to 31. Set psum_bits=31.",
            ),
            (
                self.bank_bits < self._narrowest_bank,
                f"bank_bits={self.bank_bits}; allowed: {self._narrowest_bank} to 32 with "
                f"dataflows={self.dataflows!r}. Set a larger bank_bits.",
            ),
            (
                self.acc_rows < 2 * (self.rows if self.dataflow == "os" else 1),
                f"acc_rows={self.acc_rows}; allowed: two halves of {self.rows if self.dataflow == 'os' else 1} "
                "rows or more. Set a larger acc_rows.",
            ),
        )
        for broken, text in rules:
            if broken:
                raise BadConfig(f"ArraySpec: {text}")

    def _repr_html_(self) -> str:
        rows = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return titled_table(f"ArraySpec {self.name!r}", ["field", "value"], rows)

    @property
    def _narrowest_bank(self) -> int:
        return self.wgt_bits if self.dataflow != "os" else self.psum_bits

    @property
    def exact_psum_bits(self) -> int:
        """The width at which a column of partial sums can't overflow (Gemmini: 8 + 8 + 4 = 20)."""
        return self.act_bits + self.wgt_bits + (self.rows - 1).bit_length()

    @property
    def edge_bits(self) -> int:
        """Width of what enters at the top: an activation, a weight or a preloaded word."""
        return max(self.act_bits, self.wgt_bits)

    @property
    def row_bits(self) -> int:
        """Width of a counter of array rows."""
        return max((self.rows - 1).bit_length(), 1)

    @property
    def id_bits(self) -> int:
        """Width of a request's id: enough for the requests between the sequencer and the accumulator."""
        return (self.drain_cycles // self.rows + 3).bit_length()

    @property
    def acc_address_bits(self) -> int:
        return max((self.acc_rows - 1).bit_length(), 1)

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
        return _preset(name)


@cache
def _preset(name: str) -> ArraySpec:
    fields: dict[str, Any] = dict(PRESETS[name])
    return ArraySpec(**fields)


# A word of the state has 32 bits.
_RANGES = (
    ("rows", 2, 256),
    ("cols", 1, 256),
    ("act_bits", 2, 16),
    ("wgt_bits", 2, 16),
    ("psum_bits", 4, 32),
    ("acc_bits", 8, 32),
    ("bank_bits", 2, 32),
    ("acc_rows", 2, 1 << 20),
    ("act_buffer_rows", 4, 1 << 20),
    ("wgt_buffer_rows", 4, 1 << 20),
    ("clock_hz", 1.0, 1e11),
)

_CHOICES = (
    ("dataflow", get_args(Dataflow)),
    ("dataflows", get_args(Dataflows)),
    ("overflow", get_args(Overflow)),
    ("requantiser", get_args(Requantiser)),
)
