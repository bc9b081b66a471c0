"""Fault to sparse error: the closed form where there is one, else the cycle engine, by itself; each says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from emulator.array.checkpoint import LayerOnCycles, Response
from emulator.array.closed_form import AccumulatorErrors, covered, prepare
from emulator.array.operands import Operands
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.array.upset import Upset
from emulator.faults.layers_on_cycles import LayersOnCycles
from emulator.faults.plan import plan_of
from emulator.faults.strikes import CLOSED_FORM, CYCLE, ENGINES, UNSOLVED, Strikes, in_order
from emulator.faults.words import WordBlock
from emulator.graph.golden import Golden, Inference

# Of an image, as long as its inference is kept: they take longer than a few faults.
_operands: WeakKeyDictionary[Inference, dict[int, Operands]] = WeakKeyDictionary()
_layers_on_cycles = LayersOnCycles()


def operands(golden: Golden, image: Inference, layer: int) -> Operands:
    """What the array multiplies in MAC layer `layer` of this image."""
    known = _operands.setdefault(image, {})
    if layer not in known:
        known[layer] = Operands(
            act=golden.streamed(image, layer),
            wgt=golden.stationary(image, layer),
            bias=golden.bias(image, layer),
        )
    return known[layer]


def strike_words(golden: Golden, image: Inference, array: ArraySpec, block: WordBlock) -> Strikes:
    """Every flip of words of one stratum, in order."""
    layer, code = int(block.first.layer[0]), int(block.first.register[0])
    plan, entry = plan_of(array, golden.graph.layers[layer]), inventory(array)[code]
    solved = covered(plan, entry, block.first.sites, block.first.fold)
    parts, order, word = [], [], block.word
    if solved.any():
        words = block[solved]
        flips = prepare(plan, entry, words.first.sites, words.first.fold, words.bits)
        parts.append(of_closed_form(flips.errors(operands(golden, image, layer))))
        order.append(np.flatnonzero(solved[word]))
    if not solved.all():
        order.append(np.flatnonzero(~solved[word]))
        upsets = [(upset,) for upset in block.flips(order[-1]).upsets(array)]
        parts.append(strike_by_cycles(golden, image, array, layer, upsets))
    return parts[0] if len(parts) == 1 else in_order(parts, np.concatenate(order), len(word))


def strike_by_cycles(
    golden: Golden,
    image: Inference,
    array: ArraySpec,
    layer: int,
    upsets: Sequence[Sequence[Upset]],
    *,
    drained: bool = False,
) -> Strikes:
    """Faults of one layer, each one or more upsets of any register and kind, by the cycle engine.

    drained: the errors of the accumulators as they are drained, never those of requantised words, though the former do
    not explain what is written.
    """
    mac = golden.graph.layers[layer]

    def ready() -> LayerOnCycles:
        return LayerOnCycles(plan_of(array, mac), operands(golden, image, layer), mac.requantisation)

    engine = _layers_on_cycles.get(golden, image, array, layer, ready)
    parts = [_of_response(engine.strike(together), drained) for together in upsets]
    return in_order(parts, np.arange(len(parts)), len(parts))


def of_closed_form(errors: AccumulatorErrors) -> Strikes:
    names = AccumulatorErrors.__slots__
    labels = _labels(len(errors.before), ENGINES.index(CLOSED_FORM))
    return Strikes(**{name: getattr(errors, name) for name in names}, **labels)


def unsolved(count: int) -> Strikes:
    none, zeros = np.zeros(0, np.int32), np.zeros(count, np.int64)
    ptr = np.zeros(count + 1, np.int64)
    return Strikes(ptr=ptr, m=none, n=none, delta=none, before=zeros, after=zeros, **_labels(count, UNSOLVED))


def _labels(count: int, engine: int) -> dict[str, npt.NDArray[Any]]:
    return {
        "at_output": np.zeros(count, np.bool_),
        "hang": np.zeros(count, np.bool_),
        "engine": np.full(count, engine, np.int64),
    }


def _of_response(response: Response, drained: bool) -> Strikes:
    """Accumulator errors where they explain what was written or are asked for, else the errors of what was written."""
    at_output = not (response.explained or drained)
    if response.hang:
        m = n = delta = np.zeros(0, np.int64)
    elif not at_output:
        m, n, delta = response.m, response.n, response.delta
    else:
        m, n, delta = response.output_m, response.output_n, response.output_delta
    labels = _labels(1, ENGINES.index(CYCLE))
    labels["at_output"][0] = at_output
    labels["hang"][0] = response.hang
    words: dict[str, Any] = {
        "m": m.astype(np.int32),
        "n": n.astype(np.int32),
        "delta": delta.astype(np.int32),
    }
    zero = np.zeros(1, np.int64)
    return Strikes(ptr=np.array([0, len(m)]), before=zero, after=zero, **words, **labels)
