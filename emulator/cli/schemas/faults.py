"""Answers about single faults: inject, replay, rank, search."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from emulator.cli.schemas.parts import Estimate, Logits, Schema, Site, Stage, Top1, Upset


class ErrorAt(Schema):
    """A wrong value of a layer's product."""

    m: int
    """row"""
    n: int
    """column"""
    delta: int
    """faulty minus golden"""


class Explained(Schema):
    """One fault on one input."""

    site: Site
    """what was struck"""
    fault: str
    """the same, as --fault of inject takes it"""
    input: int
    """index of the sample"""
    live: bool
    """can a flip here reach a result?"""
    engine: str
    """that turned the fault into errors: closed-form or cycle"""
    old_value: int | None
    """of the register; null where there is no closed form, or the site is dead"""
    new_value: int | None
    """likewise"""
    accumulator_error: list[ErrorAt]
    """wrong accumulators"""
    output_error: list[ErrorAt]
    """wrong requantised words, of a fault behind the accumulators"""
    corrupted_outputs: int
    """wrong outputs of the layer"""
    masked_at: Stage
    """where it ended; "none": the logits differ"""
    due: bool
    """the layer never completes"""
    sdc1: bool
    """the answer changed"""
    tie: bool
    """by a tie only"""
    top1: Top1
    """the answer"""
    logits: Logits
    """what it is taken from"""


class Waveform(Schema):
    """A VCD file."""

    path: str
    """where it is"""
    first_cycle: int
    """of the layer"""
    last_cycle: int
    """included"""


class Injected(Explained):
    """One fault of one layer."""

    vcd: Waveform | None = None
    """only with --vcd"""
    figure: str | None = None
    """path; only with --figure"""


class NamedFault(Schema):
    """A fault as it was written."""

    fault: str
    """the text of --fault"""
    layer: int | None
    """null: every layer"""
    sites: list[Upset]
    """what it strikes"""


class StruckLayer(Schema):
    """A MAC layer under all the faults, those before it included."""

    layer: int
    """index"""
    layer_name: str
    """name in the model"""
    engine: str
    """that computed it"""
    wrong_accumulators: int
    """that differ from the golden run"""
    accumulators: int
    """all"""
    largest_error: int
    """of an accumulator"""
    wrong_outputs: int
    """that differ"""


class InjectedTogether(Schema):
    """Several faults at once, or of every layer."""

    faults: list[NamedFault]
    """all that strike together"""
    input: int
    """index of the sample"""
    layers: list[StruckLayer]
    """those that ran"""
    masked_at: Stage
    """where they ended; "none": the logits differ, or there are none"""
    due: bool
    """a layer never completes"""
    hang: int | None
    """which one"""
    sdc1: bool
    """the answer changed"""
    tie: bool
    """by a tie only"""
    top1: Top1
    """the answer"""
    logits: Logits
    """what it is taken from"""


class InjectedEach(Schema):
    """`--faults`: those of a file, each alone."""

    explanations: list[Injected]
    """in the order of the rows"""


class Ranked(Schema):
    """A fault and its score."""

    score: float
    """larger: more likely to change the answer"""
    input: int
    """index of the sample"""
    layer: int
    """index of the MAC layer"""
    layer_name: str
    """its name"""
    register_: str = Field(alias="register")
    """its class"""
    row: int
    """of the class"""
    col: int
    """of the class"""
    bit: int
    """0 is the least significant"""
    cycle: int
    """of the layer"""
    fault: str
    """the same, as --fault of inject takes it"""


class Ranking(Schema):
    """Likely critical faults; none was injected."""

    scored: int
    """draws"""
    faults: list[Ranked]
    """the best, first ones first"""


class FoundFault(Schema):
    """A site that costs accuracy."""

    fault: str
    """as `emulator inject --fault` takes it"""
    lost: int
    """right answers that it costs"""
    drop: float
    """the same, of all images"""
    draws: int
    """times that it was drawn"""


class DrawsPerFault(Schema):
    """Draws that it takes to find one."""

    value: float | None
    """null where none was found"""
    low: float | None
    """lower end of the interval"""
    high: float | None
    """upper end; null where it has none"""
    confidence: float
    """of the interval"""
    n: int
    """draws"""
    method: str
    """how it was obtained"""


class Search(Schema):
    """Faults that cost accuracy, struck at one site in every image."""

    drop: float
    """what a fault must cost"""
    needed: int
    """the same, in answers"""
    images: int
    """that each fault strikes"""
    accuracy: float
    """without faults"""
    sampler: dict[str, Any]
    """its name and settings"""
    seed: int
    """of the draws"""
    draws: int
    """made"""
    found: int
    """distinct faults that cost as much"""
    hits: Estimate
    """share of draws that came to one"""
    draws_per_fault: DrawsPerFault
    """1 / hits"""
    rate_live: Estimate
    """such faults among live sites"""
    rate: Estimate
    """among all sites"""
    injections: int
    """sites x images that were struck and judged"""
    predictions: int
    """sites x images that the sampler looked at without"""
    seconds: float
    """that it took"""
    faults: list[FoundFault]
    """the strongest first"""
