"""The cycle engine against integer NumPy and plain Python; closed form and live sites against the cycle engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.array.closed_form import (
    accumulator_errors,
    covered,
    forced_accumulator,
    has_closed_form,
    has_forced_form,
)
from emulator.array.cycle import Replay, replay_layer, run_gemm
from emulator.array.exposure import Sites
from emulator.array.operands import Operands
from emulator.array.registers import Register, inventory, register
from emulator.array.spec import ArraySpec, Dataflow, Overflow
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import FLIP, KINDS, Upset
from emulator.errors import BadConfig, BadData
from emulator.gemm import FixedPoint, GemmShape, Requantisation

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.int32]

DATAFLOWS: tuple[Dataflow, ...] = ("ws", "os", "is")
# Words that pass through the mesh or rest in it.
FORCED = (
    *("pe_a", "pe_b", "pe_d", "pe_c1", "pe_c2", "buf_a", "buf_b", "buf_d", "skew_a", "skew_b", "skew_d"),
    *("out_b", "out_c", "deskew_data", "write_data"),
)


# ---- layers


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with its operands and its requantisation; `run` is the cycle engine."""

    plan: Schedule
    operands: Operands
    requantisation: Requantisation | FixedPoint

    def run(self, *upsets: Upset) -> Replay:
        return replay_layer(self.plan, self.operands, upsets, self.requantisation)


