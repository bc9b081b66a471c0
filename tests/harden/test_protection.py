"""Protection against a known truth: what it promises is kept, and the trials that chose would promise too much."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from known_truth import ARRAY, Truth
from matplotlib.collections import PathCollection

from emulator.array.fit import RawFit
from emulator.array.registers import register
from emulator.campaign.results import Results
from emulator.campaign.runner import Campaign
from emulator.errors import BadConfig, BadData
from emulator.faults.space import FaultSpace
from emulator.harden.pareto import pareto_curve
from emulator.harden.protection import Protection, protect
from emulator.sampling.exhaustive import Exhaustive

BUDGET = 0.3


def really_left(known: Truth, found: Protection, budget: float) -> float:
    """The true residual rate over live sites of what was chosen."""
    entry = register(ARRAY, known.name)
    row, col, bit = entry.place(np.arange(entry.total_bits))
    left = np.ones(entry.total_bits)
    for unit in found.chosen(budget):
        at = unit.unit
        inside = (row == at["row"]) & (col == at["col"]) & (bit == at["bit"])
        left[inside] = found.techniques[unit.technique].residual
    return float((known.rate * left).mean())


def test_the_bound_holds_and_those_that_chose_are_too_good(truth: Callable[..., Truth]) -> None:
    """200 campaigns of 600 trials over 1,280 bits; hardened cells, so a fraction of each protected bit is left."""
    known = truth()
    whole = known.rate.mean()
    runs = 200
    covered, removed, optimistic, real = 0, [], [], []
    for seed in range(runs):
        found = protect(known.campaign(seed, 600), by="bit", only=["hardened"])
        left, bought = really_left(known, found, BUDGET), found.within(BUDGET)
        covered += left * found.live_share <= bought.at_most
        real.append(1 - left / whole)
        removed.append(bought.removed.value)
        optimistic.append(found.optimistic(BUDGET))
    error = np.std(removed) / np.sqrt(runs)
    print(f"covered {covered}/{runs}, removed {np.mean(real):.3f}, held out {np.mean(removed):.3f}")
    assert covered >= 0.95 * runs
    # Chosen by hits, these look far better to the trials that chose.
    assert np.mean(optimistic) > np.mean(real) + 0.1
    assert abs(np.mean(removed) - np.mean(real)) < 4 * error


def test_a_limit_in_fit_holds_though_many_prefixes_were_looked_at(truth: Callable[..., Truth]) -> None:
    """400 campaigns of 3,000 trials: what is truly left after the prefix that was stopped at is above the limit in 5 %
    of them at most; stopping by the estimate is wrong far more often."""
    known = truth()
    runs, broken, by_estimate, spent = 400, 0, 0, []
    fit = register(ARRAY, known.name).total_bits * 20e-6 * 0.25
    for seed in range(runs):
        found = protect(known.campaign(seed, 3000), by="bit", only=["tmr"])
        limit = 0.6 * float(known.rate.mean()) * fit
        bought = found.certified(limit)
        assert bought.at_most_fit == limit >= bought.fit.value
        broken += really_left(known, found, bought.share) * fit > limit
        naive = found.smallest(1 - limit / found.unprotected.fit.value)
        assert naive is not None and naive.share <= bought.share
        by_estimate += really_left(known, found, naive.share) * fit > limit
        spent.append(bought.share)
    print(f"above the limit: {broken} of {runs}, by estimates {by_estimate}; spent {np.mean(spent):.2f}")
    assert broken <= 0.05 * runs
    assert by_estimate > 0.2 * runs
    # It was a choice: neither nothing nor everything.
    assert 0 < min(spent) < max(spent) < 2.77


@pytest.mark.parametrize("only", [["tmr"], ["hardened"], ["parity", "tmr"]])
def test_halving_finds_what_going_back_one_by_one_would(truth: Callable[..., Truth], only: list[str]) -> None:
    """The first prefix of which it, and every longer one, has a bound within the limit."""
    found = protect(truth().campaign(1, 1000), by="register-bit", only=only)
    share = np.concatenate(([0.0], np.cumsum(found.steps.cost))) / found.size
    bounds = [found.within(float(x)).at_most_fit for x in share]
    assert (np.diff(bounds) <= 0).all()
    for limit in (bounds[0] * 1.1, *np.quantile(bounds, [0.1, 0.5, 0.9]), bounds[-1] * 1.0001):
        within = [k for k in range(len(bounds)) if all(bound <= limit for bound in bounds[k:])]
        assert found.certified(float(limit)).share == pytest.approx(share[within[0]])


def test_a_limit_that_nothing_meets_names_the_least(truth: Callable[..., Truth]) -> None:
    found = protect(truth().campaign(0, 600), by="register-bit", only=["hardened"])
    least = found.within(10.0).at_most_fit
    with pytest.raises(BadData, match=f"the least that can be certified is {least:.2e} FIT"):
        found.certified(least * 0.99)
    assert found.certified(least * 1.01).at_most_fit == least * 1.01
    for limit in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadConfig, match="allowed: a finite number of FIT, 0 or more"):
            found.certified(limit)
    # By construction, whatever the trials: everything is safe, and nothing less is known to be.
    everything = protect(truth().campaign(0, 600), by="register-bit", only=["tmr"])
    assert everything.certified(0.0).at_most_fit == 0
    assert everything.certified(everything.least_bound_fit * 0.99).units == len(everything.units)


def test_what_the_trials_that_judge_have_chosen_is_not_certified(truth: Callable[..., Truth]) -> None:
    bought = protect(truth().campaign(3, 3000), by="register-bit", only=["tmr"]).smallest(0.9)
    assert bought is not None and (bought.at_most, bought.at_most_fit) == (None, None)


def test_the_cheapest_unit_is_told_where_nothing_fits(truth: Callable[..., Truth]) -> None:
    found = protect(truth().campaign(3, 3000), by="register-bit", only=["tmr"])
    least = found.cheapest()
    assert least is not None and least.cost == pytest.approx(found.units.bits.min() * 2.77)
    assert not found.within(0.99 * least.cost / found.size).units
    assert found.within(1.01 * least.cost / found.size).units == 1
    assert found.more(0.99 * least.cost / found.size) == np.inf


def test_the_trials_that_chose_see_less_left_than_there_is(truth: Callable[..., Truth]) -> None:
    """Their own estimate of the residual rate is below the truth in nearly every campaign."""
    known = truth()
    missed = 0
    for seed in range(60):
        found = protect(known.campaign(seed, 600), by="bit", only=["tmr"])
        chose, units = found.trials.choosing, found.units
        taken = np.zeros(len(units))
        for unit in found.chosen(0.6):
            at = unit.unit
            taken[int(register(ARRAY, "pe_b").index(*(np.array(at[k]) for k in ("row", "col", "bit"))))] = 1
        x = found.trials.weight * found.amount * chose * (1 - taken[units.of])
        missed += x[chose].mean() < really_left(known, found, 0.6)
    assert missed > 55


def test_fit_follows_the_raw_rate_and_the_population(truth: Callable[..., Truth]) -> None:
    known = truth()
    results = known.campaign(0, 2000)
    found = protect(results, by="bit", raw=RawFit(flip_flop_fit_per_mbit=100.0))
    bits = register(ARRAY, "pe_b").total_bits
    half = results.trials["trial_id"] >= 1000
    rate = (results.weight * results.trials["sdc1"])[half].mean() * results.live_share
    assert found.unprotected.fit.value == pytest.approx(bits * 100 / 1e6 * rate)
    assert found.unprotected.residual.value == pytest.approx(rate)


def test_everything_leaves_nothing_and_nothing_everything(truth: Callable[..., Truth]) -> None:
    found = protect(truth().campaign(0, 500), by="register-bit", only=["tmr"])
    everything = found.within(10.0)
    assert (everything.removed.method, everything.fit.value, everything.at_most_fit) == ("exact", 0, 0)
    assert everything.share == pytest.approx(2.77)
    assert found.within(1e-6).removed.value == 0
    assert found.within(1e-6).at_most >= found.unprotected.residual.value
    assert found.curve.removed[-1] == pytest.approx(1)


def test_bounds_and_units_are_in_the_fit_of_what_is_left(truth: Callable[..., Truth]) -> None:
    found = protect(truth().campaign(3, 3000), by="register-bit", only=["tmr"])
    bought = found.within(0.6)
    assert bought.at_most_fit / bought.at_most == pytest.approx(bought.fit.value / bought.residual.value)
    # What the trials that chose expect of each unit adds up to what they expect of the choice.
    removed = sum(unit.fit for unit in found.chosen(0.6))
    trials = found.trials
    chose = (trials.weight * found.amount)[trials.choosing].mean() * found.live_share
    scale = found.unprotected.fit.value / found.unprotected.residual.value
    assert removed > 0
    assert removed == pytest.approx(found.optimistic(0.6) * chose * scale, rel=0.1)


def test_the_smallest_share_is_where_the_curve_crosses(truth: Callable[..., Truth]) -> None:
    found = protect(truth().campaign(3, 3000), by="register-bit", only=["tmr"])
    for target in (0.5, 0.9, 0.99):
        bought = found.smallest(target)
        assert bought is not None and bought.removed.value >= target
        at = int(np.searchsorted(found.curve.share, bought.share * (1 - 1e-9)))
        assert found.curve.removed[at] == pytest.approx(bought.removed.value)
        assert found.curve.removed[at - 1] < target
    hardened = protect(truth().campaign(3, 3000), by="register-bit", only=["hardened"])
    assert hardened.smallest(0.99) is None


def test_what_parity_finds_is_a_due(truth: Callable[..., Truth]) -> None:
    """Every upset of a protected bit is found, also one that would have done no harm."""
    results = truth().campaign(0, 1000)
    parity = protect(results, by="register", only=["parity"]).within(10.0)
    assert parity.due.value == pytest.approx(results.live_share)
    assert 0.95 * results.live_share < parity.due.low < parity.due.value
    assert protect(results, by="register", only=["tmr"]).within(10.0).due.value == 0


def test_too_few_events_and_no_rates_are_refused(truth: Callable[..., Truth]) -> None:
    known = truth()
    with pytest.raises(BadData, match="Run more trials"):
        protect(Truth(name="pe_b", rate=0 * known.rate).campaign(0, 100))
    with pytest.raises(BadConfig, match="raw FIT: 0 of every register"):
        protect(known.campaign(0, 100), raw=RawFit(flip_flop_fit_per_mbit=0.0))


def test_flags_of_others_are_checked(truth: Callable[..., Truth]) -> None:
    results = truth().campaign(0, 1000)
    for wrong in (np.array([True]), np.ones(1000), np.zeros((1000, 1), bool)):
        with pytest.raises(BadData, match=r"allowed: one bool a trial, \(1000,\)"):
            protect(results, sdc1=wrong)
    with pytest.raises(BadData, match="nothing is left to protect"):
        protect(results, sdc1=np.zeros(1000, bool))


def test_what_others_correct_is_not_paid_for(truth: Callable[..., Truth]) -> None:
    """On a chip where something else takes care of the low bits only the rest counts."""
    results = truth().campaign(0, 1000)
    sdc1 = results.trials["sdc1"].to_numpy(bool)
    high = results.trials["bits"].to_numpy() >= 16
    assert 0 < (sdc1 & high).sum() < sdc1.sum()
    judging = results.trials["trial_id"].to_numpy() >= 500
    found = protect(results, by="bit", sdc1=sdc1 & high)
    want = (results.weight * (sdc1 & high))[judging].mean() * results.live_share
    assert found.unprotected.residual.value == pytest.approx(want)
    bits = {unit.unit["bit"] for unit in found.chosen(0.1) if unit.fit > 0}
    assert bits and min(bits) >= 4


@pytest.fixture(scope="module")
def judged(digits: object, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Every site of three registers in the last layer of the digits network, on two images."""
    space = FaultSpace(digits.network, digits.array, registers=["pe_b", "pe_a", "accumulator"], layers=["fc"])
    campaign = Campaign(
        digits.network, digits.array, space, inputs=digits.inputs[:2], sampler=Exhaustive(), seed=0
    )
    return campaign.collect(tmp_path_factory.mktemp("runs") / "all", workers=1)


