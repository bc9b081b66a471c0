"""What checksums would have made of a campaign: its trials struck again, each with its verdict, and the rates that
follow.

With **detection** only, whatever is seen is a DUE: the result is thrown away. With **correction** only what can't be
corrected is one; what is missed, and what is miscorrected, is propagated as it is. Rates are over the live sites of
the unprotected network, with the campaign's own weights and intervals. Where more than accumulators is wrong
(`drain_block` also chooses the scale) the checksums are those of the words that are drained; what a corrector takes
for mended counts as miscorrected, and as wrong as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.array.registers import inventory
from emulator.campaign.looking_back import past_of_results
from emulator.campaign.replay import reopened
from emulator.campaign.results import Results
from emulator.campaign.trial import judge_strikes
from emulator.errors import BadConfig
from emulator.faults.fault import FaultBatch
from emulator.faults.salvo import Salvo
from emulator.faults.strike import strike_by_cycles
from emulator.faults.strikes import Strikes, in_order, strikes_of
from emulator.harden.checksum import Check
from emulator.harden.syndrome import Verdict, checked, shapes_of
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import ratio
from emulator.sampling.workbench import Workbench

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

BEHIND_THE_SUMS = ("requant_acc",)
"""Registers that the drain has passed when they are struck, whose errors are written as those of accumulators."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coverage:
    """A campaign with its layers checked by `check`. verdict (trials,): codes of Verdict, with a corrector;
    sdc1_left (trials,): is the answer wrong, and nobody knows, with a corrector?"""

    results: Results
    check: Check
    verdict: npt.NDArray[np.int8] = field(repr=False)
    sdc1_left: Flags = field(repr=False)

    @property
    def events(self) -> dict[str, Flags]:
        """(trials,) each: what is asked about a fault in a live site. `due` and `sdc1` are those without checksums."""
        is_ = {verdict: self.verdict == verdict for verdict in Verdict}
        seen = is_[Verdict.DETECTED] | is_[Verdict.CORRECTED] | is_[Verdict.MISCORRECTED]
        sdc1 = self.results.column("sdc1")
        return {
            "wrong": ~is_[Verdict.CLEAN],
            "detected": seen,
            "missed": is_[Verdict.MISSED],
            "corrected": is_[Verdict.CORRECTED],
            "miscorrected": is_[Verdict.MISCORRECTED],
            "sdc1": sdc1,
            "sdc1_with_detection": sdc1 & ~seen,
            "sdc1_with_correction": self.sdc1_left,
            "due": is_[Verdict.HANG],
            "due_with_detection": is_[Verdict.HANG] | seen,
            "due_with_correction": is_[Verdict.HANG] | is_[Verdict.DETECTED],
        }

    def rates(self) -> dict[str, Estimate]:
        """P(event) for a fault in a live site, by the names of `events`."""
        return {name: self.results.rate_of(event) for name, event in self.events.items()}

    def rates_by(self, key: str = "register") -> dict[str, dict[str, Estimate]]:
        """The same of each group that has trials, in network order; key: as in `Results.by`."""
        found: dict[str, dict[str, Estimate]] = {}
        for name, event in self.events.items():
            for group, estimate in self.results.rates_of(key, event).items():
                found.setdefault(str(group[0]), {})[name] = estimate
        return found

    def share(self, event: str, given: str) -> Estimate | None:
        """Of the faults of which `given` holds, the share of which `event` does too; None where there are none.
        Names are those of `events`; share("detected", "sdc1") is the coverage of critical faults."""
        chosen = self.events[given]
        if not chosen.any():
            return None
        weight = self.results.weight[chosen]
        return ratio(self.events[event][chosen], weight, max_weight=self.results.max_weight)

    def to_json(self) -> dict[str, Any]:
        """Plain types: check, trials, rates, by_register; of_wrong and of_critical: of the faults that spoil a
        layer, and that change the answer, the shares that are seen and corrected."""
        return {
            "check": self.check,
            "trials": len(self.verdict),
            "rates": _plain(self.rates()),
            "by_register": {group: _plain(rates) for group, rates in self.rates_by("register").items()},
            "of_wrong": self._shares("wrong"),
            "of_critical": self._shares("sdc1"),
        }

    def _shares(self, given: str) -> dict[str, Any]:
        shares = {event: self.share(event, given) for event in ("detected", "corrected", "miscorrected")}
        return {event: None if share is None else share.to_json() for event, share in shares.items()}


