"""When dead sites may be left out though many are struck: against the cycle engine with all of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from array_layers import DATAFLOWS, Layer, layer_of, struck_layers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from emulator.array.data_path import STATIONARY_AND_SUMS, STREAMED, dead_stay_dead
from emulator.array.exposure import Sites
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec, Dataflow
from emulator.array.upset import Upset
from emulator.gemm import GemmShape


def upsets_of(
    layer: Layer, names: frozenset[str], rng: np.random.Generator
) -> tuple[list[Upset], list[bool]]:
    """Up to 30 of each register class, and which are live."""
    upsets, live = [], []
    for reg in inventory(layer.plan.spec):
        if reg.name not in names or not reg.total_bits:
            continue
        count = int(rng.integers(31))
        # Memories are large, and most of them is never used.
        word = rng.integers(0, reg.total_bits if rng.random() < 0.5 else min(reg.total_bits, 500), count)
        at = Sites(*reg.place(word), rng.integers(0, layer.plan.window_cycles, count))
        live += (reg.lifetime.offset(layer.plan, at)[1] >= 0).tolist()
        upsets += [
            Upset(register=reg.name, row=row, col=col, bits=(bit,), cycle=cycle)
            for row, col, bit, cycle in zip(*(column.tolist() for column in at), strict=True)
        ]
    return upsets, live


@pytest.mark.parametrize("names", [STREAMED, STATIONARY_AND_SUMS], ids=["streamed", "stationary and sums"])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
@given(data=st.data())
@settings(max_examples=60)
def test_on_one_side_of_the_multipliers_only_live_sites_matter(
    dataflow: Dataflow, names: frozenset[str], data: st.DataObject
) -> None:
    layer = data.draw(struck_layers(dataflow))
    upsets, live = upsets_of(layer, names, np.random.default_rng(data.draw(st.integers(0, 1 << 30))))
    assume(not all(live))
    assert dead_stay_dead(upset.register for upset in upsets)
    every = layer.run(*upsets)
    some = layer.run(*(upset for upset, lives in zip(upsets, live, strict=True) if lives))
    assert np.array_equal(every.accumulator, some.accumulator)
    assert np.array_equal(every.output, some.output)
    assert every.completed_in == some.completed_in == layer.run().completed_in


def test_two_dead_operands_of_a_product_of_padding_are_alive_together() -> None:
    # Row 3 of the array holds no weights, and is fed zeros.
    layer = layer_of(ArraySpec(rows=4, cols=2, psum_bits=18, acc_rows=8), GemmShape(m=5, k=3, n=2))
    right, met = layer.run().accumulator, 0
    for cycle, passing in product(range(0, layer.plan.window_cycles, 3), range(layer.plan.window_cycles)):
        stationary = Upset(register="pe_c1", row=3, col=0, bits=(2,), cycle=cycle)
        streamed = Upset(register="pe_a", row=3, col=0, bits=(1,), cycle=passing)
        for alone in (stationary, streamed):
            assert np.array_equal(layer.run(alone).accumulator, right)
        met += not np.array_equal(layer.run(stationary, streamed).accumulator, right)
    assert met
    assert not dead_stay_dead(["pe_c1", "pe_a"])


def test_control_is_on_neither_side() -> None:
    names = {reg.name for reg in inventory(ArraySpec.preset("gemmini-16"))}
    assert names >= STREAMED | STATIONARY_AND_SUMS and not STREAMED & STATIONARY_AND_SUMS
    assert dead_stay_dead(["accumulator", "wgt_buffer"]) and dead_stay_dead(["act_buffer"])
    for control in ("pe_valid", "write_mask", "pe_shift", "seq_act_address", "requant_row"):
        assert not dead_stay_dead(["accumulator", control])