def test_a_campaign_that_judged_all_is_exact(judged: Results) -> None:
    found = protect(judged, by="register", only=["tmr"])
    bought = found.within(0.1)
    kept = {unit.unit["register"] for unit in found.chosen(0.1)}
    assert 0 < len(kept) < 3
    trials = judged.trials
    sites, event = trials["class_size"].to_numpy(), trials["sdc1"].to_numpy()
    still = ~trials["register"].isin(kept).to_numpy()
    rate = (sites * (event & still)).sum() / (2 * judged.population.live) * judged.live_share
    assert (bought.residual.value, bought.residual.low, bought.at_most) == pytest.approx((rate, rate, rate))
    assert bought.residual.method == "census"
    assert bought.removed.value == pytest.approx((sites * (event & ~still)).sum() / (sites * event).sum())


def test_the_pareto_curve_marks_what_was_asked_for(truth: Callable[..., Truth]) -> None:
    found = protect(truth().campaign(3, 3000), by="register-bit", only=["tmr"])
    axes = pareto_curve(found, budgets=(0.2, 0.5), targets=(0.5,))
    assert [text.get_text() for text in axes.texts] == ["20 %", "50 %", "50 % less"]
    bought = [found.within(0.2), found.within(0.5), found.smallest(0.5)]
    wanted = [[100 * each.share, 100 * (1 - each.removed.value)] for each in bought if each is not None]
    points = [drawn for drawn in axes.collections if isinstance(drawn, PathCollection)]
    np.testing.assert_allclose(np.concatenate([np.asarray(drawn.get_offsets()) for drawn in points]), wanted)


def test_the_table_comes_with_the_package() -> None:
    assert (Path(__file__).parents[2] / "emulator/harden/techniques.toml").is_file()
