"""Whatever is predicted, the rate is right on average; and predictions are good enough to find more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emulator.errors import BadConfig
from emulator.harden.drop_importance import DropImportance
from emulator.harden.search import sampler_for
from emulator.sampling.past import no_past
from emulator.sampling.rng import rng_for
from emulator.sampling.sampler import Sampler

DRAWS = 1500
SETTINGS: list[dict[str, Any]] = [
    {"rounds": ((32, 2), (8, 6))},
    {"rounds": ((24, 1),), "alpha": 0.5, "power": 1.0},
    {"rounds": ((16, 2), (16, 3), (2, 30)), "alpha": 0.1, "lookahead": 0},
]


def right_of(table: Any) -> tuple[int, ...]:
    return tuple(np.flatnonzero(table.answers.right).tolist())


@pytest.fixture(scope="module", params=SETTINGS, ids=str)
def drawn(request: pytest.FixtureRequest, table: Any) -> Any:
    sampler = DropImportance(right=right_of(table), **request.param)
    return sampler, sampler.draw(table.bench, rng_for(11, 0), DRAWS, no_past())


def z_score(weighted: Any, truth: float, max_weight: float) -> float:
    """With the largest variance that weights up to max_weight allow: a draw that was missed may weigh that much."""
    return float((weighted.mean() - truth) / np.sqrt(max_weight * truth / len(weighted)))


def test_the_weighted_share_of_any_property_is_that_of_all_sites(table: Any, drawn: Any) -> None:
    sampler, sample = drawn
    weight, column = np.exp(sample.log_weight), table.column(sample.faults)
    for needed in (1, 9):
        truth = (table.lost >= needed).mean()
        assert abs(z_score(weight * (table.lost[column] >= needed), truth, sampler.max_weight)) < 3
    for name in ("bit", "register"):
        values = getattr(table.faults, name)
        for value in np.unique(values):
            here = getattr(sample.faults, name) == value
            truth = float((values == value).mean())
            assert abs(z_score(weight * here, truth, sampler.max_weight)) < 3


def test_weights_average_one_and_are_bounded(drawn: Any) -> None:
    sampler, sample = drawn
    weight = np.exp(sample.log_weight)
    assert weight.max() <= sampler.max_weight * (1 + 1e-9)
    assert abs(z_score(weight, 1.0, sampler.max_weight)) < 3


@pytest.mark.parametrize("name", ["isimdl", "gradient"])
def test_samplers_of_images_are_unbiased_for_sites_too(table: Any, name: str) -> None:
    """Their weights are those of an image and a site; the image left out, they are right for the site."""
    sampler = sampler_for(name, table.answers)
    sample = sampler.draw(table.bench, rng_for(5, 0), 6000, no_past())
    weighted = np.exp(sample.log_weight) * (table.lost[table.column(sample.faults)] >= 1)
    assert abs(z_score(weighted, (table.lost >= 1).mean(), sampler.max_weight)) < 3


def test_a_prediction_on_all_images_ranks_nearly_as_the_truth(table: Any) -> None:
    """Two layers of exact lookahead leave nothing to guess on a network of three."""
    harmful, harmless = np.flatnonzero(table.lost >= 3)[::20], np.flatnonzero(table.lost <= 0)[::20]
    sampler = DropImportance(right=right_of(table))
    low, high = (
        sampler.predicted_drop(table.bench, table.faults[column], len(table.answers))
        for column in (harmless, harmful)
    )
    assert high.min() > 1.5 / len(table.answers)
    assert np.quantile(low, 0.9) < 1 / len(table.answers)
    truth = table.lost[harmful] / len(table.answers)
    assert np.corrcoef(high, truth)[0, 1] > 0.95


def test_the_best_of_a_round_come_to_the_next(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds as plain lists: who is scored on how many pilots, and which score is kept."""
    sites = {int(site): place for place, site in enumerate(table.sites)}
    asked: list[tuple[int, int]] = []

    def predicted(self: Any, bench: Any, faults: Any, pilots: int) -> Any:
        asked.append((len(faults), pilots))
        return np.array([(sites[site] * 7919 + pilots) % 1000 for site in bench.space.indices(faults)]) + 0.0

    monkeypatch.setattr(DropImportance, "predicted_drop", predicted)
    sampler = DropImportance(right=right_of(table), rounds=((6, 1), (3, 2), (1, 5)))
    faults = table.faults[np.arange(0, 1200, 100)]
    found = sampler.scores(table.bench, faults)
    assert asked == [(12, 1), (6, 2), (2, 5)]
    expected = []
    for draw in range(2):
        places = [100 * (6 * draw + i) for i in range(6)]
        score = {place: float((place * 7919 + 1) % 1000) for place in places}
        for count, pilots in ((3, 2), (1, 5)):
            places = sorted(places, key=lambda place: -score[place])[:count]
            score |= {place: float((place * 7919 + pilots) % 1000) for place in places}
        expected += [score[100 * (6 * draw + i)] for i in range(6)]
    assert found.tolist() == expected


def test_it_finds_several_times_what_uniform_finds(table: Any) -> None:
    found = {}
    for name in ("uniform", "bit-only", "importance"):
        sample = sampler_for(name, table.answers).draw(table.bench, rng_for(1, 0), 200, no_past())
        found[name] = float((table.lost[table.column(sample.faults)] >= 9).mean())
    assert found["importance"] > 0.5
    assert found["importance"] > 3 * max(found["uniform"], found["bit-only"])


def test_draws_depend_on_seed_and_chunk_alone(table: Any) -> None:
    sampler = DropImportance(right=right_of(table), rounds=((16, 2), (4, 3)))
    first, again, other = (sampler.draw(table.bench, rng_for(5, chunk), 60, no_past()) for chunk in (2, 2, 3))
    np.testing.assert_array_equal(first.log_weight, again.log_weight)
    np.testing.assert_array_equal(first.faults.cycle, again.faults.cycle)
    assert not np.array_equal(first.faults.cycle, other.faults.cycle)


def test_it_is_a_sampler_with_settings_that_json_takes(table: Any) -> None:
    sampler = DropImportance(right=right_of(table))
    assert isinstance(sampler, Sampler)
    assert sampler.settings()["right"] == 18
    assert sampler.predictions == 512 * 2 + 64 * 8 + 16 * 18


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": ()},
        {"rounds": ((8, 2), (9, 3))},
        {"rounds": ((8, 0),)},
        {"power": 0.0},
        {"right": ()},
        {"alpha": 0.0},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadConfig, match="allowed"):
        DropImportance(**({"right": (0,)} | wrong))
