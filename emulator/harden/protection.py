"""Selective protection: which units of storage to protect for a budget, and what that buys, judged by trials that had
no say in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, floor, isfinite, log10
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.array.fit import Fit, RawFit, scientific, sdc_fit
from emulator.errors import BadConfig, BadData
from emulator.harden.bought import Bought, Chosen
from emulator.harden.curve import Curve
from emulator.harden.held_out import Remaining, Split
from emulator.harden.knapsack import Choice, Steps, choices, fill, first
from emulator.harden.techniques import Technique
from emulator.harden.units import Units
from emulator.harden.what_is_left import Events, left_after
from emulator.sampling.estimate import Estimate

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TARGETS = (0.5, 0.9, 0.99)
SHARES = (0.01, 0.05, 0.1, 0.25)


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
        left = left_after(self.steps.unit[taken], self.steps.gain[taken], len(self.units))
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
        left = left_after(self.steps.unit, self.steps.gain, len(self.units))
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


def budget_of(share: float) -> str:
    """As --budget takes it, no less than the share."""
    percent = 100 * share
    digits = 5 - floor(log10(percent)) if percent > 0 else 0
    return f"{ceil(percent * 10**digits * (1 - 1e-12)) / 10**digits:.6g}%"
