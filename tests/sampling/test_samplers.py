"""One test for every sampler: right on average against an exhaustive table, whatever its scores are."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emulator.campaign.trial import judge_faults
from emulator.errors import BadConfig
from emulator.faults.fault import FaultBatch, joined_faults
from emulator.faults.space import FaultSpace
from emulator.sampling.adaptive import Adaptive
from emulator.sampling.baselines import BitOnly, Gradient, ISimDL, ProgressiveBitSearch
from emulator.sampling.importance import Importance
from emulator.sampling.past import Past, no_past
from emulator.sampling.rng import rng_for
from emulator.sampling.sampler import SampledFaults, Sampler
from emulator.sampling.stratified import Stratified
from emulator.sampling.uniform import Uniform
from emulator.sampling.workbench import Workbench

IMAGES = 10
DRAWS = 10_000

SAMPLERS: list[Sampler] = [
    Uniform(),
    Importance(),
    Importance(learn=True),
    Stratified(),
    Adaptive(),
    BitOnly(),
    ISimDL(),
    Gradient(),
    ProgressiveBitSearch(),
    Importance(alpha=0.1, candidates=8, lookahead=0),
    Importance(alpha=0.5, candidates=3, lookahead=1, floor=0.2),
    Importance(alpha=1.0, candidates=2),
    Importance(alpha=0.3, candidates=1),
    Importance(lookahead=0, sensitivity="finite-difference"),
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Every live site of every image: sites ascending by index, their faults, sdc1 (images, sites)."""

    bench: Workbench
    sites: npt.NDArray[np.int64]
    faults: FaultBatch
    sdc1: npt.NDArray[np.bool_]

    def look_up(self, drawn: SampledFaults) -> npt.NDArray[np.bool_]:
        column = np.searchsorted(self.sites, np.array(self.bench.space.indices(drawn.faults)))
        found: npt.NDArray[np.bool_] = self.sdc1[drawn.image, column]
        return found


def new_bench(digits: Any) -> Workbench:
    space = FaultSpace(digits.network, digits.array, registers=["pe_a", "pe_b"], layers=["conv1", "fc"])
    return Workbench(digits.network, digits.array, space, digits.inputs[:IMAGES])


@pytest.fixture(scope="module")
def table(digits: Any) -> Table:
    bench = new_bench(digits)
    faults = bench.space.live_faults(np.arange(bench.space.live))
    order = np.argsort(np.array(bench.space.indices(faults)), kind="stable")
    sdc1 = np.stack([judge_faults(bench, image, faults)["sdc1"] for image in range(IMAGES)])
    sites = np.array(bench.space.indices(faults))[order]
    assert 0.001 < sdc1.mean() < 0.1
    return Table(bench=bench, sites=sites, faults=faults[order], sdc1=sdc1[:, order])


