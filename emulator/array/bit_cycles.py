"""How much of each register class layers expose to upsets: its bit-cycles, those of them that are live, and the raw
FIT of its bits. FIT = raw FIT x AVF; the AVF is what a campaign finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emulator.array.fit import RawFit, sdc_fit
from emulator.array.registers import Register, inventory
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """bit_cycles: register bits x cycles of the fault windows; live: those in which a flip can reach a written
    result. raw_fit: FIT of all bits of the class if every upset counted, at raw_fit_per_mbit (10^6 bits)."""

    register: Register
    bit_cycles: int
    live: int
    raw_fit_per_mbit: float
    raw_fit: float

    @property
    def live_share(self) -> float:
        """0 to 1; 0 for a class without bits."""
        return self.live / self.bit_cycles if self.bit_cycles else 0.0


def exposures(spec: ArraySpec, plans: Sequence[Schedule], raw: RawFit) -> list[Exposure]:
    """Every register class of `spec`, in the order of the inventory, over these layers."""
    cycles = sum(plan.window_cycles for plan in plans)
    return [
        _exposure(
            entry, raw, entry.total_bits * cycles, sum(int(entry.lifetime.count(p).sum()) for p in plans)
        )
        for entry in inventory(spec)
    ]


def _exposure(entry: Register, raw: RawFit, bit_cycles: int, live: int) -> Exposure:
    rate = raw.fit_per_mbit(entry.name, entry.storage)
    return Exposure(
        register=entry,
        bit_cycles=bit_cycles,
        live=live,
        raw_fit_per_mbit=rate,
        raw_fit=sdc_fit(entry.total_bits, rate, (1.0, 1.0, 1.0)).value,
    )
