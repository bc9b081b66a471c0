"""The cycle engine against integer NumPy and plain Python, without faults and with faults whose effect is known."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from array_layers import (
    DATAFLOWS,
    TWO_BLOCKS,
    Layer,
    Words,
    inexact_layers,
    integers,
    layer_of,
    layers,
    live_sites,
    matmul,
    pe_by_pe,
    upsets_at,
    wrapping_layers,
)
from hypothesis import given, settings

from emulator.array.compile import compile_layer
from emulator.array.cycle import replay_layer, run_gemm
from emulator.array.operands import Operands
from emulator.array.registers import register
from emulator.array.spec import ArraySpec, Dataflow, Overflow
from emulator.array.tiling import schedule
from emulator.array.upset import Upset
from emulator.errors import BadConfig, BadData
from emulator.gemm import GemmShape

# ---- the cycle engine without faults


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_cycle_engine_is_a_requantised_matrix_product_in_the_scheduled_cycles(dataflow: Dataflow) -> None:
    @settings(max_examples=80)
    @given(layers(dataflow))
    def check(layer: Layer) -> None:
        replay, expected = layer.run(), matmul(layer.operands)
        assert np.array_equal(replay.accumulator, expected)
        assert np.array_equal(replay.output, layer.output(expected))
        assert replay.cycles == layer.plan.cycles
        assert replay.completed_in == layer.plan.window_cycles

    check()


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (ArraySpec.preset("gemmini-16"), GemmShape(m=70, k=40, n=33)),
        (ArraySpec.preset("gemmini-8"), GemmShape(m=600, k=9, n=1, groups=2)),
        (ArraySpec(rows=20, cols=37, psum_bits=21, acc_rows=64), GemmShape(m=65, k=41, n=50)),
        (ArraySpec(rows=20, cols=37, psum_bits=21, acc_rows=64, dataflow="os"), GemmShape(m=65, k=41, n=50)),
        (ArraySpec(rows=20, cols=37, psum_bits=21, acc_rows=64, dataflow="is"), GemmShape(m=65, k=41, n=50)),
        # The last block, one row, is drained while the one before it still is.
        (ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=30), GemmShape(m=31, k=3, n=5)),
        (ArraySpec(rows=37, cols=20, psum_bits=22, acc_rows=2), GemmShape(m=3, k=38, n=21)),
        # More requests than a tag table has entries, many times over.
        (ArraySpec(rows=4, cols=3, psum_bits=18), GemmShape(m=900, k=30, n=7)),
    ],
    ids=repr,
)
def test_larger_arrays_are_a_matrix_product_in_the_scheduled_cycles(
    spec: ArraySpec, shape: GemmShape
) -> None:
    layer = layer_of(spec, shape, 7)
    replay, expected = layer.run(), matmul(layer.operands)
    assert np.array_equal(replay.accumulator, expected)
    assert np.array_equal(replay.output, layer.output(expected))
    assert (replay.cycles, replay.completed_in) == (layer.plan.cycles, layer.plan.window_cycles)


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_narrow_sums_overflow_in_the_order_of_the_pes(dataflow: Dataflow, overflow: Overflow) -> None:
    inexact = 0

    @settings(max_examples=60)
    @given(inexact_layers(dataflow, overflow))
    def check(layer: Layer) -> None:
        nonlocal inexact
        replay, expected = layer.run(), pe_by_pe(layer.plan, layer.operands)
        assert np.array_equal(replay.accumulator, expected)
        assert replay.completed_in == layer.plan.window_cycles
        inexact += not np.array_equal(expected, matmul(layer.operands))

    check()
    assert inexact >= 20


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_sums_of_16_bit_operands_wrap_at_32_bits(dataflow: Dataflow) -> None:
    @settings(max_examples=30)
    @given(wrapping_layers(dataflow))
    def check(layer: Layer) -> None:
        replay, x = layer.run(), layer.operands
        assert np.array_equal(replay.accumulator, matmul(x))
        assert abs(x.act[0, 0].astype(np.int64) @ x.wgt[0, :, 0]) >= 1 << 32

    check()


# ---- control: lost completions, lost rows

LOST_COMPLETION = [
    ("seq_active", 0, 0, 0, 3),
    ("seq_pc", 0, 0, 23, 1),
    ("tag_final", 4, 0, 0, 20),
    ("tag_result", 4, 0, 0, 22),
    ("buf_last", 0, 0, 0, 20),
    ("pe_last", 2, 0, 0, 23),
    ("out_last", 4, 0, 0, 25),
    ("out_valid", 4, 0, 0, 25),
    ("deskew_last", 0, 1, 0, 26),
    ("deskew_last", 0, 0, 0, 27),
    ("write_final", 0, 0, 0, 28),
    ("write_final", 1, 0, 0, 29),
    ("blocks_done", 0, 0, 1, 30),
]


@pytest.mark.parametrize(("name", "row", "col", "bit", "cycle"), LOST_COMPLETION)
def test_a_lost_completion_hangs(name: str, row: int, col: int, bit: int, cycle: int) -> None:
    upset = Upset(register=name, row=row, col=col, bits=(bit,), cycle=cycle)
    assert TWO_BLOCKS.run(upset).completed_in is None
    assert TWO_BLOCKS.run().completed_in == TWO_BLOCKS.plan.window_cycles


def test_a_drain_that_believes_it_is_done_completes_early_with_nothing_written() -> None:
    upset = Upset(register="drain_block", row=0, col=0, bits=(1,), cycle=5)
    replay = TWO_BLOCKS.run(upset)
    assert replay.completed_in == 5
    assert not replay.accumulator.any() and not replay.output.any()


@pytest.mark.parametrize("stage", [0, 1])
def test_a_row_that_is_not_written_keeps_what_the_accumulator_held_before(stage: int) -> None:
    """Blocks take the two halves of the accumulator in turn: the third one lies where the first one was."""
    layer = layer_of(ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=8), GemmShape(m=12, k=3, n=3))
    golden = layer.run()
    for slot, row, before in ((13, 9, golden.accumulator[1]), (5, 1, np.zeros(3, np.int32))):
        # The row of slot s is deskewed in cycle s + 8.
        upset = Upset(register="write_valid", row=stage, col=0, bits=(0,), cycle=slot + 9 + stage)
        replay, expected = layer.run(upset), golden.accumulator.copy()
        expected[row] = before
        assert not np.array_equal(expected, golden.accumulator)
        assert np.array_equal(replay.accumulator, expected)
        assert np.array_equal(replay.output, layer.output(expected))
        assert replay.completed_in == golden.completed_in


# ---- stuck bits, several bits, several upsets


@pytest.mark.parametrize("stuck", [0, 1])
def test_a_stuck_weight_bit_is_a_product_with_forced_weights(stuck: int) -> None:
    """In both banks of PE(2, 1): every weight that rests there, or passes on its way to row 3, has the bit forced."""
    layer = layer_of(
        ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=6), GemmShape(m=9, k=11, n=7, groups=2), 5
    )
    weights = layer.operands.wgt.copy()
    for row in (2, 3):
        there = weights[:, row::4, 1::3]
        weights[:, row::4, 1::3] = there | np.int8(-128) if stuck else there & np.int8(127)
    upsets = [
        Upset(register=bank, row=2, col=1, bits=(7,), kind="stuck-at-1" if stuck else "stuck-at-0")
        for bank in ("pe_c1", "pe_c2")
    ]
    forced = matmul(replace(layer.operands, wgt=weights))
    assert np.array_equal(layer.run(*upsets).accumulator, forced)


def test_a_stuck_bit_of_one_cycle_is_a_flip_or_nothing() -> None:
    layer = layer_of(ArraySpec(rows=4, cols=3, psum_bits=18), GemmShape(m=6, k=7, n=5), 6)
    golden, reg = matmul(layer.operands), register(layer.plan.spec, "pe_a")
    for flip in upsets_at(reg, live_sites(layer.plan, reg, np.random.default_rng(1), 40)):
        low, high = (
            layer.run(replace(flip, kind=kind, until_cycle=flip.cycle)).accumulator
            for kind in ("stuck-at-0", "stuck-at-1")
        )
        first, second = (low, high) if np.array_equal(low, golden) else (high, low)
        assert np.array_equal(first, golden)
        assert np.array_equal(second, layer.run(flip).accumulator)


def test_several_bits_of_one_word_flip_together() -> None:
    act, wgt = np.array([[5], [6]], np.int8), np.array([[1]], np.int8)
    upset = Upset(register="pe_a", row=0, col=0, bits=(1, 3, 7), cycle=5)
    replay = run_gemm(ArraySpec(rows=2, cols=1, psum_bits=17), act, wgt, upsets=(upset,))
    assert replay.accumulator.tolist() == [[5], [(6 ^ 0b1010) - 128]]


def test_the_same_flip_twice_is_none() -> None:
    upset = Upset(register="accumulator", row=0, col=0, bits=(4,), cycle=20)
    for struck in (
        upset,
        replace(upset, register="act_buffer", cycle=1),
        replace(upset, register="pe_a", cycle=6),
    ):
        once, twice = TWO_BLOCKS.run(struck), TWO_BLOCKS.run(struck, struck)
        assert not np.array_equal(once.accumulator, matmul(TWO_BLOCKS.operands)), struck
        assert np.array_equal(twice.accumulator, matmul(TWO_BLOCKS.operands)), struck


# ---- a bias for every row


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_bias_of_equal_rows_is_that_of_a_column(dataflow: Dataflow) -> None:
    """The same sums in the same cycles, and the same answer to a flip."""
    spec = ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=10, dataflow=dataflow)
    layer = layer_of(spec, GemmShape(m=11, k=9, n=7, groups=2), 13)
    bias = np.repeat(layer.operands.bias[:, np.newaxis], 11, axis=1)
    by_row = replace(layer, operands=replace(layer.operands, bias=bias))
    flip = Upset(register="pe_b", row=2, col=1, bits=(5,), cycle=14)
    for upsets in ((), (flip,)):
        ours, theirs = by_row.run(*upsets), layer.run(*upsets)
        assert np.array_equal(ours.accumulator, theirs.accumulator)
        assert (ours.cycles, ours.completed_in) == (theirs.cycles, theirs.completed_in)


def test_a_wrong_bias_tile_is_that_of_another_request() -> None:
    """Bias rows come in tiles of the array's rows: the tag of the second request, flipped, names the first one's."""
    spec = ArraySpec(rows=4, cols=3, psum_bits=18)
    layer = layer_of(spec, GemmShape(m=8, k=4, n=3), 14, bias_by_row=True)
    golden = layer.run().accumulator
    flip = Upset(register="tag_bias", row=2, col=0, bits=(0,), cycle=9)
    first, second = np.split(layer.operands.bias[0], 2)
    expected = np.concatenate((golden[:4], golden[4:] - second + first))
    assert np.array_equal(layer.run(flip).accumulator, expected)


@pytest.mark.parametrize(
    ("dataflow", "shape"),
    [("ws", GemmShape(m=2 * 32_769, k=1, n=2)), ("is", GemmShape(m=2, k=1, n=2 * 32_769))],
)
def test_a_bias_beyond_the_tags_is_refused(dataflow: Dataflow, shape: GemmShape) -> None:
    memories = {"acc_rows": 1 << 18, "act_buffer_rows": 1 << 20}
    spec = ArraySpec(rows=2, cols=1, psum_bits=17, dataflow=dataflow, **memories)
    act, wgt = np.zeros((1, shape.m, 1), np.int8), np.zeros((1, 1, shape.n), np.int8)
    operands = Operands(act=act, wgt=wgt, bias=np.zeros((1, shape.m, shape.n), np.int32))
    with pytest.raises(BadConfig, match="takes 65538 tiles of 2 bias rows; allowed: 65536"):
        compile_layer(schedule(spec, shape), operands, None)


# ---- the public call


def test_run_gemm_takes_one_product_or_a_group_of_them() -> None:
    rng = np.random.default_rng(8)
    act, wgt = (integers(rng, 8, shape).astype(np.int8) for shape in ((2, 5, 6), (2, 6, 3)))
    spec = ArraySpec(rows=4, cols=4, psum_bits=18)
    both = run_gemm(spec, act, wgt, np.array([[1, 2, 3], [4, 5, 6]], np.int32)).accumulator
    one = run_gemm(spec, act[1], wgt[1], np.array([4, 5, 6], np.int32)).accumulator
    assert np.array_equal(both[:, 3:], one)
    assert np.array_equal(run_gemm(spec, act[1], wgt[1]).accumulator, one - [4, 5, 6])
    assert np.array_equal(run_gemm(spec, act[1].astype(np.int16), wgt[1]).accumulator, one - [4, 5, 6])


ACT, WGT = np.zeros((2, 3), np.int8), np.zeros((3, 2), np.int8)


@pytest.mark.parametrize(
    ("act", "wgt", "bias"),
    [
        (ACT.astype(np.int32), WGT, None),
        (ACT + np.int16(128), WGT, None),
        (ACT, WGT - np.int16(129), None),
        (ACT, np.zeros((4, 2), np.int8), None),
        (ACT, WGT[np.newaxis], None),
        (ACT, WGT, np.zeros(3, np.int32)),
        (ACT, WGT, np.zeros(2, np.int64)),
        (ACT, WGT, np.zeros((3, 2), np.int32)),
        (ACT[:0], WGT, None),
    ],
)
def test_operands_that_do_not_fit_are_refused(act: Words, wgt: Words, bias: Words | None) -> None:
    with pytest.raises(BadData, match="allowed"):
        run_gemm(ArraySpec(rows=4, cols=4, psum_bits=18), act, wgt, bias)


def test_operands_of_another_layer_are_refused() -> None:
    other = layer_of(TWO_BLOCKS.plan.spec, GemmShape(m=6, k=5, n=3))
    with pytest.raises(BadData, match="allowed: GemmShape"):
        replay_layer(TWO_BLOCKS.plan, other.operands)


@pytest.mark.parametrize("buffer", ["act_buffer_rows", "wgt_buffer_rows"])
def test_a_tile_that_does_not_fit_half_its_buffer_is_refused(buffer: str) -> None:
    spec = replace(TWO_BLOCKS.plan.spec, **{buffer: 7})
    with pytest.raises(BadConfig, match=f"takes 4 rows; allowed: 3, half of {buffer}"):
        replay_layer(schedule(spec, TWO_BLOCKS.plan.shape), TWO_BLOCKS.operands)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_kernels_without_the_jit_give_the_same_integers(dataflow: Dataflow) -> None:
    """NUMBA_DISABLE_JIT=1 is the readable definition; a control fault, a skew fault and one in a buffer."""
    code = f"""
import numpy as np
from emulator.array.compile import compile_layer
from emulator.array.cycle import run_gemm
from emulator.array.spec import ArraySpec
from emulator.array.upset import FLIP, KINDS, Upset
act, wgt = (np.arange(60).reshape(6, 10) * 37 % 251 - 125).astype(np.int8), np.full((10, 4), -77, np.int8)
upsets = [Upset(register="pe_dataflow", row=1, col=1, bits=(0,), cycle=12),
          Upset(register="skew_a", row=2, col=0, bits=(7,), cycle=9),
          Upset(register="wgt_buffer", row=2, col=1, bits=(3,), cycle=4)]
spec = ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=8, dataflow={dataflow!r})
replay = run_gemm(spec, act, wgt, upsets=upsets)
print(replay.cycles, replay.completed_in, replay.accumulator.tolist())
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
