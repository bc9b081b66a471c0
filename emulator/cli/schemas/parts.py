"""What the answers of several commands have in common: rates, faults, what became of them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Schema(BaseModel):
    """An object with exactly these keys. JSON has no infinity and no NaN: where a number may be one, null stands.

    A key `register` has another name here: every class has a method of its name.
    """

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Estimate(Schema):
    """A rate in [0, 1] with its two-sided confidence interval."""

    value: float | None
    """the estimate; null where there are no trials"""
    low: float
    """lower end of the interval"""
    high: float
    """upper end of the interval"""
    confidence: float
    """of the interval; 1 for what is counted or holds for certain"""
    n: int
    """trials"""
    ess: float
    """uniform trials that would give the same interval"""
    method: str
    """how it was obtained; "exact": counted, not sampled"""


class Ratio(Schema):
    """How many times as large one rate is as another."""

    value: float | None
    """null where the second rate is 0"""
    low: float | None
    """lower end of the interval"""
    high: float | None
    """upper end; null where it has none"""
    confidence: float
    """of the interval"""
    method: str
    """of rates of the same trials "paired-mover"; of independent ones "mover", or "ends" where one is 0"""


class Fit(Schema):
    """Failures in 10^9 device hours, with its interval."""

    value: float
    """the estimate"""
    low: float
    """lower end"""
    high: float
    """upper end"""


class RawFit(Schema):
    """Upset rates before any masking, in FIT per Mbit."""

    flip_flop_fit_per_mbit: float
    """of flip-flops"""
    sram_fit_per_mbit: float
    """of memories"""
    by_register: dict[str, float]
    """of registers that differ from their kind"""


Stage = Literal["dead", "array", "requant", "clamp", "network", "none"]


class Upset(Schema):
    """What happens to a register."""

    register_: str = Field(alias="register")
    """as `emulator inspect --registers` names it"""
    row: int
    """of the register class"""
    col: int
    """of the register class"""
    bits: list[int]
    """0 is the least significant"""
    kind: Literal["flip", "stuck-at-0", "stuck-at-1"]
    """fault model"""
    cycle: int
    """first cycle of the layer in which it is visible"""
    until_cycle: int | None
    """last one of an intermittent fault, null for others"""


class Site(Upset):
    """An upset of one layer."""

    layer: int
    """index of the MAC layer"""
    layer_name: str
    """its name in the model"""


class Top1(Schema):
    """The answer, as index of a class."""

    golden: int
    """without the fault"""
    faulty: int | None
    """with it; null where the layer never completes"""


class Logits(Schema):
    """The values that the answer is taken from, as reals."""

    golden: list[float | None]
    """without the fault"""
    faulty: list[float | None] | None
    """with it; null where the layer never completes"""
