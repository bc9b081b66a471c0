"""A layer of the network as the array runs it."""

from __future__ import annotations

from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule, schedule
from emulator.graph.qgraph import MacLayer


def plan_of(array: ArraySpec, layer: MacLayer) -> Schedule:
    """Its schedule; raises BadConfig where the array can't run it."""
    return schedule(array, layer.shape, requantised=layer.requantisation is not None)
