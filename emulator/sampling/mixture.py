"""Samplers with a defensive share: q = (1 - alpha) h + alpha p, so that no weight exceeds 1 / alpha.

Owen & Zhou, JASA'00; Hesterberg, Technometrics'95.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from emulator.errors import BadConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """alpha: share of plain uniform draws."""

    alpha: float

    name: ClassVar[str]

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise BadConfig(
                f"{type(self).__name__}: alpha={self.alpha}; allowed: above 0, at most 1. Try 0.5."
            )

    @property
    def max_weight(self) -> float:
        return 1.0 / self.alpha

    def settings(self) -> dict[str, Any]:
        """What distinguishes this sampler in a manifest."""
        return {"name": self.name, **asdict(self)}
