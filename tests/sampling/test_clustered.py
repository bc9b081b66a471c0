"""Clustered estimates against samples of images from a population of images whose rate is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from emulator.errors import BadData
from emulator.sampling.clustered import clustered
from emulator.sampling.estimators import census, hansen_hurwitz

REPLAYS = 600


@pytest.mark.parametrize("images", [10, 50])
def test_it_covers_the_rate_of_other_images_where_the_fixed_set_does_not(images: int) -> None:
    rng, truth = np.random.default_rng(1), 0.05
    found, fixed = [], []
    for _ in range(REPLAYS):
        rate = rng.beta(2, 38, images)
        image = rng.integers(0, images, 2000)
        y = rng.random(2000) < rate[image]
        weight = rng.uniform(0.5, 1.5, 2000)
        found.append(clustered(y, weight, image, heaviest_unseen=1.5))
        fixed.append(hansen_hurwitz(y, weight, max_weight=1.5))
    coverage = [np.mean([e.low <= truth <= e.high for e in some]) for some in (found, fixed)]
    value = np.array([e.value for e in found])
    print(f"\n{images} images: coverage {coverage[0]:.3f}, of the fixed set {coverage[1]:.3f}, {found[0]}")
    assert abs(value.mean() - truth) < 3 * value.std() / REPLAYS**0.5
    assert coverage[0] >= 0.93 > 0.9 > coverage[1]


def test_equal_clusters_give_the_t_interval_of_their_rates() -> None:
    """At a rate of one half the logit is straight: for little spread the interval is Student's."""
    rates = np.array([0.48, 0.49, 0.5, 0.51, 0.52])
    y = np.concatenate([np.arange(100) < 100 * rate for rate in rates])
    found = clustered(y, np.ones(500), np.repeat(np.arange(5), 100), heaviest_unseen=0)
    student = ttest_1samp(rates, 0).confidence_interval(0.95)
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((student.low, student.high), abs=2e-5)


def test_rows_of_an_exhaustive_campaign_weigh_their_sites() -> None:
    rng = np.random.default_rng(2)
    y, sites, image = rng.random(300) < 0.2, rng.integers(1, 50, 300), rng.integers(0, 6, 300)
    found = clustered(y, sites, image, heaviest_unseen=0)
    assert found.value == pytest.approx(census(y, sites, int(sites.sum())).value)
    each = clustered(np.repeat(y, sites), np.ones(sites.sum()), np.repeat(image, sites), heaviest_unseen=0)
    assert (found.low, found.high) == pytest.approx((each.low, each.high))


def test_names_and_order_of_clusters_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    y, w, image = rng.random(200) < 0.3, rng.uniform(0.5, 2, 200), rng.integers(0, 5, 200)
    order = rng.permutation(200)
    names = np.array(list("vwxyz"))[image[order]]
    a, b = clustered(y, w, image, heaviest_unseen=2), clustered(y[order], w[order], names, heaviest_unseen=2)
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))
    assert (a.n, a.method) == (200, "clustered")


def test_the_interval_stays_inside_the_unit_interval() -> None:
    rng = np.random.default_rng(4)
    for _ in range(300):
        n = int(rng.integers(2, 60))
        y, image = rng.random(n) < rng.random(), np.append([0, 1], rng.integers(0, 4, n - 2))
        found = clustered(y, np.exp(rng.uniform(-5, 5, n)), image, heaviest_unseen=rng.choice([0, 150]))
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.high > found.low


def test_clusters_without_an_event_bound_the_rate_by_their_number() -> None:
    image = np.repeat(np.arange(20), 100)
    none, only = (clustered(np.full(2000, y), np.ones(2000), image, heaviest_unseen=1) for y in (False, True))
    assert (none.value, none.low) == (0.0, 0.0)
    assert (1 - none.high) ** 20 == pytest.approx(0.05)
    assert (only.value, only.low, only.high) == (1.0, pytest.approx(1 - none.high), 1.0)


def test_it_has_room_for_the_faults_that_a_score_is_blind_to() -> None:
    """Of images that are all alike the draw of faults is uncertain: rare heavy ones that nobody may have seen."""
    rng, truth, blind, n, light, heavy = np.random.default_rng(5), 0.01, 0.2, 2000, 0.05, 19.05
    with_room, without = [], []
    for _ in range(REPLAYS):
        # 95 % of the draws go where faults are foreseen.
        foreseen = rng.random(n) < 0.95
        chance = np.where(foreseen, truth * (1 - blind) / (0.95 * light), truth * blind / (0.05 * heavy))
        y, weight, image = rng.random(n) < chance, np.where(foreseen, light, heavy), rng.integers(0, 50, n)
        with_room.append(clustered(y, weight, image, heaviest_unseen=heavy))
        without.append(clustered(y, weight, image, heaviest_unseen=0))
    coverage = [np.mean([e.low <= truth <= e.high for e in some]) for some in (with_room, without)]
    print(f"\ncoverage {coverage[0]:.3f}, without room {coverage[1]:.3f}, {with_room[0]}, {without[0]}")
    assert coverage[0] >= 0.93 > 0.9 > coverage[1]


def test_no_event_among_few_heavy_draws_proves_no_more_than_they_do() -> None:
    few = clustered(np.zeros(40), np.ones(40), np.repeat(np.arange(20), 2), heaviest_unseen=10)
    assert few.high == pytest.approx(-np.log(0.05) * 10 / 40)


@pytest.mark.parametrize("cluster", [[7, 7, 7], [1, 2], []])
def test_fewer_than_two_clusters_are_refused(cluster: list[int]) -> None:
    with pytest.raises(BadData, match="2 clusters or more"):
        clustered([0, 1, 0], [1, 1, 1], cluster, heaviest_unseen=1)
