"""Stuck, intermittent and several upsets of data registers: the forced form against the cycle engine and the RTL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from emulator.array.closed_form import forced_accumulator, has_forced_form
from emulator.array.cycle import replay_layer
from emulator.array.groups import dead_column, dead_pe, dead_row
from emulator.array.operands import Operands
from emulator.array.registers import inventory, register
from emulator.array.spec import ArraySpec, Dataflow
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import KINDS, Upset
from emulator.array.vectors import layer_of as layer_of_vectors
from emulator.array.vectors import read_vectors
from emulator.errors import BadConfig, BadData

Words = npt.NDArray[np.int32]
Layer = tuple[Schedule, Operands]
Upsets = tuple[Upset, ...]

DATAFLOWS: tuple[Dataflow, ...] = ("ws", "os", "is")
DATA = (
    *("pe_a", "pe_b", "pe_d", "pe_c1", "pe_c2", "buf_a", "buf_b", "buf_d", "skew_a", "skew_b", "skew_d"),
    *("out_b", "out_c", "deskew_data", "write_data"),
)
RTL = Path(__file__).parents[1] / "data" / "gemmini16_rtl_vectors.npz"


def integers(rng: np.random.Generator, bits: int, shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
    return rng.integers(-1 << (bits - 1), 1 << (bits - 1), shape).astype(np.int16)


def layer_of(dataflow: Dataflow, rng: np.random.Generator, size: tuple[int, int] | None = None) -> Layer:
    """Arrays of any form, width and overflow; edge tiles, folds of several requests, blocks and groups are the rule."""
    rows, cols = size or (int(rng.integers(2, 7)), int(rng.integers(1, 7)))
    os, act, wgt = dataflow == "os", int(rng.choice([8, 8, 4, 12])), int(rng.choice([8, 8, 4, 12]))
    wgt = act if dataflow == "is" else wgt
    exact = act + wgt + (rows - 1).bit_length()
    # One array in four has sums that wrap, or saturate.
    psum = exact + int(rng.choice([0, 1, 2, max(act, wgt) + 1 - exact]))
    buffers = int(rng.choice([2 * max(64, 4 * rows), 2000]))
    spec = ArraySpec(
        rows=rows,
        cols=cols,
        dataflow=dataflow,
        dataflows="ws" if not os and rng.random() < 0.3 else "both",
        act_bits=act,
        wgt_bits=wgt,
        psum_bits=psum,
        bank_bits=int(rng.choice([psum if os else wgt, 32])),
        acc_bits=int(rng.choice([32, 32, 24])),
        acc_rows=int(rng.integers(2 * rows if os else 2, 2 * rows + 16)),
        act_buffer_rows=buffers,
        wgt_buffer_rows=buffers,
        overflow="saturate" if rng.random() < 0.2 else "wrap",
    )
    g, m, k, n = (int(x) for x in rng.integers(1, (3, 19 + rows, 15 + rows, 12 + cols)))
    preload = integers(rng, min(spec.edge_bits, 8), (g, m, n)).astype(np.int8)
    operands = Operands(
        act=integers(rng, act, (g, m, k)),
        wgt=integers(rng, wgt, (g, k, n)),
        bias=rng.integers(-1 << (spec.acc_bits - 1), 1 << (spec.acc_bits - 1), (g, n)).astype(np.int32),
        preload=preload if rng.random() < 0.5 else None,
    )
    options = {"k_step": rows * int(rng.integers(1, 3)), "shift": int(rng.choice([0, 0, 1, 5]))} if os else {}
    return schedule(spec, operands.shape, **options), operands


def any_upset(plan: Schedule, rng: np.random.Generator) -> Upset:
    """One or more bits, of any kind, from the start or later, to the end or not."""
    names = [reg.name for reg in inventory(plan.spec) if reg.name in DATA and reg.total_bits > 0]
    reg = register(plan.spec, str(rng.choice(names)))
    row, col, _ = (int(x[0]) for x in reg.place(rng.integers(0, reg.total_bits, 1)))
    width = reg.width(row)
    bits = rng.choice(width, int(rng.choice([1, 1, 2, width])), replace=False)
    kind = KINDS[int(rng.integers(len(KINDS)))]
    cycle = int(rng.integers(plan.window_cycles)) if rng.random() < 0.7 else 0
    length = int(rng.integers(1 + int(rng.choice([3, 3 * plan.spec.rows, plan.window_cycles]))))
    windowed = kind != "flip" and rng.random() < 0.6
    return Upset(
        register=reg.name,
        row=row,
        col=col,
        bits=tuple(bits.tolist()),
        kind=kind,
        cycle=cycle,
        until_cycle=cycle + length if windowed else None,
    )


def any_upsets(plan: Schedule, rng: np.random.Generator) -> Upsets:
    """One, up to five, two of one register, or a dead part."""
    row, col = int(rng.integers(plan.spec.rows)), int(rng.integers(plan.spec.cols))
    match int(rng.integers(7)):
        case 0:
            return dead_pe(plan.spec, row, col)
        case 1:
            return dead_row(plan.spec, row)
        case 2:
            return dead_column(plan.spec, col)
        case 3:
            first, second = any_upset(plan, rng), any_upset(plan, rng)
            return first, replace(
                second, register=first.register, row=first.row, col=first.col, bits=first.bits
            )
        case 4:
            return tuple(any_upset(plan, rng) for _ in range(int(rng.integers(2, 6))))
        case _:
            return (any_upset(plan, rng),)


def same(layer: Layer, upsets: Upsets) -> bool:
    return np.array_equal(forced_accumulator(*layer, upsets), replay_layer(*layer, upsets).accumulator)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_forced_form_is_the_cycle_engine(dataflow: Dataflow) -> None:
    rng = np.random.default_rng(1)
    mattered = 0
    for _ in range(150):
        layer = layer_of(dataflow, rng)
        golden = replay_layer(*layer).accumulator
        assert np.array_equal(forced_accumulator(*layer, ()), golden)
        for _ in range(12):
            upsets = any_upsets(layer[0], rng)
            assert has_forced_form(layer[0], upsets)
            forced = forced_accumulator(*layer, upsets)
            assert np.array_equal(forced, replay_layer(*layer, upsets).accumulator), upsets
            mattered += not np.array_equal(forced, golden)
    assert mattered > 150 * 12 / 2


@pytest.mark.parametrize("size", [(16, 16), (5, 3), (2, 6), (6, 1)], ids=str)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_forced_form_fits_every_form_of_array(dataflow: Dataflow, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    layer = layer_of(dataflow, rng, size)
    for _ in range(20):
        upsets = any_upsets(layer[0], rng)
        assert same(layer, upsets), upsets


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_stuck_bit_of_every_data_register_is_that_of_the_cycle_engine(
    dataflow: Dataflow, name: str
) -> None:
    rng = np.random.default_rng(3)
    plan, operands = layer_of(dataflow, rng, (4, 3))
    spec = replace(plan.spec, dataflows="both")
    plan = schedule(spec, plan.shape)
    reg = register(spec, name)
    for kind in ("stuck-at-0", "stuck-at-1"):
        for index in rng.integers(0, reg.total_bits, 6):
            row, col, bit = (int(x[0]) for x in reg.place(np.array([index])))
            upset = Upset(register=name, row=row, col=col, bits=(bit,), kind=kind)
            assert same((plan, operands), (upset,)), upset


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_register_may_be_wider_than_the_words_it_is_given(dataflow: Dataflow) -> None:
    """int8 activations, of which a stuck bit beyond the eighth makes others."""
    spec = ArraySpec(rows=4, cols=3, act_bits=12, wgt_bits=12, psum_bits=26, acc_rows=8, dataflow=dataflow)
    rng = np.random.default_rng(9)
    act, wgt = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((1, 6, 9), (1, 9, 7)))
    operands = Operands(act=act, wgt=wgt, bias=np.zeros((1, 7), np.int32))
    layer = schedule(spec, operands.shape), operands
    for bit in (7, 10, 11):
        stuck = Upset(register="pe_a", row=2, col=1, bits=(bit,), kind="stuck-at-1")
        assert same(layer, (stuck, replace(stuck, row=1, kind="stuck-at-0"))), bit
        assert not np.array_equal(forced_accumulator(*layer, (stuck,)), forced_accumulator(*layer, ()))


def test_a_window_one_cycle_longer_is_noticed_by_the_comparison() -> None:
    rng = np.random.default_rng(4)
    layer = layer_of("ws", rng, (4, 3))
    differs = 0
    for _ in range(40):
        reg = register(layer[0].spec, "pe_a")
        row, col = int(rng.integers(4)), 0
        first = int(rng.integers(8, 20))
        upset = Upset(
            register=reg.name,
            row=row,
            col=col,
            bits=(0, 1, 2),
            kind="stuck-at-1",
            cycle=first,
            until_cycle=first,
        )
        longer = replace(upset, until_cycle=first + 1)
        differs += not np.array_equal(
            forced_accumulator(*layer, (longer,)), replay_layer(*layer, (upset,)).accumulator
        )
    assert differs > 10


def test_stuck_registers_are_those_of_the_rtl() -> None:
    """Every stuck-at in the file of RTL answers, each of them on a layer with the streams of its program."""
    vectors = read_vectors(RTL)
    done = 0
    for program in vectors.programs:
        plan, operands = layer_of_vectors(vectors, program)
        for fault in np.flatnonzero(np.array(vectors.programs)[vectors.faults.program] == program).tolist():
            upset = vectors.upset(fault)
            if upset.kind != "flip":
                forced = forced_accumulator(plan, operands, (upset,))
                rows = np.concatenate(np.split(forced, plan.shape.groups, axis=1))
                assert np.array_equal(rows, vectors.answer(fault)), upset
                done += 1
    assert done == 800


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_one_dead_pe_takes_its_column_with_it(dataflow: Dataflow) -> None:
    """Stationary words, or results, pass it on their way down, and the sums from above end in it: what is left is the
    bias, of every column of the layer that the array's column works on."""
    spec = ArraySpec(rows=4, cols=3, dataflow=dataflow, psum_bits=18, acc_rows=8)
    rng = np.random.default_rng(5)
    act, wgt = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((1, 6, 9), (1, 9, 7)))
    operands = Operands(act=act, wgt=wgt, bias=np.arange(7, dtype=np.int32).reshape(1, 7))
    plan = schedule(spec, operands.shape)
    # In row 0, so that nothing is above it: the rest of the column gets zeros.
    forced = forced_accumulator(plan, operands, dead_pe(spec, 0, 1))
    bias = np.repeat(operands.bias, 6, axis=0)
    hit = (slice(1, None, 3), slice(None)) if dataflow == "is" else (slice(None), slice(1, None, 3))
    assert np.array_equal(forced[hit], bias[hit])
    expected = replay_layer(plan, operands).accumulator
    expected[hit] = bias[hit]
    assert np.array_equal(forced, expected)


