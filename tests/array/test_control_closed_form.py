"""Closed forms of control bits against the cycle engine, flip by flip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from emulator.array.closed_form import AccumulatorErrors, accumulator_errors, covered, has_closed_form
from emulator.array.cycle import replay_layer
from emulator.array.exposure import Sites
from emulator.array.operands import Operands
from emulator.array.registers import Register, inventory, register
from emulator.array.spec import ArraySpec, Dataflow
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import Upset
from emulator.errors import BadConfig
from emulator.gemm import GemmShape

Words = npt.NDArray[np.int32]
Layer = tuple[Schedule, Operands]

DATAFLOWS: tuple[Dataflow, ...] = ("ws", "os", "is")
CONTROL = (
    *("pe_valid", "pe_propagate", "pe_dataflow", "pe_shift", "pe_last_s", "skew_valid", "skew_control_propagate"),
    *("skew_control_dataflow", "skew_control_shift", "buf_valid", "buf_propagate", "buf_dataflow", "buf_shift"),
    *("late_shift", "out_dataflow"),
)  # fmt: skip
# Their columns all lie right of column 0, or they do nothing to the rows' number or to the bus.
ALWAYS = ("pe_propagate", "pe_shift", "pe_last_s", "skew_valid", "buf_propagate", "buf_shift", "out_dataflow")
SIZES = ((16, 16), (5, 3), (2, 6), (6, 1))


def layer_of(dataflow: Dataflow, rng: np.random.Generator, size: tuple[int, int] | None = None) -> Layer:
    """Arrays of any form; edge tiles, folds of several requests, blocks and groups are the rule."""
    rows, cols = size or (int(rng.integers(2, 7)), int(rng.integers(1, 7)))
    os, psum = dataflow == "os", 16 + (rows - 1).bit_length() + int(rng.integers(3))
    ws_only = not os and rng.random() < 0.3
    buffers = int(rng.choice([2 * max(64, 4 * rows), 2000]))
    spec = ArraySpec(
        rows=rows,
        cols=cols,
        dataflow=dataflow,
        dataflows="ws" if ws_only else "both",
        psum_bits=psum,
        bank_bits=int(rng.choice([8, 32])) if not os else int(rng.choice([psum, 32])),
        acc_rows=int(rng.integers(2 * rows if os else 2, 2 * rows + 16)),
        act_buffer_rows=buffers,
        wgt_buffer_rows=buffers,
    )
    g, m, k, n = (int(x) for x in rng.integers(1, (3, 19 + rows, 15 + rows, 12 + cols)))
    operands = Operands(
        act=rng.integers(-128, 128, (g, m, k)).astype(np.int8),
        wgt=rng.integers(-128, 128, (g, k, n)).astype(np.int8),
        bias=rng.integers(-(1 << 31), 1 << 31, (g, n)).astype(np.int32),
        preload=rng.integers(-128, 128, (g, m, n)).astype(np.int8) if rng.random() < 0.5 else None,
    )
    options = {"k_step": rows * int(rng.integers(1, 3)), "shift": int(rng.choice([0, 0, 1, 5]))} if os else {}
    return schedule(spec, operands.shape, **options), operands


def control_registers(spec: ArraySpec) -> list[Register]:
    return [reg for reg in inventory(spec) if reg.name in CONTROL and reg.total_bits > 0]


def any_sites(plan: Schedule, reg: Register, rng: np.random.Generator, count: int) -> Sites:
    """Uniform over all bits, and over the cycles until a few after the last row has left, dead ones included."""
    word = rng.integers(0, reg.total_bits, count)
    return Sites(*reg.place(word), rng.integers(0, plan.cycles + 3, count))


def upset_at(reg: Register, at: Sites, i: int) -> Upset:
    row, col, bit, cycle = (int(x[i]) for x in at)
    return Upset(register=reg.name, row=row, col=col, bits=(bit,), cycle=cycle)


def added(golden: Words, errors: AccumulatorErrors, i: int) -> Words:
    chosen = slice(*errors.ptr[i : i + 2])
    wrong = golden.copy()
    with np.errstate(over="ignore"):
        wrong[errors.m[chosen], errors.n[chosen]] += errors.delta[chosen]
    return wrong


def compared(layer: Layer, rng: np.random.Generator, per_register: int) -> Iterator[tuple[str, bool, bool]]:
    """(register, do both engines agree, did the flip matter) of flips that have a closed form."""
    plan, operands = layer
    golden = replay_layer(plan, operands).accumulator
    for reg in control_registers(plan.spec):
        at = any_sites(plan, reg, rng, per_register)
        at = Sites(*(x[covered(plan, reg, at)] for x in at))
        errors = accumulator_errors(plan, operands, reg, at)
        for i in range(len(at.row)):
            replay = replay_layer(plan, operands, (upset_at(reg, at, i),))
            same = np.array_equal(added(golden, errors, i), replay.accumulator)
            yield reg.name, same and replay.completed_in is not None, bool(np.diff(errors.ptr)[i] > 0)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_closed_form_of_a_control_flip_is_the_cycle_engine(dataflow: Dataflow) -> None:
    rng = np.random.default_rng(1)
    done, mattered = 0, set()
    for _ in range(80):
        for name, same, matters in compared(layer_of(dataflow, rng), rng, 8):
            assert same, name
            done += 1
            mattered |= {name} if matters else set()
    assert done > 5_500
    # A weight-stationary array shifts no results.
    assert mattered >= {name for name in CONTROL if dataflow == "os" or "shift" not in name} - {"pe_last_s"}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_closed_form_of_a_control_flip_fits_every_form_of_array(
    dataflow: Dataflow, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(2)
    flips = list(compared(layer_of(dataflow, rng, size), rng, 8))
    assert len(flips) > 15
    assert [name for name, same, _ in flips if not same] == []


@pytest.mark.parametrize("shift", [1, 7])
@pytest.mark.parametrize("name", ["pe_shift", "pe_last_s", "pe_propagate", "pe_valid"])
def test_results_that_are_shifted_have_a_closed_form(name: str, shift: int) -> None:
    rng = np.random.default_rng(3)
    _, operands = layer_of("os", rng, (4, 3))
    spec = ArraySpec(rows=4, cols=3, dataflow="os", psum_bits=18, acc_rows=8)
    plan, reg = schedule(spec, operands.shape, shift=shift), register(spec, name)
    at = any_sites(plan, reg, rng, 200)
    at = Sites(*(x[covered(plan, reg, at)] for x in at))
    errors = accumulator_errors(plan, operands, reg, at)
    golden = replay_layer(plan, operands).accumulator
    assert np.diff(errors.ptr).any()
    for i in range(len(at.row)):
        upset = upset_at(reg, at, i)
        replay = replay_layer(plan, operands, (upset,))
        assert np.array_equal(added(golden, errors, i), replay.accumulator), upset


def test_a_flip_one_slot_later_is_noticed_by_the_comparison() -> None:
    rng = np.random.default_rng(4)
    plan, operands = layer_of("ws", rng, (4, 3))
    reg = register(plan.spec, "pe_propagate")
    at = any_sites(plan, reg, rng, 60)
    golden = replay_layer(plan, operands).accumulator
    later = accumulator_errors(plan, operands, reg, at._replace(cycle=at.cycle + 1))
    differs = [
        not np.array_equal(
            added(golden, later, i), replay_layer(plan, operands, (upset_at(reg, at, i),)).accumulator
        )
        for i in range(60)
    ]
    assert sum(differs) > 20


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_errors_of_a_flip_name_each_accumulator_once_and_are_never_zero(dataflow: Dataflow) -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        plan, operands = layer_of(dataflow, rng)
        for reg in control_registers(plan.spec):
            at = any_sites(plan, reg, rng, 20)
            at = Sites(*(x[covered(plan, reg, at)] for x in at))
            errors = accumulator_errors(plan, operands, reg, at)
            fault = np.repeat(np.arange(len(at.row)), np.diff(errors.ptr))
            places = np.stack((fault, errors.m, errors.n))
            assert np.unique(places, axis=1).shape == places.shape
            assert (errors.delta != 0).all()


def test_only_column_0_moves_rows_or_the_bus() -> None:
    rng = np.random.default_rng(6)
    for dataflow in DATAFLOWS:
        plan, _ = layer_of(dataflow, rng, (4, 3))
        for reg in control_registers(plan.spec):
            at = any_sites(plan, reg, rng, 300)
            solved = covered(plan, reg, at)
            assert solved[at.col > 0].all()
            assert solved.all() or reg.name not in ALWAYS


def test_a_lost_row_is_left_to_the_cycle_engine_where_it_is_a_result() -> None:
    """Column 0 of 4 x 3 PEs: request 0 brings weights, or words to preload, and no results; nor do the requests of an
    output-stationary fold but the first."""
    shape = GemmShape(m=4, k=12, n=3)
    at = Sites(*np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [3, 6, 14, 18]]))
    expected: dict[Dataflow, list[bool]] = {
        "ws": [True, False, False, False],
        "os": [True, True, True, False],
    }
    for dataflow, answers in expected.items():
        spec = ArraySpec(rows=4, cols=3, dataflow=dataflow, psum_bits=20, acc_rows=8)
        plan = schedule(spec, shape, k_step=12 if dataflow == "os" else None)
        assert covered(plan, register(spec, "pe_valid"), at).tolist() == answers


def test_where_there_is_no_closed_form_only_dead_sites_are_covered() -> None:
    rng = np.random.default_rng(7)
    plan, operands = layer_of("ws", rng, (4, 3))
    tight = schedule(replace(plan.spec, overflow="saturate"), plan.shape)
    for layer, name in ((plan, "in_prop"), (tight, "pe_valid"), (tight, "pe_a")):
        reg = register(layer.spec, name)
        word = rng.integers(0, reg.total_bits, 200)
        at = Sites(*reg.place(word), rng.integers(0, 2 * layer.window_cycles, 200))
        dead = reg.lifetime.offset(layer, at)[0] < 0
        assert not has_closed_form(layer, name)
        assert np.array_equal(covered(layer, reg, at), dead)
        assert len(accumulator_errors(layer, operands, reg, Sites(*(x[dead] for x in at))).m) == 0
        with pytest.raises(BadConfig, match="allowed: those that are `covered`"):
            accumulator_errors(layer, operands, reg, at)


def test_closed_form_keeps_the_bit_before_and_after_the_flip() -> None:
    operands = Operands(
        act=np.ones((1, 4, 8), np.int8), wgt=np.ones((1, 8, 2), np.int8), bias=np.zeros((1, 2), np.int32)
    )
    spec = ArraySpec(rows=4, cols=2, dataflow="os", psum_bits=20, acc_rows=8)
    plan = schedule(spec, operands.shape, k_step=4, shift=3)
    # PE(1, 1) works on slot 8, the first of fold 1 and the first with a shift, in cycle 12.
    cases = {
        "pe_valid": (1, 0),
        "pe_propagate": (1, 0),
        "pe_dataflow": (1, 0),
        "pe_shift": (3, 2),
        "pe_last_s": (0, 1),
    }
    for name, expected in cases.items():
        at = Sites(*(np.array([x]) for x in (1, 1, 0, 12)))
        errors = accumulator_errors(plan, operands, register(spec, name), at)
        assert (errors.before[0], errors.after[0]) == expected, name
    below = Sites(*(np.array([x]) for x in (4, 0, 0, 14)))
    errors = accumulator_errors(plan, operands, register(spec, "out_dataflow"), below)
    assert (errors.before[0], errors.after[0]) == (1, 0)
