"""From a campaign to what protection of its registers can buy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emulator.array.fit import RawFit
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.campaign.fit_by_group import raw_rates
from emulator.campaign.results import Results
from emulator.errors import BadConfig, BadData
from emulator.harden.expectation import expected
from emulator.harden.held_out import Split, split
from emulator.harden.knapsack import steps_of
from emulator.harden.protection import Protection
from emulator.harden.techniques import Techniques, read_techniques
from emulator.harden.units import units_of

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def protect(
    results: Results,
    *,
    by: str = "register-bit",
    techniques: Techniques | None = None,
    only: Sequence[str] | None = None,
    raw: RawFit | None = None,
    sdc1: Bools | None = None,
) -> Protection:
    """What protection of a campaign's registers by such units can buy. only: names of techniques, None: all that fit.
    sdc1 (trials,): those that change the answer, None: as the campaign found; on a chip that has checksums too they are
    `Coverage.sdc1_left`.

    Raises BadConfig for unknown names and for campaigns that can't tell the units apart, and BadData where too few
    trials changed the answer to choose by some and to judge by others.
    """
    import pandas as pd

    table = techniques or read_techniques()
    raw = raw or RawFit()
    rate, highest = _relative(results, raw)
    units = units_of(results, by, rate)
    suited = table.suited(units, only)
    trials = split(results)
    upset = np.asarray(pd.Series(results.column("register")).map(rate), np.float64)
    amount = upset * (results.column("sdc1") if sdc1 is None else _checked(sdc1, results))
    _check_events(amount, trials)
    some = trials.choosing
    worth = expected(
        trials.weight[some],
        amount[some],
        units.of[some],
        units.exposure,
        units.exposed,
        units.struck,
        upset[some],
    )
    gain = np.array([1 - technique.residual for technique in suited.values()])
    return Protection(
        units=units,
        techniques=suited,
        size=table.size(units),
        steps=steps_of(worth, table.costs(units, suited), gain),
        trials=trials,
        amount=amount,
        upset=upset,
        live_share=results.live_share,
        raw=raw,
        raw_bits=results.register_bits,
        fit_per_mbit=highest,
    )


def _relative(results: Results, raw: RawFit) -> tuple[dict[str, float], float]:
    """The raw rate of each register over the highest, and that, in FIT per Mbit."""
    rates = raw_rates(results, raw)
    highest = max(rates.values())
    if highest == 0:
        raise BadConfig("raw FIT: 0 of every register; allowed: one above 0, or there is nothing to protect.")
    return {name: rate / highest for name, rate in rates.items()}, highest


def storage_share(results: Results, techniques: Techniques) -> float:
    """How much of the area of all storage of the array the registers of a campaign are."""
    array = ArraySpec(**results.manifest["array"])
    area = {
        e.name: e.total_bits * (techniques.cells.sram if e.storage == "sram" else techniques.cells.flip_flop)
        for e in inventory(array)
    }
    return sum(area[name] for name in results.manifest["registers"]) / sum(area.values())


def _checked(sdc1: Bools, results: Results) -> Bools:
    """Flags of the caller's, one a trial."""
    if sdc1.shape != (len(results),) or sdc1.dtype != bool:
        raise BadData(
            f"sdc1 of shape {sdc1.shape}, {sdc1.dtype}; allowed: one bool a trial, ({len(results)},)."
        )
    if not sdc1.any() and results.column("sdc1").any():
        raise BadData(
            f"none of {len(results)} trials changes the answer any more: nothing is left to protect, or to bound by a "
            "second half. Run more trials, or protect what others do not correct."
        )
    return sdc1


def _check_events(amount: Floats, trials: Split) -> None:
    chose, judged = (int((amount[some] > 0).sum()) for some in (trials.choosing, trials.judging))
    if not (chose and judged):
        raise BadData(
            f"{chose} of the trials that choose and {judged} of those that judge changed the answer (SDC-1) at a rate "
            "above 0; allowed: 1 or more of each. Run more trials."
        )
