"""Draws of disjoint kinds of events, at known rates, with weights like those of a campaign."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import hansen_hurwitz

Floats = npt.NDArray[np.float64]
DRAWS = 4000

ALIKE = (1.0,)
FORESEEN = (*np.geomspace(0.05, 0.4, 17), 2.0, 2.0, 2.0)
"""Of events a score knows most, and is blind to 15 %."""
GUESSED = (*np.geomspace(0.1, 1.0, 10), *np.geomspace(1.2, 2.0, 10))
"""Of events that a score knows little of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """`DRAWS` trials: of each the kind of its event (the last: none) and its weight."""

    kind: npt.NDArray[np.intp]
    weight: Floats

    def rate(self, *kinds: int) -> Estimate:
        """Of events of these kinds."""
        heaviest = 1.0 if np.all(self.weight == 1) else 2.0
        return hansen_hurwitz(np.isin(self.kind, kinds), self.weight, max_weight=heaviest)


def simulated(
    expected: tuple[float, ...], weights: tuple[tuple[float, ...], ...], count: int
) -> Iterator[Draws]:
    """expected (kinds,): DRAWS x rate of each. weights (kinds,): those of its sites, as many of each in the population,
    so drawn 1 / weight as often."""
    chances = [np.full(len(w), rate / DRAWS / len(w)) / w for rate, w in zip(expected, weights, strict=True)]
    chance = np.concatenate(chances)
    # Sites without an event make up for the rest of both distributions.
    left = 1 - chance.sum()
    assert left > 0
    kind = np.repeat(np.arange(len(weights) + 1), [*map(len, weights), 1])
    others = min(2.0, (1 - sum(expected) / DRAWS) / left)
    weight = np.array([*(w for one in weights for w in one), others])
    rng = np.random.default_rng(0)
    for _ in range(count):
        drawn = rng.choice(len(kind), DRAWS, p=[*chance, left])
        yield Draws(kind=kind[drawn], weight=weight[drawn])
