"""Answers about surviving faults: train, status, checksum, protect."""

from __future__ import annotations

from emulator.cli.schemas.parts import Estimate, Fit, RawFit, Schema


class Epoch(Schema):
    """After an epoch, on images that are not trained on."""

    epoch: int
    """0: before training"""
    loss: float | None
    """of the training; null before it"""
    struck: int
    """batch rows that a fault struck"""
    kept: bool
    """the best so far"""
    accuracy: Estimate
    """without faults"""
    sdc1_live: Estimate
    """the answer changes, fault in a live site"""


class Trained(Schema):
    """A model was written."""

    model: str
    """its path"""
    kept: Epoch
    """whose weights it has"""
    epochs: list[Epoch]
    """all"""


class TrainingStatus(Schema):
    """How far a training is; the epochs are null until the first is done."""

    training: str
    """name of the network"""
    epochs: int
    """of the schedule; it may end before, by --patience"""
    done: int
    """of them"""
    finished: bool
    """has the model been written?"""
    model: str | None
    """its path"""
    first: Epoch | None
    """before training"""
    kept: Epoch | None
    """the best so far"""
    last: Epoch | None
    """done"""


class ChecksumCost(Schema):
    """Of the network, or what is added to it."""

    macs: int
    """multiply-accumulates without checksums"""
    cycles: int
    """cycles without checksums"""
    extra_macs: int
    """added"""
    extra_cycles: int
    """added"""
    mac_share: float
    """extra_macs / macs"""
    cycle_share: float
    """extra_cycles / cycles"""


class Seen(Schema):
    """Shares of some faults; null where there are none of these."""

    detected: Estimate | None
    """that a checksum sees"""
    corrected: Estimate | None
    """that it puts right"""
    miscorrected: Estimate | None
    """that it puts wrong"""


class Checksums(Schema):
    """The trials of a campaign under checksums."""

    check: str
    """rows, columns or both"""
    trials: int
    """of the campaign"""
    rates: dict[str, Estimate]
    """of events over live sites: wrong, detected, missed, corrected, miscorrected; sdc1 and due as they are, and
    _with_detection, _with_correction"""
    by_register: dict[str, dict[str, Estimate]]
    """the same of each register class"""
    of_wrong: Seen
    """of the faults that spoil a layer"""
    of_critical: Seen
    """of the faults that change the answer"""
    cost: dict[str, dict[str, ChecksumCost]]
    """by check, then by where they are computed: own passes or the layer's same one, _wide: in wide PEs"""


class Bought(Schema):
    """What some protection costs and leaves."""

    share: float
    """of the size of all units"""
    units: int
    """protected"""
    bits: int
    """protected; with --by layer cycles"""
    removed: Estimate
    """share of the SDC-FIT"""
    residual: Estimate
    """SDC-1 over the whole population that is left, each site weighed by its raw rate over the highest"""
    fit: Fit
    """SDC-FIT that is left"""
    at_most: float | None
    """certified bound of residual, 95 %; null in `smallest`, which the judging half has chosen"""
    at_most_fit: float | None
    """the same of fit; 0 where nothing is left by construction (residual.method exact)"""
    due: Estimate
    """upsets that are detected instead, harmless ones among them, over the whole population"""
    due_fit: Fit
    """the same in FIT"""


class BoughtFor(Bought):
    """The same for a budget."""

    budget: float
    """share that may be spent"""


class ChosenUnit(Schema):
    """A unit that is protected."""

    unit: dict[str, str | int]
    """what it is, by the keys of --by"""
    technique: str
    """that protects it"""
    effect: str
    """corrected or detected"""
    bits: int
    """of it; with --by layer cycles"""
    cost: float
    """in flip-flop areas, or cycles"""
    fit: Fit
    """SDC-FIT of it without protection, by the judging half"""
    expected_fit: float
    """SDC-FIT removed, as the choosing half expects: shrunk to what is known of units like it; the order is by it"""


class ProtectionCurve(Schema):
    """Points of the Pareto curve."""

    share: list[float]
    """of the size that is spent"""
    removed: list[float]
    """of the SDC-FIT, on trials that judge"""
    optimistic: list[float]
    """on trials that chose: too good"""


class ChecksumBeside(Schema):
    """Checksums that correct what they can, on the chip that is protected; in no budget."""

    check: str
    """rows, columns or both"""
    cost: ChecksumCost
    """in passes of their own"""
    due: Estimate
    """detected errors without them, over live sites"""
    due_with_correction: Estimate
    """with them"""


class Protected(Schema):
    """What to protect for a budget."""

    by: str
    """what is protected as a whole"""
    budget: float
    """share that may be spent; with --max-fit the share that it takes"""
    max_fit: float | None
    """SDC-FIT that may be left: --max-fit"""
    units: int
    """that there are"""
    size: float
    """of all of them, in flip-flop areas or cycles"""
    raw_fit: RawFit
    """upset rates that were assumed, before any masking"""
    choosing_trials: int
    """the half that chose"""
    judging_trials: int
    """the half that judged"""
    least_bound_fit: float
    """the least --max-fit that these trials can certify"""
    unprotected: Bought
    """without protection"""
    protected: Bought
    """for the budget"""
    removed_as_chosen: float
    """what the trials that chose would say"""
    best_removes_more: float | None
    """of the SDC-FIT, how much more than this choice any for the budget removes at most, as a fraction of what this
    one does, as the choosing half expects; null where this one removes nothing"""
    chosen: list[ChosenUnit]
    """those first that should remove most"""
    cheapest: ChosenUnit | None
    """of all that there are; null where no technique removes anything"""
    smallest: dict[str, Bought | None]
    """for so much less SDC-FIT; null where it can't be had"""
    pareto: list[BoughtFor]
    """for usual budgets"""
    curve: ProtectionCurve
    """all of it"""
    share_of_array_storage: float
    """that the units are"""
    checksum: ChecksumBeside | None
    """that the chip has too"""
    figure: str | None = None
    """path; only with --figure"""
