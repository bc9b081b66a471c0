"""How many times as large one rate is as another of the same trials."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from statistics import NormalDist

from emulator.sampling.estimate import Estimate
from emulator.sampling.ratio_of_rates import Ratio, quotient


def paired_ratio(first: Estimate, second: Estimate, *, first_only: Estimate, second_only: Estimate) -> Ratio:
    """first / second, four rates of the same independent draws and of one confidence, none of them exact.

    first_only, second_only: of events of the first and not of the second, and the reverse. A ratio R >= 1 is inside
    where 0 is in the interval of

        first - R second = first_only - second_only - (R - 1) second,

    and R < 1 where 1 / R is for the two exchanged. Each of the three rates brings the distances to the ends of its own
    interval, which combine as standard deviations do (MOVER for linear functions of proportions: Zou, Huang & Zhang,
    Comput. Stat. Data Anal. 53, 2009; for ratios: Donner & Zou, Stat. Methods Med. Res. 21, 2012). second_only is a
    part of second, so their covariance is its variance; first_only shares no event with either, covariance
    -(product of the rates) / n. What nobody saw differ has its room in the upper ends of first_only and second_only, so
    the interval is no point where all that was seen is alike.

    value is where that difference is 0: first / second, but for weighted rates on either side of 1/2, whose estimates
    don't differ by what their parts differ by. Method "paired-mover".
    """
    pair = _Pair(first=first, second=second, first_only=first_only, second_only=second_only)
    return Ratio(
        value=pair.value,
        low=1 / pair.exchanged.highest,
        high=pair.highest,
        confidence=first.confidence,
        method="paired-mover",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    first: Estimate
    second: Estimate
    first_only: Estimate
    second_only: Estimate

    @property
    def exchanged(self) -> _Pair:
        return _Pair(
            first=self.second,
            second=self.first,
            first_only=self.second_only,
            second_only=self.first_only,
        )

    @property
    def excess(self) -> float:
        """first - second."""
        return self.first_only.value - self.second_only.value

    @property
    def value(self) -> float:
        if self.excess < 0:
            return 1 / self.exchanged.value
        return 1 + quotient(self.excess, self.second.value)

    @property
    def highest(self) -> float:
        """The largest R inside."""
        constant, _, _ = self._squared_margin(1)
        if self.excess + sqrt(constant) >= 0:
            return 1 + self._root(1)
        return 1 / (1 + self.exchanged._root(-1))

    def _root(self, side: int) -> float:
        """The x >= 0 where excess - x second and its margin to the upper (1) or lower (-1) side make 0; inf where there
        is none."""
        constant, linear, square = self._squared_margin(side)
        rate = self.second.value
        # (excess - x rate)^2 = the squared margin: lead x^2 - 2 half x + last = 0.
        lead, half, last = rate**2 - square, self.excess * rate + linear, self.excess**2 - constant
        root = sqrt(max(0.0, half**2 - lead * last))
        if side < 0:
            return last / (half + root)
        return (half + root) / lead if lead > 0 else inf

    def _squared_margin(self, side: int) -> tuple[float, float, float]:
        """(c, l, s): the square of the margin of first_only - second_only - x second is c + 2 l x + s x^2."""
        first_only = _distance(self.first_only, side)
        second_only, second = _distance(self.second_only, -side), _distance(self.second, -side)
        z = NormalDist().inv_cdf((1 + self.first.confidence) / 2)
        apart = z**2 / self.first.n * self.first_only.value
        return (
            first_only**2 + second_only**2 + 2 * apart * self.second_only.value,
            second_only**2 + apart * self.second.value,
            second**2,
        )


def _distance(rate: Estimate, side: int) -> float:
    """From the rate to the upper (1) or lower (-1) end."""
    return rate.high - rate.value if side > 0 else rate.value - rate.low
