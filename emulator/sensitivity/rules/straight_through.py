"""The choice of derivative for rounding and clipping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from emulator.errors import BadConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StraightThrough:
    """How a gradient passes a QuantizeLinear: the rounding counts as the identity, the clip as a mask.

    With u = x / scale + zero_point, in LSB, and low..high the integer range of the output:
    "hard" passes 1 where u rounds to an integer in low..high, and 0 outside;
    "soft" passes sigmoid((u - low + 0.5) / width_lsb) * sigmoid((high + 0.5 - u) / width_lsb), which keeps
    saturated units (a ReLU fused into the clip) alive over some width_lsb, so that re-activation is seen.
    """

    kind: Literal["hard", "soft"] = "hard"
    width_lsb: float = 8.0

    def __post_init__(self) -> None:
        if self.kind not in ("hard", "soft"):
            raise BadConfig(f"straight-through kind {self.kind!r}: use 'hard' or 'soft'")
        if not self.width_lsb > 0:
            raise BadConfig(f"straight-through width_lsb {self.width_lsb}: use a number of LSB above 0")
