"""Closed form and live sites against the cycle engine."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from array_layers import (
    DATAFLOWS,
    TWO_BLOCKS,
    Layer,
    any_sites,
    dead_sites,
    inexact_layers,
    joined,
    layer_of,
    live_sites,
    struck_layers,
    upsets_at,
    wrapping_layers,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.array.closed_form import (
    AccumulatorErrors,
    accumulator_errors,
    covered,
    forced_accumulator,
    has_closed_form,
    has_forced_form,
)
from emulator.array.exposure import Sites
from emulator.array.exposure.lifetime import StruckWords
from emulator.array.operands import Operands
from emulator.array.registers import inventory, register
from emulator.array.spec import ArraySpec, Dataflow
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import FLIP, KINDS, Upset
from emulator.errors import BadConfig
from emulator.gemm import GemmShape

# Words that pass through the mesh or rest in it.
FORCED = (
    *("pe_a", "pe_b", "pe_d", "pe_c1", "pe_c2", "buf_a", "buf_b", "buf_d", "skew_a", "skew_b", "skew_d"),
    *("out_b", "out_c", "deskew_data", "write_data"),
)


# ---- one flip, by both engines


def compare_engines(layer: Layer, per_register: int) -> Counter[str]:
    """Flips anywhere and flips of live sites of every register that has a closed form, by both engines; how many of
    each."""
    plan, operands = layer.plan, layer.operands
    golden, rng, done = layer.run(), np.random.default_rng(0), Counter[str]()
    for reg in inventory(plan.spec):
        if not has_closed_form(plan, reg.name):
            continue
        at = joined(*(draw(plan, reg, rng, per_register // 2) for draw in (any_sites, live_sites)))
        solved = covered(plan, reg, at)
        at = Sites(*(column[solved] for column in at))
        errors = accumulator_errors(plan, operands, reg, at)
        assert (errors.delta != 0).all()
        for i, upset in enumerate(upsets_at(reg, at)):
            chosen = slice(*errors.ptr[i : i + 2])
            expected = golden.accumulator.copy()
            with np.errstate(over="ignore"):
                expected[errors.m[chosen], errors.n[chosen]] += errors.delta[chosen]
            replay = layer.run(upset)
            # What is drained is read before the requantiser's own register is struck.
            drained = golden.accumulator if reg.name == "requant_acc" else expected
            assert np.array_equal(replay.accumulator, drained), upset
            assert np.array_equal(replay.output, layer.output(expected)), upset
            assert replay.completed_in == golden.completed_in, upset
        done[reg.name] += len(at.row)
    return done


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_closed_form_is_the_cycle_engine_in_five_thousand_cases(dataflow: Dataflow) -> None:
    done = Counter[str]()

    @settings(max_examples=25)
    @given(struck_layers(dataflow))
    def check(layer: Layer) -> None:
        done.update(compare_engines(layer, 12))

    check()
    assert done.total() >= 5000
    assert min(done.values()) >= 10
    assert done.keys() >= {
        "pe_a",
        "pe_b",
        "pe_d",
        "pe_c1",
        "pe_c2",
        "pe_valid",
        "pe_propagate",
        "deskew_data",
    }
    assert done.keys() >= {
        "accumulator",
        "write_sum",
        "write_bias",
        "requant_acc",
        "act_buffer",
        "wgt_buffer",
    }


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_closed_form_is_the_cycle_engine_where_all_sums_wrap_at_32_bits(dataflow: Dataflow) -> None:
    done = Counter[str]()

    @settings(max_examples=12)
    @given(wrapping_layers(dataflow))
    def check(layer: Layer) -> None:
        done.update(compare_engines(layer, 8))
        assert np.array_equal(forced_accumulator(layer.plan, layer.operands, ()), layer.run().accumulator)

    check()
    assert done.total() >= 1000 and done.keys() >= {
        "pe_a",
        "pe_b",
        "pe_c1",
        "pe_valid",
        "accumulator",
        "write_data",
    }


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_flip_above_the_accumulators_bits_is_no_error(dataflow: Dataflow) -> None:
    """Deltas are modulo 2^acc_bits; one that is a multiple of it does not appear."""
    spec = ArraySpec(rows=4, cols=3, psum_bits=24, acc_bits=16, acc_rows=10, dataflow=dataflow)
    layer = layer_of(spec, GemmShape(m=6, k=7, n=5), 15)
    golden, rng, gone = layer.run().accumulator, np.random.default_rng(15), 0
    for name in ("pe_b", "pe_c1", "write_data", "deskew_data"):
        reg = register(spec, name)
        at = live_sites(layer.plan, reg, rng, 60)
        errors = accumulator_errors(layer.plan, layer.operands, reg, at)
        for i, upset in enumerate(upsets_at(reg, at)):
            chosen = slice(*errors.ptr[i : i + 2])
            wrong = layer.run(upset).accumulator - golden
            m, n = np.nonzero(wrong)
            order = np.lexsort((errors.n[chosen], errors.m[chosen]))
            assert errors.m[chosen][order].tolist() == m.tolist(), upset
            assert errors.n[chosen][order].tolist() == n.tolist(), upset
            assert ((errors.delta[chosen][order] - wrong[m, n]) % (1 << 16) == 0).all()
            gone += upset.bits[0] >= 16 and len(m) == 0
    assert gone > 10


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_all_flips_of_a_word_are_its_flips_one_by_one_in_any_of_its_cycles(dataflow: Dataflow) -> None:
    done = Counter[str]()

    @settings(max_examples=8)
    @given(struck_layers(dataflow), st.integers(0, 2**32 - 1))
    def check(layer: Layer, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for reg in inventory(layer.plan.spec):
            words = reg.lifetime.words(layer.plan)
            if not words.sum() or not has_closed_form(layer.plan, reg.name):
                continue
            index = rng.integers(0, words.sum(), 20)
            fold = np.searchsorted(np.cumsum(words), index, side="right")
            at, cycles = reg.lifetime.word(layer.plan, fold, index - (np.cumsum(words) - words)[fold])
            kept = covered(layer.plan, reg, at.sites) & (cycles > 0)
            at, cycles, fold = StruckWords(*(x[kept] for x in at)), cycles[kept], fold[kept]
            together = accumulator_errors(layer.plan, layer.operands, reg, at.sites, fold, at.bits)
            row, col, first, cycle = (np.repeat(x, at.bits) for x in at.sites)
            bit = np.arange(len(row)) - np.repeat(np.cumsum(at.bits) - at.bits, at.bits)
            later = rng.integers(0, np.repeat(cycles, at.bits))
            alone = accumulator_errors(
                layer.plan, layer.operands, reg, Sites(row, col, first + bit, cycle + later)
            )
            for name in AccumulatorErrors.__dataclass_fields__:
                assert np.array_equal(getattr(together, name), getattr(alone, name)), (reg.name, name)
            done[reg.name] += len(row)

    check()
    assert (
        min(done[name] for name in ("pe_a", "pe_b", "pe_c1", "accumulator", "act_buffer", "deskew_data"))
        > 100
    )


@pytest.mark.parametrize("name", ["out_valid", "seq_pc", "tag_base", "requant_scale", "pe_valid"])
def test_a_site_that_only_the_cycle_engine_can_answer_is_refused_by_the_closed_form(name: str) -> None:
    reg = register(TWO_BLOCKS.plan.spec, name)
    at = live_sites(TWO_BLOCKS.plan, reg, np.random.default_rng(4), 200)
    solved = covered(TWO_BLOCKS.plan, reg, at)
    assert not solved.all()
    with pytest.raises(BadConfig, match=r"sites have no closed form .*; allowed: "):
        accumulator_errors(TWO_BLOCKS.plan, TWO_BLOCKS.operands, reg, at)


@st.composite
def data_upsets(draw: st.DrawFn, plan: Schedule) -> tuple[Upset, ...]:
    """One to three upsets of data registers, of any kind and window, of several bits."""
    names = [reg.name for reg in inventory(plan.spec) if reg.name in FORCED and reg.total_bits]
    upsets = []
    for _ in range(draw(st.integers(1, 3))):
        reg = register(plan.spec, draw(st.sampled_from(names)))
        row, col, bit = (int(x) for x in reg.place(np.int64(draw(st.integers(0, reg.total_bits - 1)))))
        bits = draw(st.sets(st.integers(0, reg.width(row) - 1), max_size=2)) | {bit}
        kind, first = draw(st.sampled_from(KINDS)), draw(st.integers(0, plan.window_cycles))
        last = None if kind == FLIP else draw(st.none() | st.integers(first, plan.window_cycles))
        upsets.append(
            Upset(
                register=reg.name,
                row=row,
                col=col,
                bits=tuple(bits),
                kind=kind,
                cycle=first,
                until_cycle=last,
            )
        )
    return tuple(upsets)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_forced_form_is_the_cycle_engine_under_any_upsets_of_data_registers(dataflow: Dataflow) -> None:
    shown = 0
    narrow = (inexact_layers(dataflow, overflow) for overflow in ("wrap", "saturate"))

    @settings(max_examples=60)
    @given(st.one_of(struck_layers(dataflow), *narrow), st.data())
    def check(layer: Layer, data: st.DataObject) -> None:
        nonlocal shown
        golden = layer.run()
        for _ in range(8):
            upsets = data.draw(data_upsets(layer.plan))
            assert has_forced_form(layer.plan, upsets)
            replay = layer.run(*upsets)
            assert np.array_equal(forced_accumulator(layer.plan, layer.operands, upsets), replay.accumulator)
            assert replay.completed_in == golden.completed_in
            shown += not np.array_equal(replay.accumulator, golden.accumulator)

    check()
    assert shown >= 100


def strike_dead_sites(layer: Layer, seed: int, per_register: int) -> Counter[str]:
    """Flips of dead sites of every register by the cycle engine; how many of each."""
    golden, rng, done = layer.run(), np.random.default_rng(seed), Counter[str]()
    for reg in inventory(layer.plan.spec):
        for upset in upsets_at(reg, dead_sites(layer.plan, reg, rng, per_register)):
            replay = layer.run(upset)
            assert np.array_equal(replay.accumulator, golden.accumulator), upset
            assert np.array_equal(replay.output, golden.output), upset
            assert replay.completed_in == golden.completed_in, upset
            done[reg.name] += 1
    return done


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_dead_site_changes_neither_result_nor_completion(dataflow: Dataflow) -> None:
    done = Counter[str]()

    @settings(max_examples=20)
    @given(struck_layers(dataflow), st.integers(0, 999))
    def check(layer: Layer, seed: int) -> None:
        done.update(strike_dead_sites(layer, seed, 8))

    check()
    assert done.total() >= 3000
    assert {
        "pe_a",
        "pe_b",
        "pe_d",
        "pe_c1",
        "pe_c2",
        "deskew_data",
        "accumulator",
        "act_buffer",
        "wgt_buffer",
    } <= {name for name, count in done.items() if count >= 20}


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_faults_strike_the_right_column_beyond_the_first_sixteen(dataflow: Dataflow) -> None:
    """Kernels take columns sixteen at a time."""
    buffers = {"act_buffer_rows": 200, "wgt_buffer_rows": 200}
    spec = ArraySpec(rows=3, cols=35, psum_bits=18, acc_rows=9, dataflow=dataflow, **buffers)
    layer = layer_of(spec, GemmShape(m=36, k=4, n=37), 3)
    assert (compare_engines(layer, 8) + strike_dead_sites(layer, 0, 6)).total() > 250


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_live_data_site_changes_the_result_where_no_operand_is_zero(dataflow: Dataflow) -> None:
    spec = ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=9, dataflow=dataflow)
    layer = layer_of(spec, GemmShape(m=9, k=10, n=4, groups=2), 12)
    nonzero = {
        name: np.where(x == 0, 1, x).astype(np.int8)
        for name, x in vars(layer.operands).items()
        if name in ("act", "wgt")
    }
    layer = replace(layer, operands=replace(layer.operands, **nonzero))
    golden, rng = layer.run(), np.random.default_rng(12)
    for reg in inventory(spec):
        # Control bits are unsigned; what the requantiser makes of its word has fewer bits.
        if not has_closed_form(layer.plan, reg.name) or not reg.signed or reg.name == "requant_acc":
            continue
        at = live_sites(layer.plan, reg, rng, 60)
        assert len(at.row) == 60, reg.name
        for upset in upsets_at(reg, at):
            assert not np.array_equal(layer.run(upset).accumulator, golden.accumulator), upset


# (register, row, col, bit, cycle): value before and after. In both, rows = 2, cols = 1 and slot 2 is the first one that
# computes: it is at the edge in cycle 3, at PE(r, 0) in cycle 4 + r, at the outputs in cycle 6 and deskewed; in
# write_data and write_bias in cycle 7, in write_sum in 8, in the accumulator in 9.
WS_VALUES = {
    ("buf_a", 1, 0, 7, 3): (-3, 125),
    ("skew_a", 1, 0, 6, 4): (-3, -67),
    ("pe_a", 0, 0, 7, 4): (5, -123),
    ("pe_b", 1, 0, 0, 5): (35, 34),
    ("pe_c1", 1, 0, 1, 5): (100, 102),
    ("out_b", 2, 0, 16, 6): (-265, 65271),
    ("write_data", 0, 0, 0, 7): (-265, -266),
    ("write_bias", 0, 0, 3, 7): (9, 1),
    ("write_sum", 0, 0, 8, 8): (-256, -512),
    ("accumulator", 0, 0, 31, 9): (-256, 2**31 - 256),
    # The first tile is in its buffer when the layer starts; weights lie there bottom row first.
    ("act_buffer", 0, 1, 0, 1): (-3, -4),
    ("wgt_buffer", 1, 0, 2, 0): (7, 3),
}
# Element (m, 0) stays in PE(m, 0); row 1 leaves first, in slot 4, as the request after the two computing slots begins.
OS_VALUES = {
    ("pe_a", 1, 0, 0, 5): (-3, -4),
    ("pe_b", 1, 0, 1, 5): (7, 5),
    ("pe_c1", 1, 0, 0, 5): (0, 1),
    ("pe_c1", 1, 0, 0, 6): (-21, -22),
    ("out_c", 2, 0, 2, 8): (-21, -17),
    ("out_c", 2, 0, 2, 9): (35, 39),
    ("write_data", 0, 0, 16, 9): (-21, 65515),
    ("accumulator", 1, 0, 0, 11): (-12, -11),
    ("accumulator", 0, 0, 0, 12): (44, 45),
}


@pytest.mark.parametrize(
    ("spec", "act", "wgt", "values"),
    [
        (ArraySpec(rows=2, cols=1, psum_bits=17, acc_rows=4), [[5, -3]], [[7], [100]], WS_VALUES),
        (ArraySpec(rows=2, cols=1, psum_bits=17, acc_rows=4, dataflow="os"), [[5], [-3]], [[7]], OS_VALUES),
    ],
    ids=["ws", "os"],
)
def test_closed_form_keeps_the_value_before_and_after_the_flip(
    spec: ArraySpec,
    act: list[list[int]],
    wgt: list[list[int]],
    values: dict[tuple[str, int, int, int, int], tuple[int, int]],
) -> None:
    operands = Operands(
        act=np.array([act], np.int8), wgt=np.array([wgt], np.int8), bias=np.array([[9]], np.int32)
    )
    plan = schedule(spec, operands.shape)
    for (name, row, col, bit, cycle), expected in values.items():
        at = Sites(*(np.array([x]) for x in (row, col, bit, cycle)))
        errors = accumulator_errors(plan, operands, register(spec, name), at)
        assert (errors.before[0], errors.after[0]) == expected, (name, cycle)


def test_a_flip_one_bit_further_is_noticed_by_the_comparison() -> None:
    layer = layer_of(ArraySpec(rows=4, cols=3, psum_bits=18), GemmShape(m=5, k=4, n=3))
    reg = register(layer.plan.spec, "pe_b")
    upset = next(upsets_at(reg, live_sites(layer.plan, reg, np.random.default_rng(0), 1)))
    other = replace(upset, bits=(upset.bits[0] ^ 1,))
    assert not np.array_equal(layer.run(upset).accumulator, layer.run(other).accumulator)
