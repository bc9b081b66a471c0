"""The cycle engine against integer NumPy; the closed form and the live sites against the cycle engine."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.array.closed_form import accumulator_errors
from emulator.array.cycle import replay_layer, run_gemm
from emulator.array.exposure import Sites
from emulator.array.operands import Operands
from emulator.array.registers import Register, inventory, register
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import Upset
from emulator.errors import BadData
from emulator.gemm import GemmShape

Layer = tuple[Schedule, Operands]
Words = npt.NDArray[np.int32]


def integers(rng: np.random.Generator, dtype: type, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape, dtype=dtype)


def layer_of(spec: ArraySpec, shape: GemmShape, rng: np.random.Generator, *, psum: bool = False) -> Layer:
    g, m, k, n = shape.groups, shape.m, shape.k, shape.n
    operands = Operands(
        act=integers(rng, np.int8, (g, m, k)),
        wgt=integers(rng, np.int8, (g, k, n)),
        bias=integers(rng, np.int32, (g, n)),
        psum=integers(rng, np.int8, (g, m, n)) if psum else None,
    )
    return schedule(spec, shape), operands


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Small arrays of any form; edge tiles, several folds, blocks and groups are the rule."""
    rows, cols = draw(st.integers(2, 6)), draw(st.integers(1, 6))
    spec = ArraySpec(
        rows=rows,
        cols=cols,
        psum_bits=16 + (rows - 1).bit_length() + draw(st.integers(0, 2)),
        bank_bits=draw(st.sampled_from([8, 19, 32])),
        acc_rows=draw(st.integers(1, 12)),
    )
    size = {name: draw(st.integers(1, most)) for name, most in (("m", 18), ("k", 15), ("n", 11))}
    shape = GemmShape(groups=draw(st.integers(1, 3)), **size)
    return layer_of(spec, shape, np.random.default_rng(draw(st.integers(0, 999))), psum=draw(st.booleans()))


def matmul(operands: Operands) -> Words:
    """The oracle: int64 NumPy, wrapped to 32 bits."""
    total = operands.act.astype(np.int64) @ operands.wgt.astype(np.int64) + operands.bias[:, np.newaxis]
    if operands.psum is not None:
        total += operands.psum
    return np.concatenate(total, axis=1).astype(np.int32)


def any_sites(plan: Schedule, reg: Register, rng: np.random.Generator, count: int) -> Sites:
    """Uniform over all bits and cycles, dead ones included."""
    word = rng.integers(0, reg.total_bits, count)
    return Sites(*reg.place(word), rng.integers(0, plan.window_cycles, count))


def live_sites(plan: Schedule, reg: Register, rng: np.random.Generator, count: int) -> Sites:
    """Uniform over the live ones; none where the layer has none."""
    ends = np.cumsum(reg.lifetime.count(plan))
    index = rng.integers(0, max(ends[-1], 1), count if ends[-1] else 0)
    fold = np.searchsorted(ends, index, side="right")
    return reg.lifetime.site(plan, fold, index - np.where(fold > 0, ends[fold - 1], 0))


def upset_at(reg: Register, at: Sites, i: int) -> Upset:
    row, col, bit, cycle = (int(x[i]) for x in at)
    return Upset(register=reg.name, row=row, col=col, bits=(bit,), cycle=cycle)


def compare_engines(layer: Layer, per_register: int) -> int:
    """Every fault by both engines; the number of faults."""
    plan, operands = layer
    golden, rng, done = matmul(operands), np.random.default_rng(0), 0
    for reg in inventory(plan.spec):
        parts = [draw(plan, reg, rng, per_register // 2) for draw in (any_sites, live_sites)]
        at = Sites(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        errors = accumulator_errors(plan, operands, reg, at)
        assert (errors.delta != 0).all()
        for i in range(len(at.row)):
            chosen = slice(*errors.ptr[i : i + 2])
            expected = golden.copy()
            with np.errstate(over="ignore"):
                expected[errors.m[chosen], errors.n[chosen]] += errors.delta[chosen]
            upset = upset_at(reg, at, i)
            assert np.array_equal(replay_layer(plan, operands, (upset,)).accumulator, expected), upset
        done += len(at.row)
    return done


@settings(max_examples=60, deadline=None, derandomize=True)
@given(layers())
def test_cycle_engine_is_a_matrix_product_in_the_scheduled_cycles(layer: Layer) -> None:
    plan, operands = layer
    replay = replay_layer(plan, operands)
    assert np.array_equal(replay.accumulator, matmul(operands))
    assert replay.cycles == plan.cycles


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (ArraySpec.preset("gemmini-16"), GemmShape(m=70, k=40, n=33)),
        (ArraySpec.preset("gemmini-8"), GemmShape(m=600, k=9, n=1, groups=2)),
        (ArraySpec(rows=20, cols=37, psum_bits=21, acc_rows=64), GemmShape(m=65, k=41, n=50)),
        # The last block, one row, is drained while the one before it still is.
        (ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=30), GemmShape(m=31, k=3, n=5)),
        (ArraySpec(rows=37, cols=20, psum_bits=22, acc_rows=1), GemmShape(m=3, k=38, n=21)),
    ],
    ids=repr,
)
def test_larger_arrays_are_a_matrix_product_in_the_scheduled_cycles(
    spec: ArraySpec, shape: GemmShape
) -> None:
    plan, operands = layer_of(spec, shape, np.random.default_rng(7))
    replay = replay_layer(plan, operands)
    assert np.array_equal(replay.accumulator, matmul(operands))
    assert replay.cycles == plan.cycles


