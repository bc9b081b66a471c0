"""How many outputs sit at the ends of the int8 range, and whether that loses anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emulator.campaign.validation.layers import Output


@dataclass(slots=True, kw_only=True)
class Saturation:
    """Outputs of one layer over the samples. high, low: clipped from beyond that end, which loses information;
    relu: clipped at a lower end that is the real zero, as a ReLU does on purpose."""

    values: int = 0
    high: int = 0
    low: int = 0
    relu: int = 0

    def add(self, output: Output) -> None:
        """One sample."""
        below = int((output.unclipped < output.low).sum())
        self.high += int((output.unclipped > output.high).sum())
        self.relu += below if output.relu else 0
        self.low += 0 if output.relu else below
        self.values += output.values.size

    def to_json(self) -> dict[str, Any]:
        shares = {"high": self.high, "low": self.low, "relu": self.relu}
        return {f"saturated_{end}_share": count / max(1, self.values) for end, count in shares.items()}
