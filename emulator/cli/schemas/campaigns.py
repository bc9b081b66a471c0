"""Answers about campaigns: demo, init, run, status, report, compare."""

from __future__ import annotations

from typing import Any, Literal

from emulator.cli.schemas.parts import Estimate, Fit, Ratio, RawFit, Schema, Stage


class Results(Schema):
    """What a campaign found. sdc1, sdc5 and masked are over all sites, dead ones included; the rest over live ones."""

    sdc1_live: Estimate
    """the answer changes, fault in a live site"""
    sdc1: Estimate
    """the answer changes, fault anywhere: the AVF"""
    sdc5: Estimate
    """it leaves the five best, fault anywhere"""
    sdc1_live_without_ties: Estimate
    """sdc1_live, without answers that only tie"""
    sdc1_live_images_alike: Estimate | None
    """sdc1_live over images like these; null for one image"""
    masked: dict[Stage, Estimate]
    """where faults end; "none": the output differs"""
    trials: int
    """or, of the samplers exhaustive and sweep, classes of sites"""
    live_share: float
    """live sites of all"""
    space_size: int
    """register bits x cycles of one input"""
    by_layer: dict[str, Estimate]
    """sdc1_live of each layer with trials"""
    by_register: dict[str, Estimate]
    """of each register class"""
    by_bit: dict[str, Estimate]
    """of each bit; empty for exhaustive and sweep"""
    precision_at_100: Estimate | None
    """critical ones among the 100 that the sampler scores highest; null where it ranks nothing"""
    sampler: str
    """its name"""
    state: Literal["running", "finished", "interrupted"]
    """is a run at work on it; interrupted: `emulator run DIR` carries on"""
    stop: dict[str, Any]
    """the stop rule: max_trials, ci_half_width, max_time (seconds), min_critical, exhausted; any or all of several"""
    stopped_by: dict[str, Any] | None
    """the part of it that ended the campaign; null where it is not finished"""


class Interval(Schema):
    """A share, or a rate in FIT, with its interval."""

    value: float | None
    """the estimate; null where there are no trials"""
    low: float
    """lower end"""
    high: float
    """upper end"""


class Group(Schema):
    """A layer, a register class, or a bit."""

    share: float
    """part of all SDC-1; where registers have several raw rates, of all SDC-FIT"""
    avf: Interval
    """the answer changes, fault anywhere in the group"""
    fit: Interval
    """SDC in FIT"""
    n: int
    """trials"""
    method: str
    """how avf was obtained"""


class Status(Results):
    """The campaign, as it is now."""

    fit: Fit
    """SDC in FIT of the registers struck"""
    raw_fit: RawFit
    """the raw rates for it"""
    by: dict[str, Group] | None
    """groups by name, those first of which the trials prove most; null without `--by`"""


class Ran(Results):
    """The campaign, as it is now."""

    directory: str
    """where it is kept"""
    trials_per_second: float
    """of this run; 0 where nothing was left to do"""


class Memory(Schema):
    """Bytes of a campaign."""

    limit: int
    """of all processes of this machine together; on a cluster of each worker"""
    workers: int | None
    """processes; null: those of a cluster"""
    needed: int
    """the least they can do with"""
    process: int
    """the least of one that does the work"""
    image: int
    """what is known about one image"""
    images_kept: int
    """images for which there is room"""


class Probe(Schema):
    """Some trials on one image, timed in this process."""

    trials: int
    """how many"""
    trials_per_second: float
    """with kernels compiled and the image known"""
    seconds: float | None
    """that the planned trials take about, without what is done once for each worker and image; where no number of
    trials is planned, those of `--until-ci` at a rate of 1 %; null with neither"""


class Plan(Schema):
    """`--dry-run`: what would be done."""

    space_size: int
    """register bits x cycles of one input"""
    live: int
    """sites that can reach a result"""
    live_share: float
    """live / space_size"""
    images: int
    """inputs"""
    trials: int | None
    """at most; null: no limit of them"""
    chunks: dict[str, Any]
    """how the trials are cut into units of work"""
    sampler: dict[str, Any]
    """its name and settings"""
    layers: int
    """MAC layers that may be struck"""
    registers: list[str]
    """classes that may be struck"""
    cycles: int
    """of one inference, of these layers"""
    memory: Memory
    """how it is shared out"""
    uniform_half_width: float | None
    """of so many uniform trials at worst; null without a limit"""
    uniform_trials: int
    """that give 1 % at worst (Leveugle et al., DATE'09)"""
    uniform_trials_until_ci: int | None
    """that reach --until-ci at worst, about; null without it"""
    probe: Probe | None
    """null on a cluster, and for samplers that go through every site"""


class Demo(Schema):
    """The tour: the same campaign by two samplers."""

    uniform: Results
    """uniform sampling"""
    importance: Results
    """importance sampling"""
    report: str
    """path of the HTML file"""


class Template(Schema):
    """A commented campaign file."""

    toml: str
    """its text"""


class Report(Schema):
    """A file was written."""

    report: str
    """path of the HTML file"""
    figures: list[str] | None = None
    """paths of the figures; with `--figures`"""


class Accuracies(Schema):
    """On the campaign's images."""

    before: Estimate
    """of the first network"""
    after: Estimate
    """of the second"""


class ComparedGroup(Schema):
    """SDC-1 of live sites of one layer or register class, of the same faults, or of all of two exhaustive campaigns."""

    before: Estimate
    """in the first network"""
    after: Estimate
    """in the second"""
    fewer: Ratio
    """before / after"""


class Compared(Schema):
    """Two campaigns that differ in the network."""

    rates: dict[str, Estimate]
    """SDC-1 of live sites: before, after_same_faults, after_fresh_faults (of one seed after_own_faults), mended,
    broken; or before, after_all_faults"""
    fewer: dict[str, Ratio]
    """before / after: same_faults, fresh_faults (own_faults), or all_faults"""
    accuracy: Accuracies | None
    """null without labels"""
    by_register: dict[str, ComparedGroup]
    """by register class; those first that differ, then those of the highest rate before"""
    by_layer: dict[str, ComparedGroup]
    """by layer, ordered alike"""
