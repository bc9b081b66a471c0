"""Selective protection: which units of storage to protect for a budget, and what that buys, judged by trials that had
no say in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import ceil, floor, isfinite, log10
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.fit import Fit, RawFit, scientific, sdc_fit
from emulator.array.registers import inventory, register
from emulator.array.spec import ArraySpec
from emulator.campaign.results import Results
from emulator.errors import BadConfig, BadData
from emulator.harden.curve import Curve
from emulator.harden.expectation import expected
from emulator.harden.held_out import Remaining, Split, split
from emulator.harden.knapsack import Choice, Steps, choices, fill, first, steps_of
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
    """A unit that is protected. cost: in flip-flops (cycles); fit: its SDC-FIT without protection, by the trials that
    judge; expected_fit: what is removed of it as the choice expects, shrunk to what is known of units like it: units
    are taken in its order, it is no estimate of this one."""

    unit: dict[str, Any]
    technique: str
    effect: str
    bits: int
    cost: float
    fit: Fit
    expected_fit: float

    def to_json(self) -> dict[str, Any]:
        """FIT as value, low, high."""
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "fit": self.fit._asdict()}


class Events(NamedTuple):
    """Trials that matter, and steps of the units that they struck. trial, unit (events,): unit is a number among those
    struck; step, of, gain (steps,): the place of each among all, that unit, and what the step removes of it."""

    trial: Ints
    unit: Ints
    step: Ints
    of: Ints
    gain: Floats

    def left(self, choice: Choice) -> Floats:
        """(events,) the fraction that is left of each."""
        taken = choice.has(self.step)
        return _left(self.of[taken], self.gain[taken], int(self.unit.max()) + 1)[self.unit]


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
        """What is left against what it costs, for the budgets that are tried."""
        return self.curve_through(())

    def curve_through(self, budgets: Sequence[float]) -> Curve:
        """The same, with these budgets among them, shares of the size."""
        found = [*self._choices, *map(self._choice, budgets)]
        found.sort(key=lambda choice: choice.cost)
        return Curve(
            share=np.array([choice.cost for choice in found]) / self.size,
            removed=self._removed(found, self.trials.judging),
            optimistic=self._removed(found, self.trials.choosing),
        )

    @cached_property
    def unprotected(self) -> Bought:
        """Without any."""
        return self._bought(first(self.steps, 0))

    def within(self, budget: float) -> Bought:
        """The best for `budget`, a share of the size of all units."""
        return self._bought(self._choice(budget))

    def smallest(self, target: float) -> Bought | None:
        """The cheapest of the budgets tried of which the trials that judge say that it removes `target` of the SDC-FIT;
        None: none does.

        It is they that choose where to stop, so no bound is certified here: that of `within(share)` holds for a share
        that was named before looking.
        """
        point = self.curve.smallest(target)
        if point is None:
            return None
        return self.within(float(self.curve.share[point]))._replace(at_most=None, at_most_fit=None)

    def certified(self, max_fit: float) -> Bought:
        """The least of the budgets tried of which it is certified that an SDC-FIT of `max_fit` at most is left: that is
        its bound.

        The choosing half has fixed what is bought for each of a grid of budgets (`choices`). The judging half tests
        "more than max_fit is left" of one after the other, from everything down, each at 5 %, and stops at the first
        that it can't reject. To end at a false one, the first false one would have to be rejected, which has a
        probability of 5 % at most: fixed-sequence testing, which needs no correction for all that were tried, nor that
        what is left falls along them. Bauer, Statistics in Medicine 10(6), 1991; Angelopoulos, Bates, Candes, Jordan &
        Lei, "Learn then Test", arXiv 2110.01052, 2021.

        Raises BadConfig for what is no finite number of at least 0, and BadData where no trials could certify it: all
        leaves more, or only all is certified, which leaves nothing by construction.
        """
        if not (isfinite(max_fit) and max_fit >= 0):
            raise BadConfig(f"at most {max_fit} FIT; allowed: a finite number of FIT, 0 or more.")
        passed = None
        for choice in self._choices:
            if self._bound(choice) > max_fit:
                break
            passed = choice
        if passed is None or self._leaves_nothing(passed):
            raise BadData(self._uncertain(max_fit))
        return self._bought(passed)._replace(at_most=max_fit / self._raw_fit, at_most_fit=max_fit)

    def _uncertain(self, max_fit: float) -> str:
        whole = self._bought(self._choices[0])
        share = f"{100 * whole.share:.3g} % of {'cycles' if self.units.in_time else 'area'}"
        budget = f": --budget {budget_of(whole.share)}" if whole.share <= 1 else ""
        nothing = f" (Protecting every unit, {share}, leaves nothing by construction{budget}.)"
        return (
            f"at most {max_fit:g} FIT can't be certified: the {int(self.trials.judging.sum()):,} trials that judge can "
            f"certify {scientific(self.least_bound_fit)} FIT at best; allowed: this or more. Run more trials, or allow "
            f"more FIT.{nothing if self._leaves_nothing(self._choices[0]) else ''}"
        )

    @cached_property
    def least_bound_fit(self) -> float:
        """The least SDC-FIT that `certified` takes: the bound of the most that does not leave nothing by
        construction."""
        return next(self._bound(choice) for choice in self._choices if not self._leaves_nothing(choice))

    def cheapest(self) -> Chosen | None:
        """The unit that is protected for the least, whatever it is worth; None: no technique removes anything."""
        own = np.flatnonzero(self.steps.before < 0)
        if not len(own):
            return None
        least = own[np.argmin(self.steps.cost[own])]
        return self._chosen(np.array([least]))[0]

    def more(self, budget: float) -> float:
        """How much more than this choice the best one for the budget removes at most, as the trials that chose expect;
        inf where this one removes nothing."""
        return self._choice(budget).more

    def optimistic(self, budget: float) -> float:
        """The share removed, as the trials that chose would have it: too good."""
        return float(self._removed([self._choice(budget)], self.trials.choosing)[0])

    def chosen(self, budget: float) -> list[Chosen]:
        """The units that are protected, those first that are expected to remove most."""
        return self._chosen(self._taken(self._choice(budget)))

    def to_json(self, budget: float, bought: Bought) -> dict[str, Any]:
        """What `emulator protect --json` prints of what was bought for a budget."""
        smallest = {f"{100 * target:g} %": self.smallest(target) for target in TARGETS}
        return {
            "by": self.units.by,
            "budget": budget,
            "units": len(self.units),
            "size": self.size,
            "raw_fit": self.raw.to_json(),
            "choosing_trials": int(self.trials.choosing.sum()),
            "judging_trials": int(self.trials.judging.sum()),
            "least_bound_fit": self.least_bound_fit,
            "unprotected": self.unprotected.to_json(),
            "protected": bought.to_json(),
            "removed_as_chosen": self.optimistic(budget),
            "best_removes_more": self.more(budget),
            "chosen": [unit.to_json() for unit in self.chosen(budget)],
            "cheapest": (least := self.cheapest()) and least.to_json(),
            "smallest": {name: found and found.to_json() for name, found in smallest.items()},
            "pareto": [{"budget": share, **self.within(share).to_json()} for share in SHARES],
            "curve": self.curve.to_json(),
        }

    # ---- inside

    @property
    def _raw_fit(self) -> float:
        """FIT of all bits if every upset counted at the highest rate."""
        return sdc_fit(self.raw_bits, self.fit_per_mbit, (1.0, 1.0, 1.0)).value

    @cached_property
    def _choices(self) -> list[Choice]:
        """What is bought for the budgets that are tried, everything first."""
        return choices(self.steps)

    def _choice(self, budget: float) -> Choice:
        return fill(self.steps, budget * self.size)

    def _taken(self, choice: Choice) -> Ints:
        """The steps, in their order."""
        return np.append(np.arange(choice.whole), choice.more_steps)

    @cached_property
    def _events(self) -> Events:
        trial = np.flatnonzero(self.amount > 0)
        struck, unit = np.unique(self.units.of[trial], return_inverse=True)
        step = np.flatnonzero(np.isin(self.steps.unit, struck))
        of = np.searchsorted(struck, self.steps.unit[step])
        return Events(trial, unit.reshape(-1), step, of, self.steps.gain[step])

    def _removed(self, found: Iterable[Choice], half: Bools) -> Floats:
        """(choices,) the share that each removes, as these trials say."""
        trial = self._events.trial
        weighed = self.trials.weight[trial] * self.amount[trial] * half[trial]
        gone = [float((weighed * (1 - self._events.left(choice))).sum()) for choice in found]
        return np.array(gone) / float(weighed.sum())

    def _bought(self, choice: Choice) -> Bought:
        taken = self._taken(choice)
        left = _left(self.steps.unit[taken], self.steps.gain[taken], len(self.units))
        judging = self.trials.judging
        judge, of = self.trials.judge, self.units.of[judging]
        whole, still = self.amount[judging], left[of]
        residual, at_most = self._residual(choice)
        if not len(taken):
            removed = Estimate.exact(0.0)
        elif residual.method == "exact":
            removed = Estimate.exact(1.0)
        else:
            removed = judge.share(whole * (1 - still), whole)
        found = self._found(taken)
        due = judge.rate(self.upset[judging] * found[of]).rate.scaled(self.live_share)
        # Where nothing detects that is no estimate.
        due = due if found.any() else Estimate.exact(0.0)
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

    def _chosen(self, taken: Ints) -> list[Chosen]:
        # The last step of a unit is what it ends with.
        last = dict(zip(self.steps.unit[taken].tolist(), self.steps.technique[taken].tolist(), strict=True))
        cost, value = (
            np.bincount(self.steps.unit[taken], column[taken], len(self.units))
            for column in (self.steps.cost, self.steps.value)
        )
        expected_fit = value / self.trials.choosing.sum() * self._raw_fit * self.live_share
        names = list(self.techniques)
        bits = self.units.bits
        return [
            Chosen(
                unit=self.units.name(unit),
                technique=names[last[unit]],
                effect=self.techniques[names[last[unit]]].effect,
                bits=int(bits[unit]),
                cost=float(cost[unit]),
                fit=self._fit(self._of_units[unit].scaled(self.live_share)),
                expected_fit=float(expected_fit[unit]),
            )
            for unit in sorted(last, key=lambda u: (-expected_fit[u], u))
        ]

    @cached_property
    def _of_units(self) -> list[Estimate]:
        """The rate over live sites that each unit adds."""
        judging = self.trials.judging
        return self.trials.judge.of_units(self.amount[judging], self.units.of[judging], len(self.units))

    def _leaves_nothing(self, choice: Choice) -> bool:
        """By construction, whatever the trials: of no unit with sites that count anything is left."""
        return choice.whole == len(self.steps) and self._all_can_go

    @cached_property
    def _all_can_go(self) -> bool:
        left = _left(self.steps.unit, self.steps.gain, len(self.units))
        return not left[self.units.exposure > 0].any()

    def _residual(self, choice: Choice) -> Remaining:
        """Over all sites."""
        if self._leaves_nothing(choice):
            return Remaining(Estimate.exact(0.0), 0.0)
        amount = self.amount.copy()
        amount[self._events.trial] *= self._events.left(choice)
        rate, at_most = self.trials.judge.rate(amount[self.trials.judging])
        return Remaining(rate.scaled(self.live_share), at_most * self.live_share)

    def _bound(self, choice: Choice) -> float:
        """The certified SDC-FIT that it leaves."""
        return self._residual(choice).at_most * self._raw_fit

    def _found(self, taken: Ints) -> Floats:
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


def _left(unit: Ints, gain: Floats, units: int) -> Floats:
    """(units,) the fraction of each unit's rate that is left after steps (steps,) of these units."""
    gone = np.bincount(unit, gain, units)
    # Sums of gains are exact up to rounding.
    return np.where(gone > 1 - 1e-9, 0.0, 1 - gone)


def budget_of(share: float) -> str:
    """As --budget takes it, no less than the share."""
    percent = 100 * share
    digits = 5 - floor(log10(percent)) if percent > 0 else 0
    return f"{ceil(percent * 10**digits * (1 - 1e-12)) / 10**digits:.6g}%"


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
    rate, bits, highest = _rates(results, raw)
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
        raw_bits=bits,
        fit_per_mbit=highest,
    )


def _rates(results: Results, raw: RawFit) -> tuple[dict[str, float], int, float]:
    """The raw rate of each register over the highest; all bits; the highest, in FIT per Mbit."""
    array = ArraySpec(**results.manifest["array"])
    entries = [register(array, name) for name in results.manifest["registers"]]
    rate = {entry.name: raw.fit_per_mbit(entry.name, entry.storage) for entry in entries}
    highest = max(rate.values())
    if highest == 0:
        raise BadConfig("raw FIT: 0 of every register; allowed: one above 0, or there is nothing to protect.")
    relative = {name: value / highest for name, value in rate.items()}
    return relative, sum(entry.total_bits for entry in entries), highest


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
