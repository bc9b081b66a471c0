"""The answer about bit-error rates: ber."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from emulator.cli.schemas.parts import Estimate, Schema


class Bits(Schema):
    """The bits of a curve, in every cycle of one inference."""

    array: dict[str, Any]
    """fields of its ArraySpec"""
    registers: list[str]
    """classes that are struck"""
    layers: list[str]
    """names of the MAC layers that are struck"""
    size: int
    """register bits x cycles"""
    live: int
    """those that can reach a result alone"""


class Point(Schema):
    """At one bit-error rate."""

    bit_error_rate: float
    """upsets a bit and cycle"""
    upsets: float
    """expected in an inference"""
    live_upsets: float
    """expected among live sites"""
    accuracy: Estimate
    """a layer that never completes is a wrong answer"""
    sdc1: Estimate
    """the answer differs from the fault-free one"""
    due: Estimate
    """there is no answer"""


class AccuracyCurve(Schema):
    """Of one array and group of registers."""

    sites: Bits
    """what is struck"""
    points: list[Point]
    """in the order in which they were found"""


class Supply(Schema):
    """A row of the table of `--voltage`."""

    bit_error_rate: float
    """upsets a bit and cycle"""
    supply_v: float
    """volts"""


class ErrorRates(Schema):
    """Accuracy against the bit-error rate."""

    schema_: Literal[1] = Field(alias="schema")
    """version of the file that `-o` writes: the same, without voltages"""
    version: str
    """of the emulator"""
    model: dict[str, Any]
    """path, digest and settings of the model"""
    inputs: dict[str, Any]
    """path, digest and number of the images"""
    against: Literal["labels", "fault-free answers"]
    """what a right answer is"""
    inferences: int
    """struck ones at each rate"""
    seed: int
    """of the draws"""
    without_upsets: Estimate
    """the accuracy at rate 0"""
    curves: dict[str, AccuracyCurve]
    """by name"""
    voltages: list[Supply]
    """empty without `--voltage`"""