def integers(rng: np.random.Generator, bits: int, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Signed words of this width, the ends included."""
    return rng.integers(-1 << (bits - 1), 1 << (bits - 1), shape)


def operands_of(spec: ArraySpec, shape: GemmShape, rng: np.random.Generator, *, preload: bool) -> Operands:
    g, m, k, n = shape.groups, shape.m, shape.k, shape.n
    act = integers(rng, spec.act_bits, (g, m, k)).astype(np.int8 if spec.act_bits <= 8 else np.int16)
    wgt = integers(rng, spec.wgt_bits, (g, k, n)).astype(np.int8 if spec.wgt_bits <= 8 else np.int16)
    bias = integers(rng, spec.acc_bits, (g, n)).astype(np.int32)
    edge = integers(rng, min(spec.edge_bits, 8), (g, m, n)).astype(np.int8)
    return Operands(act=act, wgt=wgt, bias=bias, preload=edge if preload else None)


def requantisation_of(
    spec: ArraySpec, shape: GemmShape, rng: np.random.Generator
) -> Requantisation | FixedPoint:
    """Scales that bring a word of the accumulator to a few times the range of a result."""
    bits = min(spec.act_bits, 8)
    spread = 2.0 ** (bits - spec.acc_bits)
    scale = rng.uniform(spread / 2, min(4 * spread, 0.99), shape.groups * shape.n).astype(np.float32)
    float32 = Requantisation(
        scale=scale, zero_point=int(rng.integers(-4, 5)), low=-1 << (bits - 1), high=(1 << (bits - 1)) - 1
    )
    return FixedPoint.of(float32) if spec.requantiser == "fixed-point" else float32


def layer_of(
    spec: ArraySpec, shape: GemmShape, seed: int = 0, *, preload: bool = False, **options: int
) -> Layer:
    """options: k_step and shift of an output-stationary schedule."""
    rng = np.random.default_rng(seed)
    operands = operands_of(spec, shape, rng, preload=preload)
    return Layer(
        plan=schedule(spec, shape, **options),
        operands=operands,
        requantisation=requantisation_of(spec, shape, rng),
    )


WIDTHS = [(8, 8), (8, 8), (4, 4), (16, 12), (12, 16), (8, 4), (4, 8), (14, 14), (2, 2)]


@st.composite
def specs(draw: st.DrawFn, dataflow: Dataflow) -> ArraySpec:
    """Small arrays of any form; buffers are large, partial sums exact."""
    rows, cols = draw(st.integers(2, 6)), draw(st.integers(1, 6))
    act_bits, wgt_bits = draw(st.sampled_from([w for w in WIDTHS if dataflow != "is" or w[0] == w[1]]))
    psum_bits = min(act_bits + wgt_bits + (rows - 1).bit_length() + draw(st.integers(0, 2)), 32)
    bank_bits = draw(st.sampled_from([psum_bits if dataflow == "os" else wgt_bits, psum_bits, 32]))
    halves = 2 * rows if dataflow == "os" else 2
    return ArraySpec(
        rows=rows,
        cols=cols,
        dataflow=dataflow,
        dataflows="both" if dataflow == "os" else draw(st.sampled_from(["both", "ws"])),
        act_bits=act_bits,
        wgt_bits=wgt_bits,
        psum_bits=max(psum_bits, 4),
        bank_bits=max(bank_bits, 4),
        acc_rows=draw(st.integers(halves, halves + 21)),
        act_buffer_rows=2000,
        wgt_buffer_rows=2000,
        requantiser=draw(st.sampled_from(["float32", "fixed-point"])),
    )


@st.composite
def shapes(draw: st.DrawFn) -> GemmShape:
    """Edge tiles, several folds, blocks and groups are the rule."""
    size = {name: draw(st.integers(1, most)) for name, most in (("m", 18), ("k", 15), ("n", 11))}
    return GemmShape(groups=draw(st.integers(1, 3)), **size)


@st.composite
def layers(draw: st.DrawFn, dataflow: Dataflow) -> Layer:
    spec, shape = draw(specs(dataflow)), draw(shapes())
    if draw(st.booleans()):
        spec = with_small_buffers(spec, shape, draw(st.integers(0, 9)))
    return layer_of(spec, shape, draw(st.integers(0, 999)), preload=draw(st.booleans()))


@st.composite
def struck_layers(draw: st.DrawFn, dataflow: Dataflow) -> Layer:
    """The same, where output-stationary with other k-blocks and with shifted results too."""
    layer = draw(layers(dataflow))
    if dataflow != "os" or draw(st.booleans()):
        return layer
    spec, shape = layer.plan.spec, layer.plan.shape
    options = {"k_step": spec.rows * draw(st.integers(1, 3)), "shift": draw(st.sampled_from([0, 1, 5]))}
    spec = replace(spec, act_buffer_rows=2000, wgt_buffer_rows=2000)
    return layer_of(spec, shape, draw(st.integers(0, 999)), preload=draw(st.booleans()), **options)


def with_small_buffers(spec: ArraySpec, shape: GemmShape, spare: int) -> ArraySpec:
    """Room for the largest tile twice, and `spare` rows."""
    slots = int(schedule(spec, shape).slots.max())
    weights = slots if spec.dataflow == "os" else spec.rows
    return replace(spec, act_buffer_rows=2 * slots + spare, wgt_buffer_rows=2 * weights + spare)


# Two blocks of two k-folds each: five requests of four slots. The last row enters in slot 19, is at the outputs of
# column 0 in cycle 25 and deskewed in cycle 27; entry 4 of the tag table is the last request's from cycle 16 on.
TWO_BLOCKS = layer_of(ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=8), GemmShape(m=6, k=6, n=3))


# ---- oracles


def matmul(operands: Operands) -> Words:
    """int64 NumPy, wrapped to 32 bits."""
    total = operands.act.astype(np.int64) @ operands.wgt.astype(np.int64) + operands.bias[:, np.newaxis]
    if operands.preload is not None:
        total += operands.preload
    return np.concatenate(total, axis=1).astype(np.int32)


def narrowed(value: int, bits: int, overflow: str) -> int:
    """What a word of `bits` bits makes of a sum."""
    half = 1 << (bits - 1)
    if overflow == "saturate":
        return max(-half, min(value, half - 1))
    return (value + half) % (2 * half) - half


def pe_by_pe(plan: Schedule, operands: Operands) -> Words:
    """Every multiply-accumulate in the order of the PEs, in plain Python: down a column (WS, IS), or cycle by cycle
    in one PE, which shifts the sum on its way out (OS); each k-fold's result is added in the accumulator."""
    spec, shape = plan.spec, plan.shape
    fold = int(plan.k_size[0]) if spec.dataflow == "os" else spec.rows
    result = np.empty((shape.m, shape.groups * shape.n), np.int32)
    for g, m, n in np.ndindex(shape.groups, shape.m, shape.n):
        products = [int(a) * int(w) for a, w in zip(operands.act[g, m], operands.wgt[g, :, n], strict=True)]
        total, entering = int(operands.bias[g, n]), 0
        if operands.preload is not None:
            entering = int(operands.preload[g, m, n])
        for start in range(0, shape.k, fold):
            for product in products[start : start + fold]:
                entering = narrowed(entering + product, spec.psum_bits, spec.overflow)
            # Python rounds half to even.
            leaving = round(Fraction(entering, 1 << plan.shift))
            total = narrowed(total + leaving, spec.acc_bits, spec.overflow)
            entering = 0
        result[m, g * shape.n + n] = total
    return result


# ---- sites


def any_sites(plan: Schedule, reg: Register, rng: np.random.Generator, count: int) -> Sites:
    """Uniform over all bits and cycles, dead ones included."""
    word = rng.integers(0, max(reg.total_bits, 1), count if reg.total_bits else 0)
    return Sites(*reg.place(word), rng.integers(0, plan.window_cycles, len(word)))


def live_sites(plan: Schedule, reg: Register, rng: np.random.Generator, count: int) -> Sites:
    """Uniform over the live ones; none where the layer has none."""
    ends = np.cumsum(reg.lifetime.count(plan))
    if ends[-1] == 0:
        return Sites(*np.zeros((4, 0), np.int64))
    index = rng.integers(0, ends[-1], count)
    fold = np.searchsorted(ends, index, side="right")
    offset = index - np.where(fold > 0, ends[fold - 1], 0)
    at = reg.lifetime.site(plan, fold, offset)
    assert np.array_equal(reg.lifetime.offset(plan, at), (fold, offset)), reg.name
    return at


def dead_sites(plan: Schedule, reg: Register, rng: np.random.Generator, count: int) -> Sites:
    at = any_sites(plan, reg, rng, count)
    dead = reg.lifetime.offset(plan, at)[0] < 0
    return Sites(*(column[dead] for column in at))


def joined(*parts: Sites) -> Sites:
    return Sites(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def upsets_at(reg: Register, at: Sites) -> Iterator[Upset]:
    for row, col, bit, cycle in zip(*(column.tolist() for column in at), strict=True):
        yield Upset(register=reg.name, row=row, col=col, bits=(bit,), cycle=cycle)


# ---- the cycle engine without faults


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_cycle_engine_is_a_requantised_matrix_product_in_the_scheduled_cycles(dataflow: Dataflow) -> None:
    @settings(max_examples=80)
    @given(layers(dataflow))
    def check(layer: Layer) -> None:
        replay, expected = layer.run(), matmul(layer.operands)
        assert np.array_equal(replay.accumulator, expected)
        assert np.array_equal(replay.output, layer.requantisation(expected))
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
    assert np.array_equal(replay.output, layer.requantisation(expected))
    assert (replay.cycles, replay.completed_in) == (layer.plan.cycles, layer.plan.window_cycles)


@st.composite
def inexact_layers(draw: st.DrawFn, dataflow: Dataflow, overflow: Overflow) -> Layer:
    """Partial sums and accumulators too narrow for their layer."""
    spec = draw(specs(dataflow))
    narrowest = max(spec.act_bits, spec.wgt_bits, 4)
    spec = replace(
        spec,
        psum_bits=draw(st.integers(narrowest, min(spec.exact_psum_bits, 31))),
        bank_bits=32,
        acc_bits=draw(st.sampled_from([8, 16, 24, 32])),
        overflow=overflow,
    )
    options = {}
    if dataflow == "os":
        options = {
            "k_step": spec.rows * draw(st.integers(1, 3)),
            "shift": draw(st.sampled_from([0, 0, 1, 5, 31])),
        }
    return layer_of(spec, draw(shapes()), draw(st.integers(0, 999)), preload=draw(st.booleans()), **options)


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
            assert np.array_equal(replay.output, layer.requantisation(expected)), upset
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
        assert np.array_equal(replay.output, layer.requantisation(expected))
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
