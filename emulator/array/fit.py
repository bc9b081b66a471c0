"""Raw soft-error rates and what becomes of them: FIT = raw FIT per bit x bits x AVF.

FIT is failures in 10^9 device hours; 1 Mbit is 10^6 bits. The raw rate is an input: it belongs to the process,
the cell, the supply and the place (JESD89A rates are for New York City at sea level), not to the array.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import hypot, isfinite
from typing import Any, Literal, NamedTuple

from emulator.choices import allowed_of_many
from emulator.errors import BadConfig

BITS_PER_MBIT = 1_000_000

FIT_PER_MBIT = 20.0
"""An order of magnitude, as `RawFit` says."""

Storage = Literal["flip-flop", "sram"]


class Fit(NamedTuple):
    """A rate with its interval, in FIT."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{scientific(self.value)} [{scientific(self.low)}, {scientific(self.high)}] FIT"


def scientific(fit: float) -> str:
    """One form for rates that may be orders of magnitude apart: 2.65e-03, and 0."""
    return f"{fit:.2e}" if fit else "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFit:
    """Upsets of one stored bit before any masking, in FIT per Mbit, zero or more.

    Both defaults are 20, an order of magnitude and not data of any process. Li et al. ("Understanding Error
    Propagation in Deep Learning Neural Network (DNN) Accelerators and Applications", SC'17, sec. 4.7) take one
    rate for latches and buffers alike: 20.49 FIT/Mb, for 16 nm, extrapolated from a neutron-beam measurement of
    a 28 nm SRAM (Neale and Sachdev, IEEE TNS 63(3), 2016) which they give as 157.62 FIT/MB, that is
    19.7 FIT/Mbit. So 20 stands for 28 nm at least as well as for 16 nm.

    Others: gpuFI-4 (Sartzetakis et al., ISPASS 2022) has 1.2e-5 FIT/bit at 28 nm and 1.8e-6 at 12 nm, 12 and
    1.8 FIT/Mbit; FIdelity (He et al., MICRO 2020) 600 FIT/MB for flip-flops, 75 FIT/Mbit; Seifert et al. ("Soft
    Error Rate Improvements in 14-nm Technology Featuring Second-Generation 3D Tri-Gate Transistors", IEEE TNS,
    2015) find rates up to 23 times below 32 nm planar; IEC 61508 names 700 to 1200 FIT/Mbit for the embedded
    memories of its time. We know these figures from quotations and abstracts, not from the full texts.

    by_register: (name, FIT per Mbit) of registers that differ from their kind, such as 0 for a memory with ECC.
    Raises BadConfig for a rate that is not a finite number of at least 0.
    """

    flip_flop_fit_per_mbit: float = FIT_PER_MBIT
    sram_fit_per_mbit: float = FIT_PER_MBIT
    by_register: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        _refuse(_bad_rates({"flip-flop": self.flip_flop_fit_per_mbit, "sram": self.sram_fit_per_mbit}))
        _refuse(_bad_rates(dict(self.by_register)))

    def __str__(self) -> str:
        kinds = {self.flip_flop_fit_per_mbit, self.sram_fit_per_mbit}
        if len(kinds) == 1 and not self.by_register:
            return f"{self.sram_fit_per_mbit:g} FIT/Mbit"
        rates = {"flip-flops": self.flip_flop_fit_per_mbit, "SRAM": self.sram_fit_per_mbit}
        rates |= dict(self.by_register)
        return ", ".join(f"{name} {rate:g}" for name, rate in rates.items()) + " FIT/Mbit"

    @classmethod
    def of_all(cls, fit_per_mbit: float) -> RawFit:
        """The same rate for every stored bit."""
        return cls(flip_flop_fit_per_mbit=fit_per_mbit, sram_fit_per_mbit=fit_per_mbit)

    @classmethod
    def from_table(cls, table: Mapping[str, object], registers: Collection[str]) -> RawFit:
        """A TOML table of FIT per Mbit; the keys are "flip-flop", "sram" and names out of `registers`.

        All mistakes come in one BadConfig: unknown keys and rates that are not finite numbers of at least 0.
        """
        kinds = {"flip-flop": "flip_flop_fit_per_mbit", "sram": "sram_fit_per_mbit"}
        allowed = (*kinds, *registers)
        unknown = [key for key in table if key not in allowed]
        hints = {key: allowed_of_many(key, allowed, "emulator inspect --registers") for key in unknown}
        _refuse([f"{key!r} is no register of the array{hints[key]}" for key in unknown] + _bad_rates(table))
        rates = {key: float(rate) for key, rate in table.items() if isinstance(rate, int | float)}
        named = tuple((key, rate) for key, rate in rates.items() if key not in kinds)
        return cls(**{kinds[key]: rates[key] for key in kinds if key in rates}, by_register=named)

    def to_json(self) -> dict[str, Any]:
        """{"flip_flop_fit_per_mbit", "sram_fit_per_mbit", "by_register": {name: rate}}"""
        return {**asdict(self), "by_register": dict(self.by_register)}

    def fit_per_mbit(self, register: str, storage: Storage) -> float:
        """The raw rate of a register: its own, else that of its kind of storage."""
        kind = self.sram_fit_per_mbit if storage == "sram" else self.flip_flop_fit_per_mbit
        return dict(self.by_register).get(register, kind)


def sdc_fit(bits: int, fit_per_mbit: float, avf: tuple[float, float, float]) -> Fit:
    """SDC rate of a structure of `bits` bits whose AVF is (value, low, high), each in [0, 1].

    The AVF is P(SDC | fault uniform over the structure's bit-cycles), Mukherjee et al., "A Systematic
    Methodology to Compute the Architectural Vulnerability Factors for a High-Performance Microprocessor",
    MICRO 2003. The interval is that of the AVF alone: the raw rate's own uncertainty is not in it.
    """
    raw_fit = bits * fit_per_mbit / BITS_PER_MBIT
    return Fit(*(raw_fit * share for share in avf))


def fit_of_parts(parts: Sequence[Fit]) -> Fit:
    """Of structures together, whose rates come from one sample.

    The distances to the ends combine as standard deviations do (MOVER: Zou & Donner, Stat. Med. 27, 2008). Events of
    one part are none of another, so their rates are correlated a little below 0, which is left out. In simulations
    (`tests/statistics`) 95 % intervals cover 94 % and more from some 10 events on, and 93 % with one; the sum of the
    ends, which covers 97 to 100 %, is up to 1.8 times as wide.
    """
    value = sum(part.value for part in parts)
    down = hypot(*(part.value - part.low for part in parts))
    up = hypot(*(part.high - part.value for part in parts))
    return Fit(value, value - down, value + up)


def _bad_rates(rates: Mapping[str, object]) -> list[str]:
    return [
        f"{name} = {rate!r}; allowed: a finite number of FIT per Mbit, 0 or more"
        for name, rate in rates.items()
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not (isfinite(rate) and rate >= 0)
    ]


def _refuse(mistakes: list[str]) -> None:
    if mistakes:
        raise BadConfig("raw FIT: " + "; ".join(mistakes) + ". Correct or remove these entries.")
