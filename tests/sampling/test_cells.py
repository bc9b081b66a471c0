"""Proposals by image, layer, register and bit: their densities against a count of every site."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from emulator.faults.fault import FaultBatch
from emulator.faults.space import FaultSpace
from emulator.sampling.baselines import layers_alike, powers_of_two
from emulator.sampling.cells import CellDraws, Cells, bit_population, density_over_population, draw_cells
from emulator.sampling.resampling import resample

IMAGES = 3
# Operands, sums with narrow first rows, and tags of few bits.
REGISTERS = ["pe_a", "pe_b", "write_sum", "result_count", "seq_row"]
ALPHA = 0.25


@pytest.fixture(scope="module")
def space(digits: Any) -> FaultSpace:
    return FaultSpace(digits.network, digits.array, registers=REGISTERS, layers=["fc"])


def some_cells(space: FaultSpace, seed: int) -> Cells:
    rng = np.random.default_rng(seed)
    shape = bit_population(space).shape
    return Cells(
        image=rng.dirichlet(np.ones(IMAGES)),
        stratum=rng.dirichlet(np.ones(shape[0])) if seed % 3 else None,
        bit=rng.uniform(0.01, 1, shape) if seed % 2 else None,
    )


@pytest.mark.parametrize("seed", range(6))
def test_every_site_has_at_least_its_defensive_share_and_all_add_up(space: FaultSpace, seed: int) -> None:
    cells, sites = some_cells(space, seed), space.live_faults(np.arange(space.live))
    total = 0.0
    for image in range(IMAGES):
        where = np.full(space.live, image)
        density = density_over_population(space, cells, where, sites, alpha=ALPHA)
        assert density.min() >= ALPHA
        total += density.sum() / (space.live * IMAGES)
    assert total == pytest.approx(1)


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_sites_are_drawn_as_often_as_their_density_says(space: FaultSpace, seed: int) -> None:
    cells, count = some_cells(space, seed), 40_000
    draws = draw_cells(space, np.random.default_rng(seed), cells, count, alpha=ALPHA)
    sites = space.live_faults(np.arange(space.live))
    groups = image_stratum_bit(space, np.repeat(np.arange(IMAGES), space.live), repeated(sites, IMAGES))
    density = density_over_population(
        space, cells, np.repeat(np.arange(IMAGES), space.live), repeated(sites, IMAGES), alpha=ALPHA
    )
    expected = np.bincount(groups, density) * count / density.sum()
    drawn = np.bincount(image_stratum_bit(space, draws.image, draws.faults), minlength=len(expected))
    seen = expected > 5
    assert drawn[expected == 0].sum() == 0
    assert (
        stats.chisquare(drawn[seen], expected[seen] * drawn[seen].sum() / expected[seen].sum()).pvalue > 1e-3
    )


def test_a_bit_of_the_same_word_is_live_in_the_same_fold(space: FaultSpace) -> None:
    cells = Cells(image=np.full(IMAGES, 1 / IMAGES), bit=powers_of_two(space))
    draws = draw_cells(space, np.random.default_rng(3), cells, 3000, alpha=0.01)
    for stratum, layer_stratum in enumerate(space.strata):
        chosen = draws.faults[space.stratum_of(draws.faults) == stratum]
        fold, offset = layer_stratum.register.lifetime.offset(layer_stratum.plan, chosen.sites)
        assert (offset >= 0).all()
        np.testing.assert_array_equal(fold, chosen.fold)
    assert draws.faults.bit.mean() > 10


def test_layers_alike_are_alike(digits: Any) -> None:
    space = FaultSpace(digits.network, digits.array, registers=REGISTERS)
    share = layers_alike(space)
    of_layer = np.bincount([s.layer for s in space.strata], share)
    np.testing.assert_allclose(of_layer, 1 / len(of_layer))


def repeated(faults: FaultBatch, times: int) -> FaultBatch:
    return FaultBatch(**{name: np.tile(getattr(faults, name), times) for name in FaultBatch.__slots__})


def image_stratum_bit(space: FaultSpace, image: Any, faults: FaultBatch) -> Any:
    return (image * len(space.strata) + space.stratum_of(faults)) * 64 + faults.bit


@given(
    alpha=st.floats(0.05, 1),
    candidates=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_is_preferred_the_kept_one_stands_for_its_rivals(
    alpha: float, candidates: int, seed: int
) -> None:
    """Over all ways the kept one may fall, weight x value averages to the mean of over x value of the candidates, and
    no weight exceeds 1 / alpha."""
    rng = np.random.default_rng(seed)
    over = rng.uniform(0.01, 1 / alpha, (1, candidates))
    preference = rng.exponential(size=(1, candidates)) ** 4 * (rng.random((1, candidates)) < 0.7)
    preference[0, 0] += 1e-9
    value, expected, total = rng.random(candidates), 0.0, 0.0
    weights = np.full(candidates, np.nan)
    faults = FaultBatch(**{name: np.arange(candidates) for name in FaultBatch.__slots__})
    draws = CellDraws(image=np.zeros(1, np.int64), faults=faults, over=over)
    for u in np.linspace(0, 1, 400, endpoint=False):
        kept = resample(At(u), draws, preference, preference, alpha=alpha)  # type: ignore[arg-type]
        weights[kept.faults.layer[0]] = np.exp(kept.log_weight[0])
    known = ~np.isnan(weights)
    assert (weights[known] <= (1 + 1e-9) / alpha).all()
    # A weight tells its share: w = over / (candidates x share).
    share = over[0] / (candidates * weights)
    expected, total = float((share * weights * value)[known].sum()), float(share[known].sum())
    assert total <= 1 + 1e-9
    assert expected == pytest.approx(float((over[0] * value)[known].sum()) / candidates)
    if known.all():
        assert total == pytest.approx(1)


class At:
    """A generator that always says u."""

    def __init__(self, u: float) -> None:
        self.u = u

    def random(self, shape: tuple[int, int]) -> Any:
        return np.full(shape, self.u)
