"""Sampling without replacement against the exhaustive campaign it is a part of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.campaign.config import make_config
from emulator.campaign.results import Results
from emulator.campaign.runner import Campaign
from emulator.errors import BadConfig
from emulator.faults.space import FaultSpace
from emulator.report.html import render_report
from emulator.sampling.counted import classes_of_chunk, count_chunks, sites_of_chunk
from emulator.sampling.exhaustive import Exhaustive
from emulator.sampling.horvitz_thompson import HorvitzThompson
from emulator.sampling.rng import rng_for
from emulator.sampling.sweep import Sweep, with_certainty
from emulator.sampling.workbench import Workbench

REGISTERS = ("accumulator", "pe_b")
IMAGES = 3
SEEDS = 200
JOINT = ["input_id", "layer", "register", "fault_id"]


def campaign(digits: Any, sampler: Any, **changes: Any) -> Campaign:
    space = FaultSpace(digits.network, digits.array, registers=REGISTERS)
    settings = {"inputs": digits.data, "limit": IMAGES, "sampler": sampler, **changes}
    return Campaign(digits.network, digits.array, space, **settings)


@pytest.fixture(scope="module")
def whole(digits: Any, tmp_path_factory: Any) -> Results:
    return campaign(digits, Exhaustive()).collect(tmp_path_factory.mktemp("whole"), workers=1)


def test_with_trials_for_all_it_is_the_exhaustive_campaign(
    digits: Any, whole: Results, tmp_path: Path
) -> None:
    # Even classes of few sites that are surely harmless get more than one expected draw.
    every = campaign(digits, Sweep(trials=10**9)).collect(tmp_path, workers=1)
    columns = [*JOINT, "class_size", "sdc1", "tie", "masked_at", "log_weight"]
    assert every.trials[columns].equals(whole.trials[columns])
    assert every.rate() == whole.rate()
    assert every.by(["layer", "register"]).equals(whole.by(["layer", "register"]))


def test_what_is_judged_is_judged_as_in_the_exhaustive_campaign(
    digits: Any, whole: Results, tmp_path: Path
) -> None:
    some = campaign(digits, Sweep(trials=3000)).collect(tmp_path, workers=2)
    assert 2000 < len(some) < 3500
    both = some.trials.merge(whole.trials, on=JOINT, suffixes=("", "_whole"))
    assert len(both) == len(some)
    for name in ("class_size", "sdc1", "sdc5", "tie", "masked_at", "n_corrupt_out"):
        assert both[name].equals(both[f"{name}_whole"].rename(name))
    truth = whole.rate().value
    found = some.rate()
    assert found.method == "horvitz-thompson" and found.low <= truth <= found.high
    assert some.trials["sdc1"].mean() > 3 * truth
    assert some.precision_at(50).value > 0.9 and some.trials["score"].between(0, 1).all()
    for row in some.by("layer").itertuples():
        assert row.low <= whole.by("layer").set_index("layer").loc[row.layer, "value"] <= row.high


def test_a_sweep_that_judges_nothing_has_a_bound(digits: Any, tmp_path: Path) -> None:
    space = FaultSpace(digits.network, digits.array, registers=("pe_last",), layers=[0])
    asked = Campaign(
        digits.network, digits.array, space, inputs=digits.data, limit=1, sampler=Sweep(trials=1)
    )
    none = asked.collect(tmp_path, workers=1)
    assert len(none) == 0 and (none.rate().value, none.rate().high) == (0, 1)
    assert none.by("register")["value"].tolist() == [0]
    assert "horvitz-thompson" in render_report(none)


def test_with_more_trials_than_rows_nothing_is_left_to_chance() -> None:
    assert with_certainty(np.array([5.0, 0.5, 0.6])).tolist() == [1, 1, 1]
    # Whose share of the draws is 1 but for rounding is certain, too.
    assert with_certainty(np.array([1 - 1e-12, 0.2, 0.3]))[0] == 1


def test_chunks_of_which_nothing_is_judged(digits: Any, tmp_path: Path) -> None:
    asked = campaign(digits, Sweep(trials=2))
    few = asked.collect(tmp_path, workers=1)
    assert few.trials["chunk"].nunique() < count_chunks(asked.space, IMAGES)
    assert 0 <= few.rate().low <= few.rate().high <= 1
    assert "horvitz-thompson" in render_report(few)


class Always(np.random.Generator):
    """Chooses whatever can be chosen."""

    def random(self, *arguments: Any, **named: Any) -> Any:
        return np.zeros(*arguments, **named)


@pytest.mark.parametrize("sweep", [Sweep(trials=2000), Sweep(trials=500, alpha=0.5, lookahead=0)])
def test_every_site_has_its_share_of_the_draws(digits: Any, sweep: Sweep) -> None:
    planned = campaign(digits, sweep)
    bench = Workbench(planned.network, planned.array, planned.space, planned.samples.inputs)
    chunks, sites = count_chunks(planned.space, IMAGES), planned.space.live * IMAGES
    expected = 0.0
    for chunk in range(chunks):
        found = classes_of_chunk(bench, chunk)
        rows, inclusion, _ = sweep.choose(bench, found, Always(np.random.PCG64(0)))
        assert len(rows) == len(found.sites)
        assert found.sites.sum() == sites_of_chunk(planned.space, chunk)
        floor = sweep.per_site_floor(sites) * found.sites
        assert (inclusion >= np.minimum(1, floor) * (1 - 1e-9)).all() and inclusion.max() <= 1
        expected += inclusion.sum()
    # The scale is estimated from a pilot.
    assert 0.7 * sweep.trials < expected < 1.3 * sweep.trials


def test_the_rate_is_right_on_average_and_its_interval_nine_times_in_ten(digits: Any, whole: Results) -> None:
    sweep = Sweep(trials=1500)
    planned = campaign(digits, sweep)
    bench = Workbench(planned.network, planned.array, planned.space, planned.samples.inputs)
    sites, events = planned.space.live * IMAGES, whole.trials["sdc1"].to_numpy(bool)
    chunk_of = whole.trials["chunk"].to_numpy()
    tallies = [HorvitzThompson(sites, per_site_floor=sweep.per_site_floor(sites)) for _ in range(SEEDS)]
    for chunk in range(count_chunks(planned.space, IMAGES)):
        found, y = classes_of_chunk(bench, chunk), events[chunk_of == chunk]
        for seed, tally in enumerate(tallies):
            rows, inclusion, _ = sweep.choose(bench, found, rng_for(seed, chunk))
            covered = sites_of_chunk(planned.space, chunk)
            tally.add(y[rows], found.sites[rows], inclusion, covered=covered)
    estimates, truth = [tally.estimate() for tally in tallies], whole.rate().value
    values = np.array([found.value for found in estimates])
    assert abs(values.mean() - truth) / (values.std(ddof=1) / SEEDS**0.5) < 3
    assert sum(found.low <= truth <= found.high for found in estimates) >= 0.93 * SEEDS
    # Uniform trials: at least five times as many for the same variance.
    assert values.var(ddof=1) < truth * (1 - truth) / sweep.trials / 5


def test_an_unfinished_sweep_leaves_room_for_what_is_open(digits: Any, tmp_path: Path) -> None:
    done = campaign(digits, Sweep(trials=3000)).collect(tmp_path, workers=1)
    before = done.rate()
    assert done.images_are_a_sample and not done.incomplete
    (tmp_path / "trials" / "part-000000.parquet").unlink()
    part = Results.open(tmp_path)
    left = sites_of_chunk(campaign(digits, Exhaustive()).space, 0)
    assert part.incomplete and not part.images_are_a_sample
    assert part.rate().high > before.high + 0.9 * left / (IMAGES * done.manifest["space"]["live"])
    assert "not all live sites are judged yet" in render_report(part)
    campaign(digits, Sweep(trials=3000)).collect(tmp_path, workers=1)
    assert Results.open(tmp_path).rate() == before


@given(
    expected=st.lists(st.floats(1e-6, 50), min_size=1, max_size=60).map(np.array),
)
def test_probabilities_add_up_to_the_draws_that_were_asked_for(expected: npt.NDArray[np.float64]) -> None:
    found = with_certainty(expected)
    assert ((found > 0) & (found <= 1)).all()
    assert found.sum() == pytest.approx(min(expected.sum(), len(expected)), rel=1e-6)
    assert (found >= np.minimum(expected, 1) * (1 - 1e-9)).all()
    free = found < 1
    if free.any():
        assert np.ptp(found[free] / expected[free]) < 1e-6 * (found[free] / expected[free]).max()


def test_flags_of_a_sweep(digits: Any) -> None:
    values = {"model": digits.path, "inputs": digits.data, "limit": 1, "sampler": "sweep"}
    assert make_config({**values, "trials": 700}, "test").campaign().manifest()["sampler"]["trials"] == 700
    with pytest.raises(BadConfig, match="it has no until_ci"):
        make_config({**values, "until_ci": 0.1}, "test").campaign()
    with pytest.raises(BadConfig, match=r"has no candidates; allowed: alpha, lookahead, .*, trials"):
        make_config({**values, "candidates": 3}, "test").campaign()
    for wrong in ({"trials": 0}, {"alpha": 0.0}, {"lookahead": -1}):
        with pytest.raises(BadConfig, match="allowed"):
            Sweep(**wrong)  # type: ignore[arg-type]
