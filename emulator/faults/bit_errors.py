"""Upsets at a bit-error rate: each site of a fault space, a bit in a cycle, is struck with the same probability,
independently of all others, as under a lowered supply voltage or in a beam.

The number of upsets in an inference then is binomial, and given the number every set of distinct sites is as likely as
any other. An inference without upsets is known, so only those with one or more are drawn.
"""

from __future__ import annotations

from math import expm1, log1p

import numpy as np

from emulator.array.data_path import dead_stay_dead
from emulator.array.upset import Upset
from emulator.errors import BadConfig
from emulator.faults.space import FaultSpace

# Of each MAC layer that is struck.
Upsets = dict[int, list[Upset]]

MOST_UPSETS = 10_000
"""Expected in an inference; more take seconds each, and little of the network is left long before."""


class BitErrors:
    """Those of a space, at any rate: the probability that a bit flips in a cycle.

    sites: what upsets are drawn from, the live sites where dead ones do nothing even together, else all of them. Raises
    BadConfig for 2^62 sites or more.
    """

    def __init__(self, space: FaultSpace) -> None:
        self.space = space
        self.only_live = dead_stay_dead(stratum.register.name for stratum in space.strata)
        self.sites = space.live if self.only_live else space.size
        if self.sites >= 1 << 62:
            raise BadConfig(f"{self.sites} sites; allowed: below 2^62. Restrict layers or registers.")

    @property
    def highest_rate(self) -> float:
        """With MOST_UPSETS."""
        return min(MOST_UPSETS / self.sites, 0.5)

    def check(self, rate: float) -> None:
        """Raise BadConfig for a rate that is not in (0, highest_rate]."""
        if not 0 < rate <= self.highest_rate:
            raise BadConfig(
                f"bit-error rate {rate:g}: {rate * self.sites:.3g} upsets expected among {self.sites:,} sites of an "
                f"inference on {self.space.array.name!r}; allowed: above 0, up to {self.highest_rate:.3g}. Change the "
                "rate, or restrict registers or layers."
            )

    def struck(self, rate: float) -> float:
        """The probability that an inference has an upset in `sites`, or more."""
        return -expm1(self.sites * log1p(-rate))

    def draw(self, rate: float, rng: np.random.Generator) -> Upsets:
        """An inference that is struck. A layer with one upset, in a dead site, is left out, so nothing may be left."""
        index = rng.choice(self.sites, self._count(rate, rng), replace=False, shuffle=False)
        faults = (self.space.live_faults if self.only_live else self.space.faults)(index)
        struck = np.bincount(faults.layer)
        faults = faults[(struck[faults.layer] > 1) | (faults.fold >= 0)]
        upsets: Upsets = {}
        for layer, upset in zip(faults.layer.tolist(), faults.upsets(self.space.array), strict=True):
            upsets.setdefault(layer, []).append(upset)
        return upsets

    def _count(self, rate: float, rng: np.random.Generator) -> int:
        """Binomial, given that it is not 0: asked one by one, the first site that is struck has a truncated geometric
        distribution, and those behind it know nothing of it."""
        first = int(log1p(-rng.random() * self.struck(rate)) / log1p(-rate))
        return 1 + int(rng.binomial(max(0, self.sites - 1 - first), rate))
