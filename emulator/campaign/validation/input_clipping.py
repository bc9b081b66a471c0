"""How many values of the inputs their first scale can't hold: what is lost before any layer runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.graph.input_quantisers import InputQuantiser


@dataclass(slots=True, kw_only=True)
class InputClipping:
    """Values of one quantised input over the samples. high, low: those beyond that end of its range."""

    quantiser: InputQuantiser
    values: int = 0
    high: int = 0
    low: int = 0

    def add(self, values: npt.NDArray[np.floating[Any]]) -> None:
        """Some samples, as the quantiser reads them."""
        high, low = self.quantiser.clipped(values)
        self.high += high
        self.low += low
        self.values += values.size

    def to_json(self) -> dict[str, Any]:
        lowest, highest = self.quantiser.range
        return {
            "name": self.quantiser.name,
            "lowest": lowest,
            "highest": highest,
            "saturated_high_share": self.high / self.values,
            "saturated_low_share": self.low / self.values,
        }
