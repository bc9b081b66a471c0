"""Intervals that hold however often one looks: a bet against every possible rate at once.

Trials x = w y in [0, B] have the mean theta. Against a rate m one may bet b in (-1/B, inf): the capital
prod((1 + b x) / (1 + b m)) is a martingale if m is theta, so it ever grows 1/a-fold with probability a at most
(Ville's inequality). Rates against which the bets have made a fortune are out. With b > 0 that is evidence of a higher
rate, with b < 0 of a lower one. Waudby-Smith & Ramdas, JRSS B 86, 2024 (arXiv 2010.09686): hedged capital (sec. 4),
the stake spread over a grid of bets (appendix B, hgKelly), since a good bet depends on when one will stop.
"""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import Tally
from emulator.sampling.intervals import wilson_size
from emulator.sampling.observations import Floats

# The best bet on n trials is about 3 / sqrt(sum of x^2): this is that for some 400 events of weight 1, and the
# half-Cauchy prior around it leaves enough on those for 5 to 100,000.
_TYPICAL = 0.15
_BETS = _TYPICAL * 2.0 ** np.arange(-8, 10, dtype=np.float64)
_SHARES = 1 / (_BETS / _TYPICAL + _TYPICAL / _BETS)
_SHARES /= _SHARES.sum()
# Of the stake on lower rates: all but lost with the first event of weight B, best until there is one.
_ON_NO_EVENT = 0.2
_ALL_BUT_ALL = 1e6

_STEPS = 50  # halvings of an interval within [0, 1]


class ConfidenceSequence:
    """The rate from trials in parts, with an interval that may be asked for, and stopped on, at any time.

    The probability that it ever misses the rate, over all n, is 1 - confidence at most. Trials need not be independent:
    the mean of w y given all earlier trials must be the rate, as it is of a sampler that adapts to what it has seen.
    The interval depends neither on the order of the trials nor on when it was asked for. Method "betting"; value and n
    are those of `Tally`, ess is the number of uniform trials whose Wilson interval is as wide.
    """

    def __init__(self, *, max_weight: float = 1.0, confidence: float = 0.95) -> None:
        self._tally = Tally(max_weight=max_weight, confidence=confidence)
        lower = -1 / (max_weight + 1 / np.append(_BETS, _ALL_BUT_ALL / max_weight))
        self._higher = _Stake(_BETS, _SHARES)
        self._lower = _Stake(lower, np.append((1 - _ON_NO_EVENT) * _SHARES, _ON_NO_EVENT))

    def add(self, y: npt.ArrayLike, weight: npt.ArrayLike) -> None:
        """More trials: y (n,) bool or 0/1, weight (n,) in (0, max_weight]. Raises BadData for others."""
        self._tally.add(y, weight)
        events = np.asarray(weight, np.float64)[np.asarray(y, bool)]
        x = np.minimum(events, self._tally.max_weight)
        self._higher.add(x)
        self._lower.add(x)

    def estimate(self) -> Estimate:
        """The rate of all so far, at least one trial."""
        found = self._tally.estimate()
        low, high = self._ends(found.n, found.value, found.confidence)
        return replace(
            found,
            low=low,
            high=high,
            ess=wilson_size(found.value, low, high, found.confidence),
            method="betting",
        )

    def _ends(self, n: int, value: float, confidence: float) -> tuple[float, float]:
        """Of the interval after n trials whose rate is `value`."""
        fortune = log(2 / (1 - confidence))  # half of the stake is on either side
        return self._higher.end(n, fortune, value, 0.0), self._lower.end(n, fortune, value, 1.0)


def uniform_trials(half_width: float, *, rate: float = 0.5, confidence: float = 0.95) -> int:
    """About how many trials of weight 1 it takes until an interval that may be looked at any time is so narrow, where
    as many of them are events as `rate` has one expect. 0.5 is the worst case. Raises BadConfig unless both are
    between 0 and 1."""
    for name, value in {"half_width": half_width, "rate": rate}.items():
        if not 0 < value < 1:
            raise BadConfig(f"{name}={value!r}; allowed: between 0 and 1, both excluded. 0.01 is 1 %.")
    few, enough = 0, 1
    while _half_width(enough, rate, confidence) > half_width:
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        narrow = _half_width(middle, rate, confidence) <= half_width
        few, enough = (few, middle) if narrow else (middle, enough)
    return enough


def _half_width(n: int, rate: float, confidence: float) -> float:
    """After n trials of weight 1, events among them as expected."""
    sequence = ConfidenceSequence(confidence=confidence)
    sequence._higher.add_alike(n * rate)
    sequence._lower.add_alike(n * rate)
    low, high = sequence._ends(n, rate, confidence)
    return (high - low) / 2


class _Stake:
    """What bets on one side have made: `shares` of 1 on each of `bets`."""

    def __init__(self, bets: Floats, shares: Floats) -> None:
        self.bets = bets
        self.log_won = np.log(shares)

    def add(self, x: Floats) -> None:
        """Events of weight x (events,); trials without one count in n alone."""
        self.log_won += [float(np.log1p(bet * x).sum()) for bet in self.bets]

    def add_alike(self, events: float) -> None:
        """So many events of weight 1."""
        self.log_won += events * np.log1p(self.bets)

    def end(self, n: int, fortune: float, inside: float, outside: float) -> float:
        """The end of the interval of rates that are left after n trials, from `inside` it to `outside`.

        The capital is monotone in m, for so is every factor.
        """
        if inside == outside:
            return inside
        for _ in range(_STEPS):
            m = (inside + outside) / 2
            capital = np.logaddexp.reduce(self.log_won - n * np.log1p(self.bets * m))
            inside, outside = (m, outside) if capital < fortune else (inside, m)
        return outside
