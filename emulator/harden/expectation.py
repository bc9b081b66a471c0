"""What each unit is expected to contribute, from few events: its own, shrunk to those of what it lies in.

Most units are struck by no trial that matters, and those that are by one: their own events alone would call the lucky
ones worst and the others harmless (the winner's curse). Events of a unit are taken as Poisson around its rate, and its
rate as Gamma around that of the coarser unit, from everything down: empirical Bayes, Efron & Morris, JASA 70, 1975;
for rare events Clayton & Kaldor, Biometrics 43(3), 1987.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# The shape of the Gamma prior: what a coarser unit says of a part weighs as much as so many events. Parts differ by
# orders of magnitude, so it is less than one; on the bundled CNN .3 to 1 choose equally well. What everything says of a
# register or layer, where a few bits may stop all and megabytes do nothing, is worth less: .02 to .5 choose equally
# well, and the more it is the less is expected of those few bits.
PRIOR_EVENTS = 0.5
PRIOR_EVENTS_OF_ALL = 0.1

# So many events of its own tell as much of how large an event of a unit is as its coarser unit does.
EVENTS_OF_A_SIZE = 16


def expected(
    weight: Floats,
    amount: Floats,
    of: Ints,
    exposure: Floats,
    exposed: Sequence[Ints],
    struck: Sequence[Ints],
    upset: Floats | None = None,
) -> Floats:
    """(units,) the expected sum of weight x amount in each unit; all zero where no amount is, and exactly zero for what
    is not exposed.

    It is what a unit is exposed to, of which every trial tells, times what becomes of that, of which events tell.
    weight (trials,) > 0; amount (trials,) in [0, 1], 0 for no event; of (trials,) the unit that a trial struck;
    exposure (units,) >= 0 what each is exposed to, up to a factor, before any trial; upset (trials,) in [0, 1] how much
    of an upset each trial is, None: one. exposed, struck: of cuts, coarsest first, (units,) the one that a unit lies
    in, to take the exposure and the rate from one after the other; with no cut that of everything stays.
    """
    if not amount.any():
        return np.zeros(len(exposure))
    upsets = weight if upset is None else weight * upset
    exposure = _shrunk(upsets, of, exposure, exposed, PRIOR_EVENTS)
    return _shrunk(weight * amount, of, exposure, struck, PRIOR_EVENTS_OF_ALL)


def _shrunk(amount: Floats, of: Ints, size: Floats, cuts: Sequence[Ints], shape: float) -> Floats:
    """(units,) the expected sum of amounts; sums are in proportion to size (units,) as far as trials do not tell.
    shape: the events that the prior of the first cut weighs as much as."""
    prior = np.full(len(size), float(amount.sum() / size.sum()))
    event = np.full(len(size), float((amount**2).sum() / amount.sum()))
    for within in cuts:
        count = int(within.max()) + 1
        first, second = (
            np.bincount(within[of], x, count).astype(np.float64)[within] for x in (amount, amount**2)
        )
        event = _event(event, first, second)
        whole = np.bincount(within, size, count)[within]
        prior = (shape + first / event) / (shape / prior + whole / event)
        shape = PRIOR_EVENTS
    return np.asarray(size * prior, np.float64)


def _event(coarser: Floats, first: Floats, second: Floats) -> Floats:
    """(units,) the amount that stands for one event, from sums of amounts and of their squares: second / first, of
    first^2 / second events, as far as these tell.

    Weights differ by orders of magnitude, and of one unit they are alike: where a sampler looks most an event is light,
    and many of them tell as much as many heavy ones. One light event alone does not tell that others are light.
    """
    own = np.divide(second, first, out=coarser.copy(), where=first > 0)
    events = np.divide(first**2, second, out=np.zeros_like(first), where=second > 0)
    return np.asarray(coarser * (own / coarser) ** (events / (events + EVENTS_OF_A_SIZE)), np.float64)
