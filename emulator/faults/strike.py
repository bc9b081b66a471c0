"""Fault to sparse accumulator error: the closed form where there is one, else the cycle engine."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emulator.array.closed_form import AccumulatorErrors, accumulator_errors
from emulator.array.cycle import replay_layer
from emulator.array.operands import Operands
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.array.tiling import schedule
from emulator.faults.fault import Fault, FaultBatch
from emulator.graph.golden import Golden, Inference

Ints = npt.NDArray[np.int64]

CLOSED_FORM = "closed-form"
CYCLE = "cycle"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strikes:
    """Accumulator errors of many faults on one image: fault f adds delta[ptr[f]:ptr[f + 1]] to [m, n] of the
    layer it strikes. before, after: the register's value around the flip (0 where the site is dead)."""

    ptr: Ints = field(repr=False)
    m: Ints = field(repr=False)
    n: Ints = field(repr=False)
    delta: Ints = field(repr=False)
    before: Ints = field(repr=False)
    after: Ints = field(repr=False)


def operands(golden: Golden, image: Inference, layer: int) -> Operands:
    """What the array multiplies in MAC layer `layer` of this image."""
    mac = golden.graph.layers[layer]
    return Operands(act=golden.streamed(image, layer), wgt=mac.weight, bias=mac.bias)


def strike(golden: Golden, image: Inference, array: ArraySpec, faults: FaultBatch) -> Strikes:
    """Every fault's errors by the closed form, in the order of `faults`."""
    registers = inventory(array)
    parts: list[AccumulatorErrors] = []
    order: list[npt.NDArray[np.intp]] = []
    for layer in np.unique(faults.layer).tolist():
        plan = schedule(array, golden.graph.layers[layer].shape)
        streamed = operands(golden, image, layer)
        in_layer = np.flatnonzero(faults.layer == layer)
        for code in np.unique(faults.register[in_layer]).tolist():
            chosen = in_layer[faults.register[in_layer] == code]
            parts.append(accumulator_errors(plan, streamed, registers[code], faults[chosen].sites))
            order.append(chosen)
    return _in_order(parts, np.concatenate(order), len(faults))


def _in_order(parts: list[AccumulatorErrors], order: npt.NDArray[np.intp], count: int) -> Strikes:
    """Batches laid end to end, then sorted back into the order in which the faults were asked for."""
    sizes = np.empty(count, np.int64)
    sizes[order] = np.concatenate([np.diff(part.ptr) for part in parts])
    ptr = np.concatenate([[0], np.cumsum(sizes)])
    taken = np.concatenate([np.diff(part.ptr) for part in parts])
    within = np.arange(ptr[-1]) - np.repeat(np.cumsum(taken) - taken, taken)
    place = np.repeat(ptr[order], taken) + within
    m, n, delta = (np.empty(ptr[-1], np.int64) for _ in range(3))
    before, after = np.empty(count, np.int64), np.empty(count, np.int64)
    for out, name in ((m, "m"), (n, "n"), (delta, "delta")):
        out[place] = np.concatenate([getattr(part, name) for part in parts])
    before[order] = np.concatenate([part.before for part in parts])
    after[order] = np.concatenate([part.after for part in parts])
    return Strikes(ptr=ptr, m=m, n=n, delta=delta, before=before, after=after)


def strike_by_cycles(golden: Golden, image: Inference, array: ArraySpec, fault: Fault) -> Strikes:
    """One fault's errors by replaying its whole layer cycle by cycle: any register, any kind, no shortcut."""
    plan = schedule(array, golden.graph.layers[fault.layer].shape)
    replay = replay_layer(plan, operands(golden, image, fault.layer), (fault.upset,))
    expected = golden.accumulator(image, fault.layer)
    m, n = np.nonzero(replay.accumulator != expected)
    change = replay.accumulator[m, n].astype(np.int64) - expected[m, n]
    nothing = np.zeros(1, np.int64)
    return Strikes(ptr=np.array([0, len(m)]), m=m, n=n, delta=change, before=nothing, after=nothing)
