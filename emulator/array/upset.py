"""What happens to one register, and when. Where in the network it happens is the business of `faults`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from emulator.errors import BadConfig

Kind = Literal["flip", "stuck-at-0", "stuck-at-1"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FLIP = KINDS[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upset:
    """Bits of one register become wrong from `cycle` on, the first cycle in which that is visible.

    A flip happens once and stays until the register is next written. A stuck-at holds in every cycle up to
    and including `until_cycle`, None means for ever. Raises BadConfig for values no array allows;
    `check_upset` in `layout` compares with a given array.
    """

    register: str
    row: int
    col: int
    bits: tuple[int, ...]
    kind: Kind = "flip"
    cycle: int = 0
    until_cycle: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadConfig(f"Upset: kind={self.kind!r}; allowed: {', '.join(KINDS)}. Change kind.")
        if not self.bits or len(set(self.bits)) != len(self.bits):
            raise BadConfig(f"Upset: bits={self.bits}; allowed: one or more distinct bits. Change bits.")
        if self.cycle < 0:
            raise BadConfig(f"Upset: cycle={self.cycle}; allowed: 0 or more. Change cycle.")
        if self.until_cycle is None:
            return
        if self.kind == FLIP:
            raise BadConfig(
                f"Upset: until_cycle={self.until_cycle} of a flip; allowed: None, a flip happens once. "
                "Leave until_cycle out, or use a stuck-at."
            )
        if self.until_cycle < self.cycle:
            raise BadConfig(
                f"Upset: until_cycle={self.until_cycle}; allowed: {self.cycle} (cycle) or more. "
                "Change until_cycle."
            )
