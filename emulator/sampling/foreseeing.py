"""What samplers share that foresee the effect of every candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.faults.fault import FaultBatch
from emulator.faults.salvo import Salvo
from emulator.faults.strikes import UNSOLVED, Strikes
from emulator.sampling.mixture import Mixture
from emulator.sampling.workbench import Workbench
from emulator.sensitivity.crossing import crossing, preference_of
from emulator.sensitivity.jacobian import Sensitivity
from emulator.sensitivity.outlook import Outlook, joined_outlooks, outlook_at

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseeing(Mixture):
    """lookahead: MAC layers propagated exactly before the Jacobian takes over. floor: preference for a site that is
    predicted harmless, beside 1 for one that is surely critical. unsolved: chance of a site that only the cycle engine
    could judge (about 1 % of the live ones). sensitivity: what the Jacobian is made of, "gradient" or
    "finite-difference"."""

    lookahead: int = 2
    floor: float = 1e-4
    unsolved: float = 0.001
    sensitivity: Sensitivity = "gradient"

    def __post_init__(self) -> None:
        Mixture.__post_init__(self)
        name = type(self).__name__
        if self.lookahead < 0 or self.floor <= 0:
            raise BadConfig(
                f"{name}: lookahead={self.lookahead}, floor={self.floor}; allowed: lookahead from 0, floor above 0. "
                "Leave them out."
            )
        if self.sensitivity not in get_args(Sensitivity):
            allowed = " or ".join(map(repr, get_args(Sensitivity)))
            raise BadConfig(
                f"{name}: sensitivity={self.sensitivity!r}; allowed: {allowed}. Take one of them."
            )

    def outlook(self, bench: Workbench, image: Ints, faults: FaultBatch) -> Outlook:
        """What is foreseen of each on its image; nothing of those that only the cycle engine could judge."""
        salvo = Salvo(bench.golden, bench.array, faults, image)
        parts = []
        for volley in salvo.volleys:
            strikes = salvo.strike(bench.inference(volley.image), volley, by_cycles=False)
            parts.append(self.outlook_of(bench, volley.image, faults.layer[volley.place], strikes))
        order = np.concatenate([volley.place for volley in salvo.volleys])
        return outlook_at(joined_outlooks(parts), np.argsort(order))

    def outlook_of(self, bench: Workbench, image: int, layer: Ints, strikes: Strikes) -> Outlook:
        """The same of faults that have been struck on one image, fault f in MAC layer layer[f]."""
        found = bench.predictor(image, self.lookahead, self.sensitivity).outlook(layer, strikes)
        return found._replace(foreseen=found.foreseen & (strikes.engine != UNSOLVED))

    def chance(self, outlook: Outlook) -> Floats:
        """(faults,) predicted, that each is critical."""
        return np.where(outlook.foreseen, crossing(outlook), self.unsolved)

    def preference(self, chance: Floats) -> Floats:
        """How much each is wanted, of the same shape."""
        return preference_of(chance, self.floor)
