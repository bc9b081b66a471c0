"""Faults that last: the same upsets in every tile of every layer, each layer fed what the one before made of them.

The dense path: MAC layers are computed whole, in closed form where all struck registers have one, else by the
cycle engine. Nothing is sparse about a stuck bit.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from emulator.faults.strike import CLOSED_FORM, CYCLE, operands
from emulator.graph.golden import Golden, Inference

Layer = tuple[npt.NDArray[np.int32], npt.NDArray[np.int8] | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PermanentRun:
    """inference: every tensor and accumulator, None after a hang. engines: what computed each MAC layer that ran.
    hang: the layer that never completed (DUE), None if all did."""

    inference: Inference | None = field(repr=False)
    engines: tuple[str, ...]
    hang: int | None


class _Hang(Exception):
    """A layer did not complete."""


def run_permanent(
    golden: Golden,
    image: npt.NDArray[np.float32],
    array: ArraySpec,
    upsets: Sequence[Upset],
    engine: str | None = None,
) -> PermanentRun:
    """One image, float32 without the batch dimension, with `upsets` acting in every layer: stuck-ats, or windows
    of cycles counted from the start of each layer.

    engine: "closed-form" or "cycle" for all layers; None takes the closed form where there is one. Raises BadConfig
    for flips, places outside the array, and a closed form that there is not.
    """
    _check(array, upsets)
    engines: list[str] = []

    def on_array(inference: Inference, layer: int) -> Layer:
        plan = plan_of(array, golden.graph.layers[layer])
        solved = has_forced_form(plan, upsets)
        if engine == CLOSED_FORM and not solved:
            raise BadConfig(f"{upsets[0]} and the others have no closed form together. Use the cycle engine.")
        by_cycles = engine == CYCLE or not solved
        engines.append(CYCLE if by_cycles else CLOSED_FORM)
        return (_on_cycles if by_cycles else _forced)(golden, inference, array, layer, upsets)

    try:
        inference = golden.run_on(image, on_array)
    except _Hang:
        return PermanentRun(inference=None, engines=tuple(engines), hang=len(engines) - 1)
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
        raise _Hang
    return replay.accumulator, None if mac.requantisation is None else replay.output.astype(np.int8)


def _check(array: ArraySpec, upsets: Sequence[Upset]) -> None:
    for upset in upsets:
        check_upset(array, upset)
        if upset.kind == FLIP:
            raise BadConfig(f"{upset}: a flip does not last; allowed: stuck-at-0, stuck-at-1. Use strike.")
    if not upsets:
        raise BadConfig("no upsets; allowed: one or more. Name what is stuck.")
