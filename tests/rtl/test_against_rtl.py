"""The cycle engine and our own RTL, written from the same page by different hands, agree fault by fault."""

from dataclasses import replace

import numpy as np
import pytest
from bridge import by_engine, by_rtl, load, random_upset

from emulator.array.compile import compile_layer
from emulator.array.host import Host
from emulator.array.operands import Operands
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import Upset
from emulator.gemm import FixedPoint, Requantisation

SIZES = ((4, 4), (5, 3), (8, 8), (16, 16))
DATAFLOWS = ("ws", "os", "is")


def array(rows: int, cols: int, dataflow: str) -> ArraySpec:
    """Small memories, so that every address bit matters and buffers are reloaded."""
    return ArraySpec(
        rows=rows,
        cols=cols,
        dataflow=dataflow,
        psum_bits=16 + (rows - 1).bit_length(),
        acc_rows=4 * rows + 2,
        act_buffer_rows=max(64, 8 * rows),
        wgt_buffer_rows=max(64, 8 * rows),
    )


def random_layer(spec: ArraySpec, rng: np.random.Generator) -> tuple[Schedule, Host]:
    """Several folds, edge tiles, sometimes preloaded words, a bias a row, sums that leave as they are, and,
    output-stationary, a right shift."""
    groups, m, k = (int(rng.integers(1, most)) for most in (3, 3 * spec.rows, 3 * spec.rows))
    n = int(rng.integers(1, 2 * spec.cols + 2))

    def words(*shape: int) -> np.ndarray:
        low = -(1 << (spec.act_bits - 1))
        return rng.integers(low, -low, shape).astype(np.int16)

    operands = Operands(
        act=words(groups, m, k),
        wgt=words(groups, k, n),
        bias=rng.integers(-(2**14), 2**14, (groups, m, n) if rng.random() < 0.4 else (groups, n)).astype(
            np.int32
        ),
        preload=words(groups, m, n).astype(np.int8) if rng.random() < 0.5 else None,
    )
    shift = int(rng.integers(0, 6)) if spec.dataflow == "os" and rng.random() < 0.5 else 0
    plan = schedule(spec, operands.shape, shift=shift, requantised=rng.random() < 0.7)
    if not plan.requantised:
        return plan, compile_layer(plan, operands, None)
    scales = Requantisation(scale=rng.uniform(1e-4, 1e-2, groups * n).astype(np.float32), zero_point=3)
    fixed = spec.requantiser == "fixed-point"
    return plan, compile_layer(plan, operands, FixedPoint.of(scales) if fixed else scales)


def compare(spec: ArraySpec, seed: int, programs: int, upsets: int) -> tuple[int, int]:
    """(faults, faults that show); raises where the two differ."""
    rng = np.random.default_rng(seed)
    done = shows = 0
    for _ in range(programs):
        plan, host = random_layer(spec, rng)
        rows, cycles = int(plan.m_size[plan.last_folds].sum()), 2 * plan.window_cycles
        circuit = load(spec, host, rows, cycles)
        golden = by_engine(spec, host, rows, cycles, [])
        assert golden == by_rtl(circuit, [])
        assert golden.completed == plan.window_cycles
        for register in inventory(spec):
            for _ in range(upsets if register.total_bits else 0):
                together = [random_upset(register, plan.window_cycles, rng)]
                if rng.random() < 0.1:
                    together.append(random_upset(register, plan.window_cycles, rng))
                ours = by_engine(spec, host, rows, cycles, together)
                assert ours == by_rtl(circuit, together), together
                done += 1
                shows += ours != golden
    return done, shows


def test_a_small_array_agrees_with_the_rtl() -> None:
    done, shows = compare(array(4, 4, "ws"), 1, 2, 2)
    assert done > 300 and shows > 100


@pytest.mark.slow
@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize(("rows", "cols"), SIZES)
def test_every_register_class_agrees_with_the_rtl(rows: int, cols: int, dataflow: str) -> None:
    """12 cells x 4 programs x 6 upsets x 79 register classes and more: over 20,000 faults in all."""
    done, shows = compare(array(rows, cols, dataflow), rows * 10 + cols, 4, 6)
    print(f"{rows}x{cols} {dataflow}: {done} faults, {shows} show, 0 differences")
    assert done >= 1_667 and shows > done / 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"overflow": "saturate", "psum_bits": 15},
        {"psum_bits": 14},
        {"requantiser": "fixed-point"},
        {"act_bits": 4, "wgt_bits": 4, "psum_bits": 12, "acc_bits": 24},
        {"act_bits": 16, "wgt_bits": 16, "psum_bits": 32},
        {"dataflows": "ws", "bank_bits": 8},
    ],
    ids=str,
)
def test_other_widths_agree_with_the_rtl(change: dict[str, str | int]) -> None:
    done, shows = compare(replace(array(5, 3, "ws"), **change), 7, 3, 2)
    assert shows > done / 5
    if "dataflows" not in change:
        done, shows = compare(replace(array(5, 3, "os"), bank_bits=32, **change), 8, 3, 2)
        assert shows > done / 5


def test_a_difference_would_be_noticed() -> None:
    spec = array(4, 4, "ws")
    plan, host = random_layer(spec, np.random.default_rng(3))
    rows, cycles = int(plan.m_size[plan.last_folds].sum()), 2 * plan.window_cycles
    circuit = load(spec, host, rows, cycles)
    upsets = [Upset(register="seq_row", row=0, col=0, bits=(0,), cycle=c) for c in (9, 10)]
    assert by_engine(spec, host, rows, cycles, upsets[:1]) != by_rtl(circuit, upsets[1:])