def coverage(
    results: Results, check: Check = "both", *, model: Path | None = None, inputs: Path | None = None
) -> Coverage:
    """Every trial of a campaign under checksums. model, inputs: where they are now, None: as recorded.

    Raises BadConfig for a campaign that counts sites by classes, BadData where model or data have changed.
    """
    return coverage_of(results, reopened_for(results, model=model, inputs=inputs), check)


def reopened_for(results: Results, *, model: Path | None = None, inputs: Path | None = None) -> Workbench:
    """What the trials of a campaign are struck on again; arguments and errors are those of `coverage`."""
    if results.counted:
        raise BadConfig(
            f"checksums on a campaign with the sampler {results.sampler!r}: a row is a class of sites that store the "
            "same, while their errors, and so their checksums, differ; allowed: a campaign that draws faults one by "
            "one. Run it with the sampler uniform or importance."
        )
    return reopened(results.manifest, model=model, inputs=inputs)


def coverage_of(results: Results, bench: Workbench, check: Check) -> Coverage:
    """`coverage` of a drawn campaign on its workbench, which serves several checks."""
    past = past_of_results(results, bench.array)
    layers = [layer.shape for layer in bench.network.graph.layers]
    behind = [entry.code for entry in inventory(bench.array) if entry.name in BEHIND_THE_SUMS]
    verdict, sdc1_left = np.zeros(len(past.image), np.int8), results.column("sdc1").copy()
    salvo = Salvo(bench.golden, bench.array, past.faults, past.image)
    for volley in salvo.volleys:
        faults = past.faults[volley.place]
        strikes = salvo.strike(bench.inference(volley.image), volley)
        beyond = np.isin(faults.register, behind)
        drained = _drained(bench, volley.image, faults, strikes)
        found = checked(drained, shapes_of(layers, faults.layer), check, beyond=beyond)
        verdict[volley.place] = np.where(strikes.at_output, _MORE_IS_WRONG[found.verdict], found.verdict)
        sdc1_left[volley.place[found.seen & (verdict[volley.place] != Verdict.MISCORRECTED)]] = False
        wrong = np.flatnonzero((found.verdict == Verdict.MISCORRECTED) & ~strikes.at_output)
        sdc1_left[volley.place[wrong]] = _sdc1(
            bench, volley.image, faults.layer[wrong], strikes_of(found.left, wrong)
        )
    return Coverage(results=results, check=check, verdict=verdict, sdc1_left=sdc1_left)


# What becomes of a verdict where accumulators are not all that is wrong, by its code.
_MORE_IS_WRONG = np.arange(len(Verdict), dtype=np.int8)
_MORE_IS_WRONG[[Verdict.CLEAN, Verdict.CORRECTED]] = Verdict.MISSED, Verdict.MISCORRECTED


def _drained(bench: Workbench, image: int, faults: FaultBatch, strikes: Strikes) -> Strikes:
    """The same, with the errors of drained accumulators also where those of requantised words were told."""
    more, others = np.flatnonzero(strikes.at_output), np.flatnonzero(~strikes.at_output)
    parts = [
        strike_by_cycles(bench.golden, bench.inference(image), bench.array, layer, [(upset,)], drained=True)
        for layer, upset in zip(faults.layer[more].tolist(), faults[more].upsets(bench.array), strict=True)
    ]
    whole = [strikes_of(strikes, others), *parts]
    return in_order(whole, np.concatenate((others, more)), len(faults))


def _sdc1(bench: Workbench, image: int, layer: Ints, strikes: Strikes) -> Flags:
    if not len(layer):
        return np.zeros(0, np.bool_)
    sdc1: Flags = judge_strikes(bench, image, layer, strikes)["sdc1"]
    return sdc1


def _plain(rates: dict[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in rates.items()}
