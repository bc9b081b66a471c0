"""Live sites: the offsets are a bijection, and a brute-force walk over every site finds the same ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emulator.array.exposure import Sites
from emulator.array.registers import Register, inventory
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule, schedule
from emulator.gemm import GemmShape

# Buffers of four tiles: longer layers load theirs again and again.
SMALL = ArraySpec(rows=4, cols=3, acc_rows=6, psum_bits=18, act_buffer_rows=16, wgt_buffer_rows=16)
ARRAYS = [
    SMALL,
    replace(SMALL, dataflow="is", requantiser="fixed-point"),
    replace(SMALL, dataflow="os", acc_rows=9),
    replace(SMALL, dataflows="ws", bank_bits=8),
]
SHAPES = [GemmShape(m=5, k=9, n=2, groups=3), GemmShape(m=14, k=13, n=7), GemmShape(m=1, k=1, n=1)]


def every_site(plan: Schedule, reg: Register) -> Sites:
    row, col, bit = reg.place(np.arange(reg.total_bits))
    cycles = plan.window_cycles
    every = (np.tile(x, cycles) for x in (row, col, bit))
    return Sites(*every, np.repeat(np.arange(cycles), reg.total_bits))


@pytest.mark.parametrize("requantised", [True, False], ids=["requantised", "raw"])
@pytest.mark.parametrize("shape", SHAPES, ids=repr)
@pytest.mark.parametrize("spec", ARRAYS, ids=lambda spec: f"{spec.dataflow}-{spec.dataflows}")
def test_live_sites_are_counted_exactly_once(spec: ArraySpec, shape: GemmShape, requantised: bool) -> None:
    plan = schedule(spec, shape, requantised=requantised)
    for reg in inventory(spec):
        count = reg.lifetime.count(plan)
        assert count.shape == (plan.folds,) and (count >= 0).all(), reg.name
        if count.sum() > 0:
            fold = np.repeat(np.arange(plan.folds), count)
            offset = np.concatenate([np.arange(c) for c in count])
            at = reg.lifetime.site(plan, fold, offset)
            back_fold, back_offset = reg.lifetime.offset(plan, at)
            assert np.array_equal(back_fold, fold) and np.array_equal(back_offset, offset), reg.name
        every = every_site(plan, reg)
        assert (reg.lifetime.offset(plan, every)[1] >= 0).sum() == count.sum(), reg.name


@pytest.mark.parametrize("spec", [*ARRAYS, ArraySpec.preset("gemmini-16")], ids=lambda spec: spec.dataflow)
def test_a_bit_of_a_class_is_one_place_in_it(spec: ArraySpec) -> None:
    for reg in inventory(spec):
        word = np.arange(min(reg.total_bits, 100_000))
        row, col, bit = reg.place(word)
        assert np.array_equal(reg.index(row, col, bit), word), reg.name
        for i in range(0, len(word), 97):
            assert reg.check_place(int(row[i]), int(col[i]), (int(bit[i]),)) is None, reg.name


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
@pytest.mark.parametrize("spec", ARRAYS, ids=lambda spec: f"{spec.dataflow}-{spec.dataflows}")
def test_words_are_all_live_sites_of_a_fold_once(spec: ArraySpec, shape: GemmShape) -> None:
    plan = schedule(spec, shape)
    for reg in inventory(spec):
        words = reg.lifetime.words(plan)
        if reg.lifetime.count(plan).sum() == 0:
            assert words.sum() == 0, reg.name
            continue
        fold = np.repeat(np.arange(plan.folds), words)
        at, cycles = reg.lifetime.word(plan, fold, np.concatenate([np.arange(w) for w in words]))
        sizes = at.bits * cycles
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        later, bit = np.divmod(within, np.repeat(at.bits, sizes))
        row, col, first, cycle = (np.repeat(x, sizes) for x in at.sites)
        found = reg.lifetime.offset(plan, Sites(row, col, first + bit, cycle + later))
        assert np.array_equal(found[0], np.repeat(fold, sizes)), reg.name
        every = np.sort(found[0] * (sizes.sum() + 1) + found[1])
        count = reg.lifetime.count(plan)
        wanted = np.repeat(np.arange(plan.folds), count) * (sizes.sum() + 1)
        wanted += np.concatenate([np.arange(c) for c in count])
        assert np.array_equal(every, wanted), reg.name
