"""Where a fault dies."""

from __future__ import annotations

from enum import IntEnum


class Stage(IntEnum):
    """The first stage at which the faulty run is bit-identical to golden again; NONE: the output differs."""

    DEAD = 0
    ARRAY = 1
    REQUANT = 2
    CLAMP = 3
    NETWORK = 4
    NONE = 5