def test_a_layer_longer_than_one_piece_is_streamed_without_a_seam() -> None:
    plan, operands = layer_of(
        ArraySpec(rows=4, cols=3, psum_bits=18), GemmShape(m=900, k=30, n=7), np.random.default_rng(3)
    )
    assert plan.total_slots > 2 * 8192
    replay = replay_layer(plan, operands)
    assert np.array_equal(replay.accumulator, matmul(operands))
    assert replay.cycles == plan.cycles


def test_closed_form_is_the_cycle_engine_in_ten_thousand_cases() -> None:
    done = 0

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(layers())
    def check(layer: Layer) -> None:
        nonlocal done
        done += compare_engines(layer, 32)

    check()
    assert done >= 10_000


@pytest.mark.parametrize("name", [reg.name for reg in inventory(ArraySpec())])
def test_a_dead_site_never_changes_the_result(name: str) -> None:
    rng = np.random.default_rng(11)
    spec = ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=7)
    plan, operands = layer_of(spec, GemmShape(m=9, k=10, n=4, groups=2), rng)
    golden, reg = matmul(operands), register(spec, name)
    at = any_sites(plan, reg, rng, 400)
    _, offset = reg.lifetime.offset(plan, at)
    dead = np.flatnonzero(offset < 0)
    assert len(dead) > 20
    for i in dead.tolist():
        upset = upset_at(reg, at, i)
        assert np.array_equal(replay_layer(plan, operands, (upset,)).accumulator, golden), upset


@pytest.mark.parametrize("name", [reg.name for reg in inventory(ArraySpec())])
def test_a_live_site_changes_the_result_where_no_operand_is_zero(name: str) -> None:
    rng = np.random.default_rng(12)
    spec = ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=7)
    plan, operands = layer_of(spec, GemmShape(m=9, k=10, n=4, groups=2), rng)
    nonzero = {
        x: np.where(v == 0, 1, v).astype(np.int8) for x, v in (("act", operands.act), ("wgt", operands.wgt))
    }
    operands = replace(operands, **nonzero)
    golden, reg = matmul(operands), register(spec, name)
    at = live_sites(plan, reg, rng, 150)
    assert len(at.row) == 150
    for i in range(150):
        upset = upset_at(reg, at, i)
        assert not np.array_equal(replay_layer(plan, operands, (upset,)).accumulator, golden), upset


def test_closed_form_keeps_the_value_before_and_after_the_flip() -> None:
    spec = ArraySpec(rows=2, cols=1, psum_bits=17)
    operands = Operands(
        act=np.array([[[5, -3]]], np.int8),
        wgt=np.array([[[7], [100]]], np.int8),
        bias=np.array([[9]], np.int32),
    )
    plan = schedule(spec, operands.shape)
    # Slot 2 is the only row: it is at PE(0, 0) in cycle 4, at PE(1, 0) in cycle 5, in the accumulator from
    # cycle 2 + drain_cycles + 1 = 7 on, as 9 + 5 * 7 - 3 * 100.
    cases = {
        ("pe_a", 0, 7, 4): (5, -123),
        ("pe_b", 1, 0, 5): (35, 34),
        ("accumulator", 0, 31, 7): (-256, 2**31 - 256),
    }
    for (name, row, bit, cycle), (before, after) in cases.items():
        at = Sites(*(np.array([x]) for x in (row, 0, bit, cycle)))
        errors = accumulator_errors(plan, operands, register(spec, name), at)
        assert (errors.before[0], errors.after[0]) == (before, after)


def test_a_flip_one_bit_further_is_noticed_by_the_comparison() -> None:
    spec = ArraySpec(rows=4, cols=3, psum_bits=18)
    plan, operands = layer_of(spec, GemmShape(m=5, k=4, n=3), np.random.default_rng(0))
    at = live_sites(plan, register(spec, "pe_b"), np.random.default_rng(0), 1)
    upset = upset_at(register(spec, "pe_b"), at, 0)
    other = replace(upset, bits=(upset.bits[0] ^ 1,))
    answers = [replay_layer(plan, operands, (u,)).accumulator for u in (upset, other)]
    assert not np.array_equal(*answers)


