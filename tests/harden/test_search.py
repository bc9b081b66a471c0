"""A search against the table of every site: what it finds, what that cost, and when it stops."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest

from emulator.campaign.fault_text import parse_fault
from emulator.errors import BadConfig
from emulator.harden.drop_importance import DropImportance
from emulator.harden.found import DrawsPerFault, Found
from emulator.harden.search import SAMPLERS, Search, sampler_for
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.past import no_past
from emulator.sampling.rng import rng_for
from emulator.sampling.sampler import Sampler
from emulator.sampling.stopping import max_time, max_trials, min_critical

# 9 of 20 images: a site in fifty costs so many answers.
DROP, NEEDED = 0.45, 9


def sampler_of(table: Any, name: str) -> Sampler:
    """As the command has it, importance with fewer candidates."""
    sampler = sampler_for(name, table.answers)
    return replace(sampler, rounds=((32, 2), (8, 6))) if isinstance(sampler, DropImportance) else sampler


def searched(table: Any, name: str = "uniform", drop: float = DROP, stop: Any = None, seed: int = 0) -> Found:
    stop = stop or max_trials(1200)
    search = Search(drop=drop, sampler=sampler_of(table, name), stop=stop, seed=seed)
    return search.run(table.bench, table.answers)


def columns_drawn(table: Any, name: str, seed: int = 0) -> Any:
    """The draws of a search of 1,200, made again: 500, 500 and 200."""
    sampler = sampler_of(table, name)
    parts = [
        sampler.draw(table.bench, rng_for(seed, chunk), count, no_past())
        for chunk, count in enumerate((500, 500, 200))
    ]
    column = np.concatenate([table.column(part.faults) for part in parts])
    return column, np.exp(np.concatenate([part.log_weight for part in parts]))


@pytest.mark.parametrize("name", ["uniform", "bit-only", "importance"])
def test_a_search_finds_exactly_what_it_draws(table: Any, name: str) -> None:
    found = searched(table, name)
    column, weight = columns_drawn(table, name)
    hit = table.lost[column] >= NEEDED
    assert (found.needed, found.draws, found.images) == (NEEDED, 1200, 20)
    assert found.hits.value == pytest.approx(hit.mean())
    assert found.rate == hansen_hurwitz(hit, weight, max_weight=1 if name == "uniform" else 5)
    sites = {int(site): int(lost) for site, lost in zip(table.sites[column], table.lost[column], strict=True)}
    expected = {site: lost for site, lost in sites.items() if lost >= NEEDED}
    assert {table.bench.space.index(fault.fault): fault.lost for fault in found.faults} == expected
    assert sum(fault.draws for fault in found.faults) == hit.sum()
    assert [fault.drop for fault in found.faults] == sorted((f.lost / 20 for f in found.faults), reverse=True)


def test_the_interval_of_the_rate_holds_the_share_of_all_sites(table: Any) -> None:
    truth = (table.lost >= NEEDED).mean()
    inside = [
        found.rate.low <= truth <= found.rate.high
        for found in (searched(table, "importance", stop=max_trials(500), seed=seed) for seed in range(4))
    ]
    assert sum(inside) >= 3


def test_a_found_fault_is_text_that_inject_takes(table: Any) -> None:
    layers = [layer.name for layer in table.bench.network.graph.layers]
    found = searched(table, "importance", stop=max_trials(100))
    assert found.faults
    for fault in found.faults:
        named = parse_fault(fault.to_json()["fault"], layers, table.bench.array)
        assert (named.layer, named.upsets) == (fault.fault.layer, (fault.fault.upset,))


def test_it_stops_at_the_first_rule_that_is_met(table: Any) -> None:
    few = searched(table, "importance", stop=min_critical(10) | max_trials(50_000))
    assert (few.draws, few.hits.method, few.rate.method) == (500, "betting", "betting")
    assert len(few.faults) >= 10
    assert searched(table, stop=max_trials(730)).draws == 730
    assert searched(table, stop=max_time(1e-6)).draws == 500


def test_the_same_seed_finds_the_same(table: Any) -> None:
    first, again, other = (searched(table, "importance", stop=max_trials(150), seed=s) for s in (4, 4, 5))
    assert (first.faults, first.rate) == (again.faults, again.rate)
    assert first.faults != other.faults


def test_steps_add_up(table: Any) -> None:
    search = Search(drop=DROP, sampler=sampler_of(table, "uniform"), stop=max_trials(1200))
    steps = list(search.steps(table.bench, table.answers))
    assert [step.draws for step in steps] == [500, 1000, 1200]
    assert steps[-1].faults == search.run(table.bench, table.answers).faults


def test_importance_counts_its_predictions(table: Any) -> None:
    found = searched(table, "importance", stop=max_trials(100))
    assert found.predictions == 100 * (32 * 2 + 8 * 6)
    assert searched(table, stop=max_trials(100)).predictions == 0
    assert 100 < found.injections <= 100 * 20


@pytest.mark.parametrize(
    ("drop", "needed"), [(0.05, 1), (0.051, 2), (0.1, 2), (0.15, 3), (0.1 + 0.2, 6), (0.9, 18)]
)
def test_a_drop_is_so_many_answers(table: Any, drop: float, needed: int) -> None:
    assert searched(table, drop=drop, stop=max_trials(1)).needed == needed


@pytest.mark.parametrize("drop", [0.0, -0.1, 0.91, 1.0, float("nan")])
def test_a_drop_that_no_fault_can_reach_is_refused(table: Any, drop: float) -> None:
    fix = "smaller" if drop > 0 else "larger"
    with pytest.raises(
        BadConfig,
        match=rf"at most the clean accuracy, 0\.9 on 20 images. Choose a {fix} one.*one answer is 0\.05",
    ):
        searched(table, drop=drop)


def test_unknown_samplers_are_refused(table: Any) -> None:
    with pytest.raises(BadConfig, match=", ".join(SAMPLERS)):
        sampler_for("sweep", table.answers)


def test_draws_per_fault_are_one_over_the_share() -> None:
    some = DrawsPerFault.of(hansen_hurwitz([1, 0, 0, 0], [1] * 4))
    assert (some.value, some.n) == (4, 4)
    assert some.low < 4 < some.high
    none = DrawsPerFault.of(hansen_hurwitz([0] * 50, [1] * 50))
    assert (none.value, none.high) == (inf, inf)
    assert none.low > 10
    assert json.loads(json.dumps(none.to_json()))["high"] is None
    assert str(none).startswith("more than ")