@pytest.fixture(scope="module", params=SAMPLERS, ids=repr)
def drawn(request: pytest.FixtureRequest, table: Table) -> tuple[Sampler, SampledFaults]:
    """Ten chunks of draws; those of a sampler that learns look back at the ones before them, by fives."""
    sampler = request.param
    chunks: list[SampledFaults] = []
    for chunk in range(10):
        past = past_of(table, chunks[: chunk - chunk % 5])
        chunks.append(sampler.draw(table.bench, rng_for(99, chunk), DRAWS // 10, past))
    return sampler, joined(chunks)


def joined(chunks: list[SampledFaults]) -> SampledFaults:
    return SampledFaults(
        image=np.concatenate([chunk.image for chunk in chunks]),
        faults=joined_faults([chunk.faults for chunk in chunks]),
        log_weight=np.concatenate([chunk.log_weight for chunk in chunks]),
        score=np.concatenate([chunk.score for chunk in chunks]),
    )


def past_of(table: Table, chunks: list[SampledFaults]) -> Past:
    if not chunks:
        return no_past()
    sample = joined(chunks)
    weight = np.exp(sample.log_weight)
    return Past(image=sample.image, faults=sample.faults, critical=table.look_up(sample), weight=weight)


def z_score(values: npt.NDArray[Any], truth: float) -> float:
    return float((values.mean() - truth) / (values.std(ddof=1) / np.sqrt(len(values))))


def test_the_weighted_mean_is_the_exhaustive_rate(table: Table, drawn: tuple[Sampler, SampledFaults]) -> None:
    _, sample = drawn
    weighted = np.exp(sample.log_weight) * table.look_up(sample)
    assert weighted.any()
    assert abs(z_score(weighted, table.sdc1.mean())) < 3


def test_every_share_of_the_population_is_met(table: Table, drawn: tuple[Sampler, SampledFaults]) -> None:
    """Images, bits and a property no score knows: the weighted share is the share among all live sites."""
    _, sample = drawn
    weight = np.exp(sample.log_weight)
    for image in range(IMAGES):
        assert abs(z_score(weight * (sample.image == image), 1 / IMAGES)) < 3.5
    for name in ("bit", "layer", "register"):
        for value in np.unique(getattr(table.faults, name)):
            truth = (getattr(table.faults, name) == value).mean()
            assert abs(z_score(weight * (getattr(sample.faults, name) == value), truth)) < 3.5
    odd = np.array(table.bench.space.indices(sample.faults)) * 2654435761 % 1000 < 300
    truth = (table.sites * 2654435761 % 1000 < 300).mean()
    assert abs(z_score(weight * odd, float(truth))) < 3.5


def test_weights_average_one_and_are_bounded(drawn: tuple[Sampler, SampledFaults]) -> None:
    sampler, sample = drawn
    weight = np.exp(sample.log_weight)
    assert weight.max() <= sampler.max_weight * (1 + 1e-9)
    assert weight.min() > 0
    if weight.std() > 0:
        assert abs(z_score(weight, 1.0)) < 3
    else:
        np.testing.assert_allclose(weight, 1.0)


def test_only_live_sites_of_the_space_are_drawn(table: Table, drawn: tuple[Sampler, SampledFaults]) -> None:
    _, sample = drawn
    assert np.isin(table.bench.space.indices(sample.faults), table.sites).all()
    assert ((sample.image >= 0) & (sample.image < IMAGES)).all()


def test_the_alpha_of_a_mixture_bounds_its_weights() -> None:
    for sampler in SAMPLERS:
        alpha = sampler.settings().get("alpha", 1.0)
        assert isclose(sampler.max_weight, 1 / alpha)


def equal(a: SampledFaults, b: SampledFaults) -> bool:
    return (
        np.array_equal(a.image, b.image)
        and np.array_equal(a.log_weight, b.log_weight)
        and all(np.array_equal(getattr(a.faults, n), getattr(b.faults, n)) for n in a.faults.__slots__)
    )


@pytest.mark.parametrize("sampler", SAMPLERS[:9], ids=repr)
def test_draws_depend_on_seed_and_chunk_alone(digits: Any, sampler: Sampler) -> None:
    bench = new_bench(digits)
    first = sampler.draw(bench, rng_for(5, 2), 120, no_past())
    others = [
        sampler.draw(bench, rng_for(seed, chunk), 120, no_past()) for seed, chunk in ((5, 3), (6, 2), (2, 5))
    ]
    assert equal(first, sampler.draw(bench, rng_for(5, 2), 120, no_past()))
    assert equal(first, sampler.draw(new_bench(digits), rng_for(5, 2), 120, no_past()))
    assert not any(equal(first, other) for other in others)


def test_layers_alike_where_a_layer_has_no_live_site(digits: Any) -> None:
    space = FaultSpace(digits.network, digits.array, registers=["pe_c2"])
    assert any(stratum.live == 0 for stratum in space.strata)
    bench = Workbench(digits.network, digits.array, space, digits.inputs[:IMAGES])
    drawn = ISimDL().draw(bench, rng_for(0, 0), 50, no_past())
    assert np.isin(drawn.faults.layer, [s.layer for s in space.strata if s.live]).all()


def test_importance_finds_more_of_what_is_critical(table: Table) -> None:
    found = {
        sampler.name: table.look_up(sampler.draw(table.bench, rng_for(1, 0), 3000, no_past())).mean()
        for sampler in (Uniform(), Importance())
    }
    assert found["importance"] > 3 * found["uniform"]


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"alpha": 1.5}, {"candidates": 0}, {"lookahead": -1}, {"floor": 0.0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadConfig, match="allowed"):
        Importance(**wrong)  # type: ignore[arg-type]