@pytest.mark.parametrize("stuck", [0, 1])
def test_a_stuck_weight_bit_is_a_product_with_forced_weights(stuck: int) -> None:
    """Both banks of PE(2, 1) stuck: every weight that ever rests there has the bit forced."""
    spec = ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=6)
    plan, operands = layer_of(spec, GemmShape(m=9, k=11, n=7, groups=2), np.random.default_rng(5))
    weights = operands.wgt.copy()
    there = weights[:, 2::4, 1::3]
    weights[:, 2::4, 1::3] = there | np.int8(-128) if stuck else there & np.int8(127)
    upsets = [
        Upset(register=bank, row=2, col=1, bits=(7,), kind="stuck-at-1" if stuck else "stuck-at-0")
        for bank in ("pe_c1", "pe_c2")
    ]
    # While it rests there the bit is stuck; the weights that only pass through to lower rows are hit as well.
    weights[:, 3::4, 1::3] = (
        weights[:, 3::4, 1::3] | np.int8(-128) if stuck else weights[:, 3::4, 1::3] & np.int8(127)
    )
    forced = matmul(replace(operands, wgt=weights))
    assert np.array_equal(replay_layer(plan, operands, upsets).accumulator, forced)


def test_a_stuck_bit_of_one_cycle_is_a_flip_or_nothing() -> None:
    spec = ArraySpec(rows=4, cols=3, psum_bits=18)
    plan, operands = layer_of(spec, GemmShape(m=6, k=7, n=5), np.random.default_rng(6))
    golden = matmul(operands)
    at = live_sites(plan, register(spec, "pe_a"), np.random.default_rng(1), 40)
    for i in range(40):
        flip = upset_at(register(spec, "pe_a"), at, i)
        low, high = (
            replay_layer(plan, operands, (replace(flip, kind=kind, until_cycle=flip.cycle),)).accumulator
            for kind in ("stuck-at-0", "stuck-at-1")
        )
        flipped = replay_layer(plan, operands, (flip,)).accumulator
        first, second = (low, high) if np.array_equal(low, golden) else (high, low)
        assert np.array_equal(first, golden) and np.array_equal(second, flipped)


def test_several_bits_of_one_word_flip_together() -> None:
    act, wgt = np.array([[5], [6]], np.int8), np.array([[1]], np.int8)
    spec = ArraySpec(rows=2, cols=1, psum_bits=17)
    upset = Upset(register="pe_a", row=0, col=0, bits=(1, 3, 7), cycle=5)
    assert run_gemm(spec, act, wgt, upsets=(upset,)).accumulator.tolist() == [[5], [(6 ^ 0b1010) - 128]]


def test_run_gemm_takes_one_product_or_a_group_of_them() -> None:
    rng = np.random.default_rng(8)
    act, wgt = integers(rng, np.int8, (2, 5, 6)), integers(rng, np.int8, (2, 6, 3))
    spec = ArraySpec(rows=4, cols=4, psum_bits=18)
    both = run_gemm(spec, act, wgt, np.array([[1, 2, 3], [4, 5, 6]], np.int32)).accumulator
    one = run_gemm(spec, act[1], wgt[1], np.array([4, 5, 6], np.int32)).accumulator
    assert np.array_equal(both[:, 3:], one)
    assert np.array_equal(run_gemm(spec, act[1], wgt[1]).accumulator, one - [4, 5, 6])


@pytest.mark.parametrize(
    ("act", "wgt", "bias"),
    [
        (np.zeros((2, 3), np.int16), np.zeros((3, 2), np.int8), None),
        (np.zeros((2, 3), np.int8), np.zeros((4, 2), np.int8), None),
        (np.zeros((2, 3), np.int8), np.zeros((1, 3, 2), np.int8), None),
        (np.zeros((2, 3), np.int8), np.zeros((3, 2), np.int8), np.zeros(3, np.int32)),
        (np.zeros((2, 3), np.int8), np.zeros((3, 2), np.int8), np.zeros(2, np.int64)),
        (np.zeros((0, 3), np.int8), np.zeros((3, 2), np.int8), None),
    ],
)
def test_operands_that_do_not_fit_are_refused(act: Words, wgt: Words, bias: Words | None) -> None:
    with pytest.raises(BadData, match="allowed"):
        run_gemm(ArraySpec(rows=4, cols=4, psum_bits=18), act, wgt, bias)


def test_kernels_without_the_jit_give_the_same_integers() -> None:
    """NUMBA_DISABLE_JIT=1 is the readable definition; both dataflows, a control fault and a skew fault."""
    code = """
import numpy as np
from emulator.array.cycle import run_gemm
from emulator.array.spec import ArraySpec
from emulator.array.upset import Upset
act, wgt = (np.arange(60).reshape(6, 10) * 37 % 251 - 125).astype(np.int8), np.full((10, 4), -77, np.int8)
upsets = [Upset(register="pe_dataflow", row=1, col=1, bits=(0,), cycle=12),
          Upset(register="skew_a", row=2, col=0, bits=(7,), cycle=9)]
replay = run_gemm(ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=8), act, wgt, upsets=upsets)
print(replay.cycles, replay.accumulator.tolist())
"""
    compiled, plain = (
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={**os.environ, "NUMBA_DISABLE_JIT": flag},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for flag in ("0", "1")
    )
    assert compiled == plain != ""