def test_a_dead_part_is_all_of_its_pes() -> None:
    spec = ArraySpec(rows=3, cols=2, psum_bits=18, acc_rows=6)
    assert set(dead_row(spec, 1)) == {*dead_pe(spec, 1, 0), *dead_pe(spec, 1, 1)}
    assert set(dead_column(spec, 1)) == {upset for row in range(3) for upset in dead_pe(spec, row, 1)}
    assert {(upset.register, len(upset.bits)) for upset in dead_pe(spec, 0, 0)} == {
        ("pe_b", 8),
        ("pe_d", 8),
        ("pe_c1", 32),
        ("pe_c2", 32),
    }
    with pytest.raises(BadConfig, match="allowed"):
        dead_pe(spec, 3, 0)


def test_upsets_of_one_register_act_in_their_order() -> None:
    layer = layer_of("ws", np.random.default_rng(6), (4, 3))
    stuck = Upset(register="pe_a", row=0, col=0, bits=(1, 2), kind="stuck-at-0")
    flip = Upset(register="pe_a", row=0, col=0, bits=(1, 2), cycle=8)
    last, first = (forced_accumulator(*layer, upsets) for upsets in ((stuck, flip), (flip, stuck)))
    assert same(layer, (stuck, flip)) and same(layer, (flip, stuck))
    assert not np.array_equal(last, first)


def test_what_has_no_forced_form_is_refused() -> None:
    plan, operands = layer_of("os", np.random.default_rng(7), (4, 3))
    valid = Upset(register="pe_valid", row=0, col=1, bits=(0,), kind="stuck-at-0")
    act = Upset(register="pe_a", row=0, col=1, bits=(0,), kind="stuck-at-0")
    assert not has_forced_form(plan, (act, valid)) and has_forced_form(plan, (act,))
    with pytest.raises(BadConfig, match=r"pe_valid.*allowed: pe_a"):
        forced_accumulator(plan, operands, (act, valid))
    with pytest.raises(BadConfig, match="row 9; allowed: 0 to 3"):
        forced_accumulator(plan, operands, (replace(act, row=9),))
    with pytest.raises(BadData, match="allowed"):
        forced_accumulator(layer_of("os", np.random.default_rng(8), (4, 3))[0], operands, ())
