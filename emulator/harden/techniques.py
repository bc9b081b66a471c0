"""Ways to protect storage: what each costs and what it leaves, from a table the user may replace."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emulator.choices import did_you_mean
from emulator.errors import BadConfig
from emulator.harden.units import Units

Area = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_STRICT = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ByStorage(BaseModel):
    """An area of flip-flops and one of memories, in flip-flops."""

    model_config = _STRICT

    flip_flop: Area = Field(default=0.0, alias="flip-flop")
    sram: Area = 0.0

    def of(self, sram: npt.NDArray[np.bool_]) -> Floats:
        """(parts,) that of each part."""
        return np.where(sram, self.sram, self.flip_flop)


class Technique(BaseModel):
    """One way to protect; what the fields mean stands in techniques.toml."""

    model_config = _STRICT

    effect: Literal["corrected", "detected"]
    residual: float = Field(ge=0, le=1)
    check: Literal["none", "parity", "secded"] = "none"
    extra_cells: Area = 0.0
    logic: ByStorage = Field(default_factory=ByStorage)
    cycles: Area = 0.0

    def check_bits(self, width: Ints) -> Ints:
        """Check bits of code words of `width` >= 0 data bits; a word of none needs none."""
        if self.check == "none":
            return np.zeros_like(width)
        return np.where(width > 0, 1 if self.check == "parity" else secded_bits(width), 0)


class Techniques(BaseModel):
    """The whole table."""

    model_config = _STRICT

    cells: ByStorage
    techniques: dict[str, Technique] = Field(min_length=1)

    def suited(self, units: Units, only: Sequence[str] | None = None) -> dict[str, Technique]:
        """Those that protect such units: in time for layers, in area for the others; `only`: out of these.

        Raises BadConfig for an unknown name, and where none is left.
        """
        unknown = [name for name in only or () if name not in self.techniques]
        if unknown:
            hint = did_you_mean(unknown[0], self.techniques)
            raise BadConfig(f"technique {unknown[0]!r}{hint}; allowed: {', '.join(self.techniques)}.")
        fit = {name: t for name, t in self.techniques.items() if (t.cycles > 0) == units.in_time}
        chosen = {name: t for name, t in fit.items() if only is None or name in only}
        if not chosen:
            kind = "with cycles" if units.in_time else "without cycles"
            raise BadConfig(
                f"no technique is left for units by {units.by}; allowed: those {kind}"
                f"{f': {chr(44).join(fit)}' if fit else ''}. Name one of them, or add one to the table."
            )
        return chosen

    def size(self, units: Units) -> float:
        """What a share is a share of: the area of all storage in flip-flops, or the cycles of all layers."""
        parts = units.parts
        return float(parts.bits.sum() if units.in_time else (parts.bits * self.cells.of(parts.sram)).sum())

    def costs(self, units: Units, chosen: dict[str, Technique]) -> Floats:
        """(units, techniques) what it costs to protect each unit, in flip-flops or cycles."""
        columns = [self._cost(units, technique) for technique in chosen.values()]
        return np.stack(columns, axis=1)

    def _cost(self, units: Units, technique: Technique) -> Floats:
        parts = units.parts
        if units.in_time:
            each = technique.cycles * parts.bits.astype(np.float64)
        else:
            cells = parts.words * technique.check_bits(parts.width) + technique.extra_cells * parts.bits
            each = cells * self.cells.of(parts.sram) + parts.bits * technique.logic.of(parts.sram)
        return np.bincount(parts.unit, each, len(units)).astype(np.float64)


def secded_bits(width: Ints) -> Ints:
    """Check bits of a code that corrects one flip and detects two in `width` >= 1 data bits: the smallest r with
    2^r >= width + r + 1, and one for the parity of the whole. Hamming 1950; 8 bits need 5, 32 need 7, 64 need 8."""
    r = np.arange(1, 64)
    # Data bits that r check bits suffice for.
    most = np.minimum(2.0**r, 2.0**62).astype(np.int64) - r - 1
    return np.asarray(1 + r[np.searchsorted(most, width)], np.int64)


def read_techniques(path: Path | None = None) -> Techniques:
    """The table in `path`, or the one that comes with the package; all mistakes in one BadConfig."""
    source = files("emulator.harden") / "techniques.toml" if path is None else path
    try:
        values = tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(f"techniques {str(path)!r} can't be read: {error}. Give a TOML file.") from error
    try:
        return Techniques(**values)
    except ValidationError as error:
        lines = "\n".join(f"  {_complaint(item)}" for item in error.errors())
        raise BadConfig(
            f"techniques {str(path)!r}:\n{lines}\nCompare with emulator/harden/techniques.toml."
        ) from None


_KEYS = {"cells": ByStorage, "logic": ByStorage}


def _complaint(item: Any) -> str:
    where = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden":
        above = where[-2] if len(where) > 1 else ""
        model = Techniques if not above else _KEYS.get(above, Technique)
        known = [field.alias or name for name, field in model.model_fields.items()]
        return f"unknown key {'.'.join(where)!r}{did_you_mean(where[-1], known)}; allowed: {', '.join(known)}"
    if item["type"] == "missing":
        return f"{'.'.join(where)} is missing"
    return f"{'.'.join(where)} = {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}"
