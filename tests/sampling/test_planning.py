"""Sample sizes against the figures everybody quotes, and against drawing without replacement."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest
from scipy.stats import hypergeom, norm

from emulator.errors import BadConfig
from emulator.sampling.planning import margin_of_error, sample_size


@pytest.mark.parametrize(
    ("error", "confidence", "trials"), [(0.05, 0.95, 385), (0.01, 0.95, 9604), (0.01, 0.99, 16_588)]
)
def test_an_endless_population_needs_the_well_known_number(
    error: float, confidence: float, trials: int
) -> None:
    assert sample_size(1 << 70, error=error, confidence=confidence) == trials


@pytest.mark.parametrize("population", [1, 2, 10, 500, 9999, 123_456, 1 << 62, 1 << 100])
@pytest.mark.parametrize("error", [0.001, 0.01, 0.1, 0.6])
@pytest.mark.parametrize("p", [0.003, 0.5])
def test_it_is_the_smallest_number_within_the_margin(population: int, error: float, p: float) -> None:
    n = sample_size(population, error=error, p=p)
    assert 1 <= n <= population
    assert margin_of_error(n, population, p=p) <= error * (1 + 1e-9)
    if n > 1:
        assert margin_of_error(n - 1, population, p=p) > error * (1 - 1e-9)


@pytest.mark.parametrize(("n", "population", "p"), [(10, 100, 0.5), (900, 1000, 0.2), (1, 50, 0.04)])
def test_the_margin_is_the_deviation_of_the_share_in_a_sample(n: int, population: int, p: float) -> None:
    deviation = hypergeom(population, round(p * population), n).std() / n
    quantile = norm.ppf(0.975)
    assert margin_of_error(n, population, p=p) == pytest.approx(quantile * deviation)


def test_the_formula_is_the_papers() -> None:
    population, error, p = 20_000, 0.02, 0.1
    t = float(norm.ppf(0.975))
    exact = population / (1 + error**2 * (population - 1) / (t**2 * p * (1 - p)))
    assert sample_size(population, error=error, p=p) == int(np.ceil(exact))


def test_a_whole_population_has_no_margin() -> None:
    assert margin_of_error(1, 1) == margin_of_error(1 << 80, 1 << 80) == 0.0
    assert margin_of_error(100, 1 << 80) == pytest.approx(float(norm.ppf(0.975)) * sqrt(0.25 / 100))


@pytest.mark.parametrize(
    "ask",
    [
        lambda: sample_size(0, error=0.01),
        lambda: sample_size(10, error=0.0),
        lambda: sample_size(10, error=0.01, p=1.0),
        lambda: sample_size(10, error=0.01, confidence=95),
        lambda: margin_of_error(0, 10),
        lambda: margin_of_error(11, 10),
    ],
)
def test_impossible_plans_are_refused(ask: Any) -> None:
    with pytest.raises(BadConfig, match="allowed"):
        ask()
