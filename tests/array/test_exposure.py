"""Live sites: the offsets are a bijection, and a brute-force walk over every site finds the same ones."""

import numpy as np
import pytest

from emulator.array.exposure import Sites
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.array.tiling import schedule
from emulator.gemm import GemmShape

SMALL = ArraySpec(rows=4, cols=3, acc_rows=6, psum_bits=18)
SHAPES = [GemmShape(m=5, k=9, n=2, groups=3), GemmShape(m=14, k=6, n=7), GemmShape(m=1, k=1, n=1)]


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_live_sites_are_counted_exactly_once(shape: GemmShape) -> None:
    plan = schedule(SMALL, shape)
    for reg in inventory(SMALL):
        count = reg.lifetime.count(plan)
        fold = np.repeat(np.arange(plan.folds), count)
        offset = np.concatenate([np.arange(c) for c in count])
        at = reg.lifetime.site(plan, fold, offset)
        back_fold, back_offset = reg.lifetime.offset(plan, at)
        assert np.array_equal(back_fold, fold) and np.array_equal(back_offset, offset)

        word = np.arange(reg.total_bits)
        row, col, bit = reg.place(word)
        assert np.array_equal(reg.index(row, col, bit), word)
        cycles = plan.window_cycles
        every = Sites(*(np.tile(x, cycles) for x in (row, col, bit)), np.repeat(np.arange(cycles), len(word)))
        assert (reg.lifetime.offset(plan, every)[1] >= 0).sum() == count.sum(), reg.name
