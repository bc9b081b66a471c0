"""The engines give the answers of the Gemmini RTL, fault by fault; the oracle is described in tests/data."""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from emulator.array.closed_form import accumulator_errors
from emulator.array.exposure import Sites
from emulator.array.operands import Operands
from emulator.array.program import Program, run_program
from emulator.array.registers import register
from emulator.array.spec import ArraySpec
from emulator.array.tiling import schedule
from emulator.array.upset import KINDS, Upset

Words = npt.NDArray[np.int32]

RTL = dict(np.load(Path(__file__).parents[1] / "data" / "gemmini16_rtl_vectors.npz"))
PROGRAMS, REGISTERS = RTL["programs"].tolist(), RTL["registers"].tolist()
GEMMINI = ArraySpec.preset("gemmini-16")
N = 16
ZERO = np.zeros((N, N), np.int8)


def measured(fault: int) -> Words:
    """The result the RTL gave under this fault."""
    result = RTL[f"golden_{PROGRAMS[RTL['faults'][fault, 0]]}"].copy()
    changed = slice(*RTL["changed_ptr"][fault : fault + 2])
    result.ravel()[RTL["changed_index"][changed]] = RTL["changed_value"][changed]
    return result


@cache
def program(name: str) -> Program:
    """Requests as (toggle, a, b, d, shift); the last one flushes: 16 rows that hold the last values."""
    w, a, d = RTL["W"], RTL["A"], RTL["D"]
    os_a, os_b, os_d = RTL["OS_A"], RTL["OS_B"], RTL["OS_D"]
    if name == "ws_chain3":
        requests = [(1, ZERO, ZERO, w[0][::-1], 0), (1, a[0], d[0], w[1][::-1], 0)]
        requests += [(1, a[1], d[1], w[2][::-1], 0), (1, a[2], d[2], ZERO, 0)]
    elif name == "ws_reuse3":
        requests = [(1, ZERO, ZERO, w[0][::-1], 0)]
        requests += [(int(k == 0), a[k], d[k], ZERO, 0) for k in range(3)]
    else:
        requests = [(1, ZERO, ZERO, os_d[::-1], 0), (1, os_a[0].T, os_b[0], ZERO, 0)]
        requests += [(0, os_a[1].T, os_b[1], ZERO, 5)] if name == "os_k32_shift5" else []
        requests += [(1, ZERO, ZERO, ZERO, 0)]
    requests += [(0, *(np.tile(x[-1], (N, 1)) for x in requests[-1][1:4]), 0)]
    toggles, acts, psums, weights, shifts = zip(*requests, strict=True)
    base = [-1, 0, 16, 32, -1] if name.startswith("ws") else [-1] * (len(requests) - 2) + [0, -1]
    return Program(
        dataflow="ws" if name.startswith("ws") else "os",
        act=np.concatenate(acts).astype(np.int32),
        psum=np.concatenate(psums).astype(np.int32),
        weight=np.concatenate(weights).astype(np.int32),
        propagate=np.repeat(np.cumsum(toggles) % 2, N).astype(np.int32),
        shift=np.repeat(shifts, N).astype(np.int32),
        base=np.array(base),
        result_rows=N * sum(b >= 0 for b in base),
    )


def cycle_engine(fault: int) -> Words:
    which, reg, row, col, bit, kind, cycle = RTL["faults"][fault].tolist()
    upset = Upset(register=REGISTERS[reg], row=row, col=col, bits=(bit,), kind=KINDS[kind], cycle=cycle)
    return run_program(GEMMINI, program(PROGRAMS[which]), (upset,))


def as_layer(name: str) -> Operands:
    """The same streams as a layer: three groups of one tile each, or one tile that sees 48 rows."""
    w, a, d = RTL["W"], RTL["A"], RTL["D"]
    if name == "ws_chain3":
        return Operands(act=a, wgt=w, bias=np.zeros((3, N), np.int32), psum=d)
    act, psum = a.reshape(1, 3 * N, N), d.reshape(1, 3 * N, N)
    return Operands(act=act, wgt=w[:1], bias=np.zeros((1, N), np.int32), psum=psum)


def closed_form(fault: int) -> Words:
    which, reg, row, col, bit, _, cycle = RTL["faults"][fault].tolist()
    name = PROGRAMS[which]
    layer = as_layer(name)
    at = Sites(*(np.array([x]) for x in (row, col, bit, cycle)))
    plan = schedule(GEMMINI, layer.shape)
    errors = accumulator_errors(plan, layer, register(GEMMINI, REGISTERS[reg]), at)
    result = RTL[f"golden_{name}"].copy()
    group, col_of_group = np.divmod(errors.n, N)
    np.add.at(result, (N * group + errors.m, col_of_group), errors.delta)
    return result


def faults_of(registers: list[str], programs: list[str] = PROGRAMS, *, flips_only: bool = False) -> list[int]:
    which, reg, kind = RTL["faults"][:, 0], RTL["faults"][:, 1], RTL["faults"][:, 5]
    chosen = np.isin(reg, [REGISTERS.index(r) for r in registers])
    chosen &= np.isin(which, [PROGRAMS.index(p) for p in programs])
    return np.flatnonzero(chosen & ((kind == 0) | (not flips_only))).tolist()


def test_rtl_kinds_are_the_kinds_of_an_upset() -> None:
    assert tuple(kind.replace("_", "-") for kind in RTL["kinds"].tolist()) == KINDS


@pytest.mark.parametrize("name", PROGRAMS)
def test_cycle_engine_gives_the_fault_free_rtl_result(name: str) -> None:
    assert np.array_equal(run_program(GEMMINI, program(name)), RTL[f"golden_{name}"])


@pytest.mark.parametrize("name", REGISTERS)
def test_cycle_engine_gives_every_rtl_response(name: str) -> None:
    faults = faults_of([name])
    assert faults
    assert [f for f in faults if not np.array_equal(cycle_engine(f), measured(f))] == []


@pytest.mark.parametrize("name", ["pe_a", "pe_b", "pe_d", "pe_c1", "pe_c2"])
def test_closed_form_gives_every_rtl_response_to_a_flip(name: str) -> None:
    faults = faults_of([name], ["ws_chain3", "ws_reuse3"], flips_only=True)
    assert faults
    assert [f for f in faults if not np.array_equal(closed_form(f), measured(f))] == []


def test_a_response_that_is_off_by_one_is_noticed() -> None:
    for engine in (cycle_engine, closed_form):
        wrong = measured(fault := faults_of(["pe_a"], ["ws_chain3"], flips_only=True)[0])
        wrong[5, 7] += 1
        assert not np.array_equal(engine(fault), wrong)


def test_every_register_has_faults_that_show_and_together_they_are_all_6080() -> None:
    shows = np.diff(RTL["changed_ptr"]) > 0
    never = {REGISTERS[r] for r in range(len(REGISTERS)) if not shows[RTL["faults"][:, 1] == r].any()}
    assert never <= {"pe_shift", "pe_last_s"}
    assert sum(len(faults_of([name])) for name in REGISTERS) == len(shows) == 6080
