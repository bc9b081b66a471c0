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
from emulator.harden.protect import protect
from emulator.harden.protection import Protection, budget_of
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.exhaustive import Exhaustive
from emulator.sampling.stopping import max_trials
from emulator.sampling.uniform import Uniform

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


def test_a_limit_in_fit_holds_though_many_budgets_were_looked_at(truth: Callable[..., Truth]) -> None:
    """400 campaigns of 3,000 trials: what is truly left for the budget that was stopped at is above the limit in 5 % of
    them at most; stopping by the estimate is wrong far more often."""
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
def test_a_limit_is_met_by_what_a_budget_would_buy(truth: Callable[..., Truth], only: list[str]) -> None:
    """Going down a 16th of a halving after the other from everything, the last before the first bound above it."""
    found = protect(truth().campaign(1, 1000), by="register-bit", only=only)
    most = found.within(10.0).share
    tried = [found.within(most * 2 ** (-k / 16)) for k in range(200)]
    bounds = np.array([bought.at_most_fit for bought in tried])
    whole = found.unprotected.at_most_fit
    for limit in (*np.quantile(bounds[bounds < whole], [0.3, 0.5, 0.9]), whole * 1.1):
        if limit < found.least_bound_fit:
            continue
        above = np.flatnonzero(bounds > limit)
        wanted = tried[above[0] - 1] if len(above) else found.unprotected
        bought = found.certified(float(limit))
        assert bought._replace(at_most=None, at_most_fit=None) == wanted._replace(
            at_most=None, at_most_fit=None
        )
        assert bought.at_most_fit == limit
        # What is printed buys the same.
        if bought.share:
            printed = float(budget_of(bought.share).removesuffix("%")) / 100
            assert found.chosen(printed) == found.chosen(bought.share)


def test_a_limit_that_nothing_meets_names_the_least(truth: Callable[..., Truth]) -> None:
    found = protect(truth().campaign(0, 600), by="register-bit", only=["hardened"])
    least = found.within(10.0).at_most_fit
    assert found.least_bound_fit == least
    with pytest.raises(
        BadData, match=f"the 300 trials that judge can certify {least:.2e} FIT at best"
    ) as refused:
        found.certified(least * 0.99)
    assert "construction" not in str(refused.value)
    assert found.certified(least * 1.01).at_most_fit == least * 1.01
    for limit in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadConfig, match="allowed: a finite number of FIT, 0 or more"):
            found.certified(limit)


def test_that_every_unit_leaves_nothing_is_no_certificate(truth: Callable[..., Truth]) -> None:
    """It holds whatever the trials: to be told, not to be bought in place of what was asked for."""
    found = protect(truth().campaign(0, 600), by="register-bit", only=["parity"])
    whole = found.within(10.0)
    assert whole.residual.method == "exact" and found.least_bound_fit > 0
    for limit in (0.0, 0.99 * found.least_bound_fit):
        with pytest.raises(BadData, match=r"170 % of area, leaves nothing by construction\.\)"):
            found.certified(limit)
    assert 0 < found.certified(found.least_bound_fit).share < whole.share


@pytest.mark.parametrize("share", [0.0131462, 0.1, 1 / 3, 1.0, 1e-5, 0.22938991])
def test_a_printed_budget_is_no_less_and_hardly_more(share: float) -> None:
    printed = float(budget_of(share).removesuffix("%")) / 100
    assert share * (1 - 1e-9) <= printed <= share * (1 + 2e-5)


def test_what_has_no_raw_rate_is_never_bought(two: Results) -> None:
    """Parity detects upsets that there are none of: with all that has a rate protected nothing is left."""
    raw = RawFit(by_register=(("pe_a", 0.0),))
    for by in ("register", "register-bit", "word"):
        found = protect(two, by=by, raw=raw, only=["parity"])
        everything = found.within(10.0)
        assert {unit.unit["register"] for unit in found.chosen(10.0)} == {"pe_b"}
        assert (everything.residual.method, everything.removed.value) == ("exact", 1)
        of_b = protect(two, by=by, only=["parity"]).chosen(10.0)
        assert everything.units == sum(unit.unit["register"] == "pe_b" for unit in of_b)


def test_a_unit_is_shown_as_the_trials_that_judge_see_it(truth: Callable[..., Truth]) -> None:
    results = truth().campaign(3, 3000)
    found = protect(results, by="register-bit", only=["tmr"])
    trials, judging = results.trials, found.trials.judging
    scale = found.unprotected.fit.value / found.unprotected.residual.value * results.live_share
    chosen = found.chosen(10.0)
    for unit in chosen:
        here = judging & (trials["bits"] == 1 << unit.unit["bit"]).to_numpy()
        wanted = hansen_hurwitz(
            (here & trials["sdc1"].to_numpy(bool))[judging],
            results.weight[judging],
            max_weight=results.max_weight,
        )
        assert unit.fit == pytest.approx((wanted.value * scale, wanted.low * scale, wanted.high * scale))
    assert sum(unit.fit.value for unit in chosen) == pytest.approx(found.unprotected.fit.value)


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
    removed = sum(unit.expected_fit for unit in found.chosen(0.6))
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
    bits = {unit.unit["bit"] for unit in found.chosen(0.1) if unit.expected_fit > 0}
    assert bits and min(bits) >= 4


@pytest.fixture(scope="module")
def two(digits: object, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Trials in two registers of the last layer of the digits network."""
    space = FaultSpace(digits.network, digits.array, registers=["pe_b", "pe_a"], layers=["fc"])
    campaign = Campaign(
        digits.network, digits.array, space, inputs=digits.inputs[:5], sampler=Uniform(), stop=max_trials(400)
    )
    return campaign.collect(tmp_path_factory.mktemp("runs") / "two", workers=1)


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
