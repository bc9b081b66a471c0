"""Fault to sparse error: the closed form where there is one, else the cycle engine, by itself; each says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.checkpoint import LayerOnCycles, Response
from emulator.array.closed_form import AccumulatorErrors, accumulator_errors, covered
from emulator.array.operands import Operands
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.array.upset import Upset
from emulator.faults.fault import FaultBatch
from emulator.faults.plan import plan_of
from emulator.graph.golden import Golden, Inference

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

ENGINES = ("closed-form", "cycle")
CLOSED_FORM, CYCLE = ENGINES
UNSOLVED = -1

# Layers kept ready for the cycle engine: its golden run takes about as long as three faults.
LAYERS_KEPT = 8


class LayerErrors(NamedTuple):
    """What kernels need of Strikes."""

    ptr: Ints
    m: Ints
    n: Ints
    delta: Ints
    at_output: Flags


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strikes:
    """Errors of many faults on one image: fault f adds delta[ptr[f]:ptr[f + 1]] to [m, n] of the layer it
    strikes, to its accumulators or, where at_output, to its requantised words.

    before, after: the register's value around the flip (0 where the site is dead or the cycle engine was used).
    hang: the layer never completes (DUE), and there are no errors. engine: index into ENGINES; UNSOLVED: not
    computed, and there are no errors.
    """

    ptr: Ints = field(repr=False)
    m: Ints = field(repr=False)
    n: Ints = field(repr=False)
    delta: Ints = field(repr=False)
    before: Ints = field(repr=False)
    after: Ints = field(repr=False)
    at_output: Flags = field(repr=False)
    hang: Flags = field(repr=False)
    engine: Ints = field(repr=False)

    @property
    def errors(self) -> LayerErrors:
        """Without what only people read."""
        return LayerErrors(self.ptr, self.m, self.n, self.delta, self.at_output)


def errors_of(errors: LayerErrors, chosen: Ints) -> LayerErrors:
    """Those of some faults, in the order of `chosen`."""
    sizes = np.diff(errors.ptr)[chosen]
    ptr = np.concatenate(([0], np.cumsum(sizes)))
    at = np.arange(ptr[-1]) + np.repeat(errors.ptr[:-1][chosen] - ptr[:-1], sizes)
    return LayerErrors(ptr, errors.m[at], errors.n[at], errors.delta[at], errors.at_output[chosen])


def operands(golden: Golden, image: Inference, layer: int) -> Operands:
    """What the array multiplies in MAC layer `layer` of this image."""
    return Operands(
        act=golden.streamed(image, layer),
        wgt=golden.stationary(image, layer),
        bias=golden.bias(image, layer),
    )


def strike(
    golden: Golden, image: Inference, array: ArraySpec, faults: FaultBatch, *, by_cycles: bool = True
) -> Strikes:
    """Every fault's errors, in the order of `faults`; without by_cycles those that have no closed form are left
    UNSOLVED."""
    registers = inventory(array)
    parts: list[Strikes] = []
    order: list[npt.NDArray[np.intp]] = []
    for layer in np.unique(faults.layer).tolist():
        plan = plan_of(array, golden.graph.layers[layer])
        streamed = operands(golden, image, layer)
        in_layer = np.flatnonzero(faults.layer == layer)
        for code in np.unique(faults.register[in_layer]).tolist():
            chosen = in_layer[faults.register[in_layer] == code]
            batch = faults[chosen]
            solved = covered(plan, registers[code], batch.sites, batch.fold)
            rest, chosen = chosen[~solved], chosen[solved]
            if len(chosen):
                batch = faults[chosen]
                errors = accumulator_errors(plan, streamed, registers[code], batch.sites, batch.fold)
                parts.append(_of_closed_form(errors))
                order.append(chosen)
            if len(rest) and by_cycles:
                upsets = [(upset,) for upset in faults[rest].upsets(array)]
                parts.append(strike_by_cycles(golden, image, array, layer, upsets))
            elif len(rest):
                parts.append(_unsolved(len(rest)))
            if len(rest):
                order.append(rest)
    return _in_order(parts, np.concatenate(order), len(faults))


def strike_by_cycles(
    golden: Golden, image: Inference, array: ArraySpec, layer: int, upsets: Sequence[Sequence[Upset]]
) -> Strikes:
    """Faults of one layer, each one or more upsets of any register and kind, by the cycle engine."""
    engine = _layer_on_cycles(golden, image, array, layer)
    parts = [_of_response(engine.strike(together)) for together in upsets]
    return _in_order(parts, np.arange(len(parts)), len(parts))


@lru_cache(maxsize=LAYERS_KEPT)
def _layer_on_cycles(golden: Golden, image: Inference, array: ArraySpec, layer: int) -> LayerOnCycles:
    mac = golden.graph.layers[layer]
    return LayerOnCycles(plan_of(array, mac), operands(golden, image, layer), mac.requantisation)


def _of_closed_form(errors: AccumulatorErrors) -> Strikes:
    m, n, delta = (column.astype(np.int64) for column in (errors.m, errors.n, errors.delta))
    labels = _labels(len(errors.before), ENGINES.index(CLOSED_FORM))
    return Strikes(ptr=errors.ptr, m=m, n=n, delta=delta, before=errors.before, after=errors.after, **labels)


def _unsolved(count: int) -> Strikes:
    none, zeros = np.zeros(0, np.int64), np.zeros(count, np.int64)
    ptr = np.zeros(count + 1, np.int64)
    return Strikes(ptr=ptr, m=none, n=none, delta=none, before=zeros, after=zeros, **_labels(count, UNSOLVED))


def _labels(count: int, engine: int) -> dict[str, npt.NDArray[Any]]:
    return {
        "at_output": np.zeros(count, np.bool_),
        "hang": np.zeros(count, np.bool_),
        "engine": np.full(count, engine, np.int64),
    }


def _of_response(response: Response) -> Strikes:
    """Accumulator errors where they explain what was written, else the errors of what was written."""
    if response.hang:
        m = n = delta = np.zeros(0, np.int64)
    elif response.explained:
        m, n, delta = response.m, response.n, response.delta
    else:
        m, n, delta = response.output_m, response.output_n, response.output_delta
    labels = _labels(1, ENGINES.index(CYCLE))
    labels["at_output"][0] = not response.explained
    labels["hang"][0] = response.hang
    zero = np.zeros(1, np.int64)
    return Strikes(ptr=np.array([0, len(m)]), m=m, n=n, delta=delta, before=zero, after=zero, **labels)


def _in_order(parts: Sequence[Strikes], order: npt.NDArray[np.intp], count: int) -> Strikes:
    """Batches laid end to end, then sorted back into the order in which the faults were asked for."""
    taken = np.concatenate([np.diff(part.ptr) for part in parts])
    sizes = np.empty(count, np.int64)
    sizes[order] = taken
    ptr = np.concatenate([[0], np.cumsum(sizes)])
    within = np.arange(ptr[-1]) - np.repeat(np.cumsum(taken) - taken, taken)
    place = np.repeat(ptr[order], taken) + within
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in ("m", "n", "delta"):
        columns[name] = np.empty(ptr[-1], np.int64)
        columns[name][place] = np.concatenate([getattr(part, name) for part in parts])
    for name in ("before", "after", "at_output", "hang", "engine"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        columns[name] = np.empty_like(joined)
        columns[name][order] = joined
    return Strikes(ptr=ptr, **columns)
