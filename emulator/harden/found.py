"""What a search for faults has found, and what that took."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from typing import Any

from emulator.faults.fault import Fault
from emulator.sampling.estimate import Estimate, grouped


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFault:
    """A site, struck in every image: lost, right answers fewer than without it, and drop, their share of the images,
    both counted exactly; draws, how often the search came to it."""

    fault: Fault
    lost: int
    drop: float
    draws: int

    def to_json(self) -> dict[str, Any]:
        """fault: as `emulator inject --fault` takes it."""
        return {"fault": str(self.fault), "lost": self.lost, "drop": self.drop, "draws": self.draws}


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawsPerFault:
    """How many draws it takes to come to a fault that reaches the drop: 1 over the share of such draws, so inf where
    none was seen. n: draws."""

    value: float
    low: float
    high: float
    confidence: float
    n: int
    method: str

    @classmethod
    def of(cls, hits: Estimate) -> DrawsPerFault:
        """From the share of draws that came to one."""
        value, low, high = (1 / share if share > 0 else inf for share in (hits.value, hits.high, hits.low))
        return cls(value=value, low=low, high=high, confidence=hits.confidence, n=hits.n, method=hits.method)

    def to_json(self) -> dict[str, Any]:
        """Like an estimate; null for what is not bounded."""
        return {
            key: None if isinstance(value, float) and not isfinite(value) else value
            for key, value in asdict(self).items()
        }

    def __str__(self) -> str:
        if not isfinite(self.value):
            return f"more than {self.low:.3g}, n = {grouped(self.n)}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}], n = {grouped(self.n)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A search, as far as it came.

    drop, needed: what a fault had to reach, as a share of the images and in answers. accuracy: the clean one. hits: the
    share of draws that came to such a fault; rate: that of such faults among the live sites, live_share the part of all
    sites that these are. faults: distinct sites, the largest drop first. injections: sites x images that were struck,
    followed and judged; predictions: sites x pilot images that the sampler looked at without.
    """

    drop: float
    needed: int
    images: int
    accuracy: float
    sampler: dict[str, Any]
    seed: int
    draws: int
    hits: Estimate
    rate: Estimate
    live_share: float
    injections: int
    predictions: int
    seconds: float
    faults: tuple[FoundFault, ...] = field(repr=False)

    @property
    def draws_per_fault(self) -> DrawsPerFault:
        """Repeated draws of a fault count each time."""
        return DrawsPerFault.of(self.hits)

    @property
    def groups(self) -> list[list[FoundFault]]:
        """The faults of each layer, register and column, which is mostly one output channel; each group, and the first
        of all groups, with the largest drop first."""
        found: dict[tuple[int, str, int], list[FoundFault]] = {}
        for fault in self.faults:
            upset = fault.fault.upset
            found.setdefault((fault.fault.layer, upset.register, upset.col), []).append(fault)
        return list(found.values())

    def to_json(self) -> dict[str, Any]:
        """rate_live: over live sites, rate: over all."""
        plain = ("drop", "needed", "images", "accuracy", "sampler", "seed", "draws")
        return {
            **{name: getattr(self, name) for name in plain},
            "found": len(self.faults),
            "hits": self.hits.to_json(),
            "draws_per_fault": self.draws_per_fault.to_json(),
            "rate_live": self.rate.to_json(),
            "rate": self.rate.scaled(self.live_share).to_json(),
            "injections": self.injections,
            "predictions": self.predictions,
            "seconds": self.seconds,
            "faults": [fault.to_json() for fault in self.faults],
        }
