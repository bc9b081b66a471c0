"""When a register is live: the sites (row, col, bit, cycle) at which a flip can reach a written result."""

from emulator.array.exposure.lifetime import Lifetime, Sites

__all__ = ["Lifetime", "Sites"]
