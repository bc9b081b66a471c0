"""Upsets of the array on layers that are no plain convolution: the closed form is the cycle engine on computed
operands, raw accumulators, 16-bit activations and weights with a zero point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from format_models import FORMATS
from oracle import saved

from emulator.array.cycle import replay_layer
from emulator.array.spec import ArraySpec
from emulator.errors import BadConfig
from emulator.faults.fault import FaultBatch
from emulator.faults.plan import plan_of
from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.faults.strike import operands, strike_by_cycles
from emulator.faults.strikes import ENGINES
from emulator.graph.golden import Golden
from emulator.graph.load import load
from emulator.propagate.propagator import Propagator

NARROW = ArraySpec(name="tiny", rows=3, cols=2, acc_rows=8, act_buffer_rows=40, wgt_buffer_rows=40)
WIDE = replace(NARROW, act_bits=16, psum_bits=32)


def array_for(name: str) -> ArraySpec:
    return WIDE if name.startswith("16-bit") else NARROW


@pytest.mark.parametrize("name", FORMATS)
def test_the_array_computes_every_layer_of_every_format(name: str, tmp_path: Path) -> None:
    """Cycle by cycle, without a fault: the golden accumulators."""
    made = FORMATS[name]()
    golden = Golden(load(saved(made.model, tmp_path)).graph)
    run = golden.run(made.sample)
    for index, layer in enumerate(golden.graph.layers):
        replay = replay_layer(plan_of(array_for(name), layer), operands(golden, run, index))
        np.testing.assert_array_equal(replay.accumulator, golden.accumulator(run, index), err_msg=layer.name)


@pytest.mark.parametrize("name", FORMATS)
def test_the_closed_form_is_the_cycle_engine(name: str, tmp_path: Path) -> None:
    """Live faults of all registers, each solved at once and once more alone, clock by clock; the errors are the same
    accumulators, and lead to the answer of a whole second inference."""
    made, array = FORMATS[name](), array_for(name)
    network = load(saved(made.model, tmp_path))
    golden = Golden(network.graph)
    image = golden.run(made.sample)
    faults = spread(FaultSpace(network, array), np.random.default_rng(7), 240)
    strikes = strike(golden, image, array, faults)
    effects = Propagator(golden).run(image, faults.layer, strikes.errors)
    closed = moved = 0
    for i, upset in enumerate(faults.upsets(array)):
        layer = int(faults.layer[i])
        alone = strike_by_cycles(golden, image, array, layer, [(upset,)])
        effect = Propagator(golden).run(image, np.array([layer]), alone.errors)
        assert alone.hang[0] == strikes.hang[i]
        assert effect.logits[0].tobytes() == effects.logits[i].tobytes(), upset
        assert effect.corrupted[0] == effects.corrupted[i], upset
        part = slice(strikes.ptr[i], strikes.ptr[i + 1])
        # Behind the accumulators the engine reports only what the requantiser lets through.
        if ENGINES[strikes.engine[i]] == "closed-form" and not upset.register.startswith("requant"):
            columns = golden.graph.layers[layer].columns
            order = [
                np.argsort(s.m[p] * columns + s.n[p]) for s, p in ((strikes, part), (alone, slice(None)))
            ]
            for field in ("m", "n", "delta"):
                ours, theirs = getattr(strikes, field)[part][order[0]], getattr(alone, field)[order[1]]
                np.testing.assert_array_equal(
                    ours.astype(np.int32), theirs.astype(np.int32), err_msg=str(upset)
                )
            again = golden.rerun(image, layer, strikes.m[part], strikes.n[part], strikes.delta[part])
            assert golden.logits(again).tobytes() == effects.logits[i].tobytes(), upset
            closed += 1
        moved += bool(effects.corrupted[i])
    assert closed > 80 and moved > 20


def spread(space: FaultSpace, rng: np.random.Generator, count: int) -> FaultBatch:
    """Live faults, every stratum alike, so that no layer and no register is missed."""
    alive = [i for i, stratum in enumerate(space.strata) if stratum.live]
    ends = np.cumsum([stratum.live for stratum in space.strata])
    chosen = np.resize(rng.permutation(alive), count)
    live = np.array([space.strata[i].live for i in chosen])
    return space.live_faults(ends[chosen] - 1 - rng.integers(0, live))


def test_sixteen_bit_activations_need_an_array_that_has_them(tmp_path: Path) -> None:
    network = load(saved(FORMATS["16-bit Conv"]().model, tmp_path))
    with pytest.raises(BadConfig, match=r"streams 16-bit activations.*act_bits=16"):
        FaultSpace(network, NARROW)
    assert FaultSpace(network, WIDE).live > 0
