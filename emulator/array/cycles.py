"""What layers cost on an array: cycles, utilisation and time in two conventions. "gemmini" is the schedule that the
engines run (`tiling`), folds without a bubble; "scale-sim" is SCALE-Sim's count (`scale_sim`), fold after fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emulator.array.scale_sim import scale_sim_cycles
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule

GEMMINI, SCALE_SIM = CONVENTIONS = ("gemmini", "scale-sim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """cycles; utilisation: useful multiply-accumulates per PE and cycle, 0 to 1; milliseconds at the array's clock."""

    cycles: int
    utilisation: float
    milliseconds: float


def costs(plans: Sequence[Schedule]) -> dict[str, Cost]:
    """One or more layers of one array, one after the other, in each of CONVENTIONS."""
    spec, macs = plans[0].spec, sum(plan.shape.macs for plan in plans)
    cycles = {
        GEMMINI: sum(plan.cycles for plan in plans),
        SCALE_SIM: sum(scale_sim_cycles(spec.rows, spec.cols, spec.dataflow, plan.shape) for plan in plans),
    }
    return {name: _cost(spec, macs, cycles[name]) for name in CONVENTIONS}


def _cost(spec: ArraySpec, macs: int, cycles: int) -> Cost:
    utilisation = macs / (cycles * spec.rows * spec.cols)
    return Cost(cycles=cycles, utilisation=utilisation, milliseconds=1e3 * cycles / spec.clock_hz)
