"""Selective protection: which units of storage to protect for a budget, and what that buys, judged by trials that had
no say in it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.fit import Fit, RawFit, scientific, sdc_fit
from emulator.array.registers import inventory, register
from emulator.array.spec import ArraySpec
from emulator.campaign.results import Results
from emulator.errors import BadConfig, BadData
from emulator.harden.curve import Curve, curve_of
from emulator.harden.expectation import expected
from emulator.harden.held_out import Remaining, Split, split
from emulator.harden.knapsack import Steps, fill, steps_of
from emulator.harden.techniques import Technique, Techniques, read_techniques
from emulator.harden.units import Units, units_of
from emulator.sampling.estimate import Estimate

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TARGETS = (0.5, 0.9, 0.99)
SHARES = (0.01, 0.05, 0.1, 0.25)


class Bought(NamedTuple):
    """What some protection costs and leaves. share: of the size of all units; units, bits (cycles): protected; removed:
    the share of the SDC-FIT; residual: the SDC-1 rate over all sites that is left, at_most: its certified bound, None
    where the trials that judge chose it too; due: the rate over all sites of upsets in live ones that are detected
    instead, harmless ones among them."""

    share: float
    units: int
    bits: int
    removed: Estimate
    residual: Estimate
    fit: Fit
    at_most: float | None
    at_most_fit: float | None
    due: Estimate
    due_fit: Fit

    def to_json(self) -> dict[str, Any]:
        """Estimates as in every other command; FIT as value, low, high."""
        return {
            name: value.to_json()
            if isinstance(value, Estimate)
            else value._asdict()
            if isinstance(value, Fit)
            else value
            for name, value in self._asdict().items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A unit that is protected. cost: in flip-flops (cycles); fit: SDC-FIT removed, as expected by the choice."""

    unit: dict[str, Any]
    technique: str
    effect: str
    bits: int
    cost: float
    fit: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Protection:
    """All that can be bought for one campaign, one kind of units and a table of techniques.

    A rate is that of SDC-1 over all sites, each weighed by its raw upset rate over the highest of all.
    """

    units: Units
    techniques: dict[str, Technique]
    size: float
    steps: Steps
    trials: Split = field(repr=False)
    amount: Floats = field(repr=False)
    upset: Floats = field(repr=False)
    live_share: float
    raw: RawFit
    raw_bits: int
    fit_per_mbit: float

    @cached_property
    def curve(self) -> Curve:
        """What is left against what it costs."""
        weighed = self.trials.weight * self.amount
        sums = [
            np.bincount(self.units.of[some], weighed[some], len(self.units)).astype(np.float64)
            for some in (self.trials.judging, self.trials.choosing)
        ]
        return curve_of(self.steps, self.size, *sums)

    @cached_property
    def unprotected(self) -> Bought:
        """Without any."""
        return self._bought(np.zeros(len(self.steps), bool))

    def within(self, budget: float) -> Bought:
        """The best for `budget`, a share of the size of all units."""
        return self._bought(self._taken(budget))

    def smallest(self, target: float) -> Bought | None:
        """The cheapest of which the trials that judge say that it removes `target` of the SDC-FIT; None: nothing does.

        It is they that choose where to stop, so no bound is certified here: that of `within(share)` holds for a share
        that was named before looking.
        """
        count = self.curve.smallest(target)
        if count is None:
            return None
        return self._bought(self._first(count))._replace(at_most=None, at_most_fit=None)

    def certified(self, max_fit: float) -> Bought:
        """The cheapest of which it is certified that an SDC-FIT of `max_fit` at most is left: that is its bound, or 0.

        The steps are a sequence that the choosing half has fixed, and what is left falls along it, as does its bound.
        The last prefix of which more than `max_fit` is left is a fixed one; to stop there, or before, its own bound
        would have to be too low, which has a probability of 5 % at most: so no correction is needed for all the
        prefixes looked at. Bates, Angelopoulos, Lei, Malik & Jordan, "Distribution-Free, Risk-Controlling Prediction
        Sets", J. ACM 68(6), 2021, theorem 1.

        Raises BadConfig for what is no finite number of at least 0, and BadData where all steps together leave more.
        """
        if not (isfinite(max_fit) and max_fit >= 0):
            raise BadConfig(f"at most {max_fit} FIT; allowed: a finite number of FIT, 0 or more.")
        every = len(self.steps)
        # The bounds fall, so halving finds what going back from all steps one by one would.
        count = bisect_left(range(every + 1), True, key=lambda count: self._bound(count) <= max_fit)
        if count > every:
            raise BadData(
                f"SDC-FIT of at most {max_fit:g}: the least that can be certified is {scientific(self._bound(every))} "
                f"FIT, with all {len(self.units):,} units protected; allowed: this or more. Run more trials, which "
                "lowers it, or allow techniques that leave less of what they protect."
            )
        bought = self._bought(self._first(count))
        if bought.residual.method == "exact":
            return bought
        return bought._replace(at_most=max_fit / self._raw_fit, at_most_fit=max_fit)

    @cached_property
    def least_bound_fit(self) -> float:
        """The certified SDC-FIT where no trial that judges is left: below it only what is left by construction is
        known, such as nothing of all units."""
        nothing = self.trials.judge.rate(np.zeros(int(self.trials.judging.sum())))
        return nothing.at_most * self.live_share * self._raw_fit

    def cheapest(self) -> Chosen | None:
        """The unit that is protected for the least, whatever it is worth; None: no technique removes anything."""
        first = np.unique(self.steps.unit, return_index=True)[1]
        if not len(first):
            return None
        least = first[np.argmin(self.steps.cost[first])]
        return self._chosen(np.arange(len(self.steps)) == least)[0]

    def more(self, budget: float) -> float:
        """How much more than this choice the best one for the budget removes at most, as the trials that chose expect;
        inf where this one removes nothing."""
        return fill(self.steps, budget * self.size).more

    def optimistic(self, budget: float) -> float:
        """The share removed, as the trials that chose would have it: too good."""
        chose = self.trials.weight * self.amount * self.trials.choosing
        left = self._left(self._taken(budget))
        return float(1 - (chose * left[self.units.of]).sum() / chose.sum())

    def chosen(self, budget: float) -> list[Chosen]:
        """The units that are protected, those first that remove most."""
        return self._chosen(self._taken(budget))

    def to_json(self, budget: float, bought: Bought) -> dict[str, Any]:
        """What `emulator protect --json` prints of what was bought for a budget."""
        smallest = {f"{100 * target:g} %": self.smallest(target) for target in TARGETS}
        return {
            "by": self.units.by,
            "budget": budget,
            "units": len(self.units),
            "size": self.size,
            "raw_fit": {**asdict(self.raw), "by_register": dict(self.raw.by_register)},
            "choosing_trials": int(self.trials.choosing.sum()),
            "judging_trials": int(self.trials.judging.sum()),
            "least_bound_fit": self.least_bound_fit,
            "unprotected": self.unprotected.to_json(),
            "protected": bought.to_json(),
            "removed_as_chosen": self.optimistic(budget),
            "best_removes_more": self.more(budget),
            "chosen": [asdict(unit) for unit in self.chosen(budget)],
            "cheapest": (least := self.cheapest()) and asdict(least),
            "smallest": {name: found and found.to_json() for name, found in smallest.items()},
            "pareto": [{"budget": share, **self.within(share).to_json()} for share in SHARES],
            "curve": self.curve.to_json(),
        }

    # ---- inside

    @property
    def _raw_fit(self) -> float:
        """FIT of all bits if every upset counted at the highest rate."""
        return sdc_fit(self.raw_bits, self.fit_per_mbit, (1.0, 1.0, 1.0)).value

    def _taken(self, budget: float) -> Bools:
        return fill(self.steps, budget * self.size).taken

    def _first(self, count: int) -> Bools:
        return np.arange(len(self.steps)) < count

    def _left(self, taken: Bools) -> Floats:
        """(units,) the fraction of each unit's rate that is left."""
        gone = np.bincount(self.steps.unit[taken], self.steps.gain[taken], len(self.units))
        # Sums of gains are exact up to rounding.
        return np.where(gone > 1 - 1e-9, 0.0, 1 - gone)

    def _bought(self, taken: Bools) -> Bought:
        left = self._left(taken)
        judging = self.trials.judging
        judge, of = self.trials.judge, self.units.of[judging]
        whole, still = self.amount[judging], left[of]
        residual, at_most = self._residual(left)
        if not taken.any():
            removed = Estimate.exact(0.0)
        elif residual.method == "exact":
            removed = Estimate.exact(1.0)
        else:
            removed = judge.share(whole * (1 - still), whole)
        due = judge.rate(self.upset[judging] * self._found(taken)[of]).rate.scaled(self.live_share)
        protected = left < 1
        return Bought(
            share=float(self.steps.cost[taken].sum()) / self.size,
            units=int(protected.sum()),
            bits=int(self.units.bits[protected].sum()),
            removed=removed,
            residual=residual,
            fit=self._fit(residual),
            at_most=at_most,
            at_most_fit=at_most * self._raw_fit,
            due=due,
            due_fit=self._fit(due),
        )

    def _chosen(self, mask: Bools) -> list[Chosen]:
        taken = np.flatnonzero(mask)
        # The last step of a unit is what it ends with.
        last = dict(zip(self.steps.unit[taken].tolist(), self.steps.technique[taken].tolist(), strict=True))
        cost, value = (
            np.bincount(self.steps.unit[taken], column[taken], len(self.units))
            for column in (self.steps.cost, self.steps.value)
        )
        fit = value / self.trials.choosing.sum() * self._raw_fit * self.live_share
        names = list(self.techniques)
        bits = self.units.bits
        return [
            Chosen(
                unit=self.units.name(unit),
                technique=names[last[unit]],
                effect=self.techniques[names[last[unit]]].effect,
                bits=int(bits[unit]),
                cost=float(cost[unit]),
                fit=float(fit[unit]),
            )
            for unit in sorted(last, key=lambda u: (-fit[u], u))
        ]

    def _residual(self, left: Floats) -> Remaining:
        """Over all sites, of left (units,)."""
        if not left[self.units.bits > 0].any():
            # By construction, whatever the trials.
            return Remaining(Estimate.exact(0.0), 0.0)
        judging = self.trials.judging
        rate, at_most = self.trials.judge.rate(self.amount[judging] * left[self.units.of[judging]])
        return Remaining(rate.scaled(self.live_share), at_most * self.live_share)

    def _bound(self, count: int) -> float:
        """The certified SDC-FIT after so many steps."""
        return self._residual(self._left(self._first(count))).at_most * self._raw_fit

    def _found(self, taken: Bools) -> Floats:
        """(units,) the fraction of upsets that is detected: that of the unit's last technique."""
        detected = np.array(
            [t.effect == "detected" and 1 - t.residual for t in self.techniques.values()], np.float64
        )
        found = np.zeros(len(self.units))
        # Of repeated indices the last assignment stays.
        found[self.steps.unit[taken]] = detected[self.steps.technique[taken]]
        return found

    def _fit(self, rate: Estimate) -> Fit:
        return sdc_fit(self.raw_bits, self.fit_per_mbit, (rate.value, rate.low, rate.high))


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
    table = techniques or read_techniques()
    units = units_of(results, by)
    suited = table.suited(units, only)
    trials = split(results)
    raw = raw or RawFit()
    upset, bits, highest = _upsets(results, raw)
    amount = upset * (results.column("sdc1") if sdc1 is None else _checked(sdc1, results))
    _check_events(amount, trials)
    some = trials.choosing
    worth = expected(
        trials.weight[some], amount[some], units.of[some], units.bits, units.exposed, units.struck
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
        raw_bits=bits,
        fit_per_mbit=highest,
    )


def _upsets(results: Results, raw: RawFit) -> tuple[Floats, int, float]:
    """(trials,) the raw rate of what each struck over the highest; all bits; the highest, in FIT per Mbit."""
    import pandas as pd

    array = ArraySpec(**results.manifest["array"])
    entries = [register(array, name) for name in results.manifest["registers"]]
    rate = {entry.name: raw.fit_per_mbit(entry.name, entry.storage) for entry in entries}
    highest = max(rate.values())
    if highest == 0:
        raise BadConfig("raw FIT: 0 of every register; allowed: one above 0, or there is nothing to protect.")
    relative = pd.Series(results.column("register")).map({n: value / highest for n, value in rate.items()})
    return np.asarray(relative, np.float64), sum(entry.total_bits for entry in entries), highest


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
