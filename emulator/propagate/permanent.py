"""Networks whose MAC layers are computed whole, with upsets: faults that last, in every tile of every layer, and
several at once, each layer fed what the one before made of them.

The dense path: in closed form where all struck registers of a layer have one, else by the cycle engine. Nothing is
sparse about a stuck bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emulator.array.closed_form import forced_accumulator, has_forced_form
from emulator.array.cycle import replay_layer
from emulator.array.registers import check_upset
from emulator.array.spec import ArraySpec
from emulator.array.upset import FLIP, Upset
from emulator.errors import BadConfig
from emulator.faults.plan import plan_of
from emulator.faults.strike import operands
from emulator.faults.strikes import CLOSED_FORM, CYCLE
from emulator.graph.golden import Golden, Inference
from emulator.graph.qgraph import Sample

Layer = tuple[npt.NDArray[np.int32], npt.NDArray[np.int8] | None]

# What computes a layer that is not struck.
FAULT_FREE = "fault-free"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PermanentRun:
    """inference: every tensor and accumulator; after a hang those before it. engines: what computed each MAC layer
    that ran. hang: the layer that never completed (DUE), None if all did."""

    inference: Inference = field(repr=False)
    engines: tuple[str, ...]
    hang: int | None


class _Hang(Exception):
    """A layer did not complete."""

    def __init__(self, inference: Inference) -> None:
        self.inference = inference


def run_permanent(
    golden: Golden,
    sample: Sample,
    array: ArraySpec,
    upsets: Sequence[Upset],
    engine: str | None = None,
) -> PermanentRun:
    """One sample, without the batch dimension, with `upsets` acting in every layer: stuck-ats, or windows of cycles
    counted from the start of each layer.

    engine: "closed-form" or "cycle" for all layers; None takes the closed form where there is one. Raises BadConfig
    for flips, places outside the array, and a closed form that there is not.
    """
    for upset in upsets:
        if upset.kind == FLIP:
            raise BadConfig(
                f"{upset}: a flip does not last; allowed: stuck-at-0, stuck-at-1. Use run_struck."
            )
    return run_struck(golden, sample, array, dict.fromkeys(range(len(golden.graph.layers)), upsets), engine)


def run_struck(
    golden: Golden,
    sample: Sample,
    array: ArraySpec,
    upsets: Mapping[int, Sequence[Upset]],
    engine: str | None = None,
) -> PermanentRun:
    """The same with upsets of any kind, those of each MAC layer by its index; a layer without any is fault-free."""
    if not any(upsets.values()):
        raise BadConfig("no upsets; allowed: one or more. Name what is struck.")
    for upset in {upset for together in upsets.values() for upset in together}:
        check_upset(array, upset)
    engines: list[str] = []

    def on_array(inference: Inference, layer: int) -> Layer:
        together = upsets.get(layer, ())
        solved = has_forced_form(plan_of(array, golden.graph.layers[layer]), together)
        if engine == CLOSED_FORM and not solved:
            raise BadConfig(
                f"{together[0]} and the others have no closed form together. Use the cycle engine."
            )
        by_cycles = bool(together) and (engine == CYCLE or not solved)
        engines.append(CYCLE if by_cycles else CLOSED_FORM if together else FAULT_FREE)
        return (_on_cycles if by_cycles else _forced)(golden, inference, array, layer, together)

    try:
        inference = golden.run_on(sample, on_array)
    except _Hang as hang:
        return PermanentRun(inference=hang.inference, engines=tuple(engines), hang=len(engines) - 1)
    return PermanentRun(inference=inference, engines=tuple(engines), hang=None)


def _forced(
    golden: Golden, inference: Inference, array: ArraySpec, layer: int, upsets: Sequence[Upset]
) -> Layer:
    mac = golden.graph.layers[layer]
    plan = plan_of(array, mac)
    accumulator = forced_accumulator(plan, operands(golden, inference, layer), upsets)
    return accumulator, None


def _on_cycles(
    golden: Golden, inference: Inference, array: ArraySpec, layer: int, upsets: Sequence[Upset]
) -> Layer:
    mac = golden.graph.layers[layer]
    plan = plan_of(array, mac)
    replay = replay_layer(plan, operands(golden, inference, layer), upsets, mac.requantisation)
    if replay.completed_in is None:
        raise _Hang(inference)
    return replay.accumulator, None if mac.requantisation is None else replay.output.astype(np.int8)
