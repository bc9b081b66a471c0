"""Both engines on a file of RTL answers, and how often they differ from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.array.closed_form import (
    accumulator_errors,
    covered,
    forced_accumulator,
    has_forced_form,
)
from emulator.array.closed_form.geometry import arrival
from emulator.array.exposure import Sites
from emulator.array.program import LoadedProgram, run_program
from emulator.array.registers import Register, register
from emulator.array.tiling import Schedule
from emulator.array.vectors import RESULT_ROWS, N, Vectors, array_of, layer_of, program_of

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

# The mesh, its edges and its way out work alike in a program and in its layer, in the same cycles; what lies
# behind them doesn't.
ALIKE = ("pe_", "buf_", "skew_", "out_", "deskew_")
# A program has a request more than its layer. Its rows are no results, but in column 0 their dataflow picks the bus for
# results that leave other columns at the same time.
PICKS_BUS = ("buf_dataflow", "pe_dataflow")


def by_cycles(vectors: Vectors, program: str, faults: Iterable[int]) -> Iterator[Words]:
    """The cycle engine's result (rows, N) under each of these faults of `program`."""
    bare = LoadedProgram(array_of(program), program_of(vectors, program))
    for fault in faults:
        yield bare.run((vectors.upset(fault),))


def by_closed_form(vectors: Vectors, program: str, name: str) -> tuple[Ints, Words]:
    """The faults of register `name` under `program` that have a closed form, flips of dead sites among them, and its
    results (faults, rows, N)."""
    faults = vectors.select(program, name)
    flips = vectors.flips(faults)
    parts = [_flips(vectors, program, name, flips), _forced(vectors, program, np.setdiff1d(faults, flips))]
    answered, results = zip(*parts, strict=True)
    return np.concatenate(answered), np.concatenate(results)


def _flips(vectors: Vectors, program: str, name: str, flips: Ints) -> tuple[Ints, Words]:
    plan, operands = layer_of(vectors, program)
    entry = register(plan.spec, name)
    flips = flips[_answered(plan, entry, vectors.sites(flips))]
    errors = accumulator_errors(plan, operands, entry, vectors.sites(flips))
    golden = run_program(plan.spec, program_of(vectors, program))
    results = np.repeat(golden[np.newaxis], len(flips), axis=0)
    group, n = np.divmod(errors.n, N)
    fault = np.repeat(np.arange(len(flips)), np.diff(errors.ptr))
    np.add.at(results, (fault, N * group + errors.m, n), errors.delta)
    return flips, results


def _forced(vectors: Vectors, program: str, stuck: Ints) -> tuple[Ints, Words]:
    plan, operands = layer_of(vectors, program)
    upsets = {fault: (vectors.upset(fault),) for fault in stuck.tolist()}
    solved = [
        fault
        for fault, upset in upsets.items()
        if upset[0].register.startswith(ALIKE) and has_forced_form(plan, upset)
    ]
    results = np.empty((len(solved), RESULT_ROWS[program], N), np.int32)
    for fault, result in zip(solved, results, strict=True):
        result[:] = rows_of(plan, forced_accumulator(plan, operands, upsets[fault]))
    return np.array(solved, np.int64), results


def rows_of(plan: Schedule, accumulator: Words) -> Words:
    """The result rows of a program, group after group, from those (m, groups * N) of its layer."""
    by_group = accumulator.reshape(plan.shape.m, plan.shape.groups, N).transpose(1, 0, 2)
    return by_group.reshape(-1, N)


def _answered(plan: Schedule, entry: Register, at: Sites) -> Flags:
    """Where the closed form of a flip in the layer is that of the program."""
    if not entry.name.startswith(ALIKE):
        return np.zeros(len(at.cycle), np.bool_)
    answered = covered(plan, entry, at)
    if entry.name in PICKS_BUS:
        slot, _, _ = arrival(plan, entry.name, at)
        answered &= (at.col > 0) | (slot < plan.total_slots)
    return answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Faults checked by the cycle engine and by the closed form, and those of them that the engine answers otherwise
    than the RTL; mismatches: by either. compute_window_flips: flips in a cycle in which a row of the program enters;
    closed_form_in_window: those of them that the closed form answers."""

    checked: int = 0
    mismatches: int = 0
    cycle_mismatches: int = 0
    closed_form: int = 0
    closed_form_mismatches: int = 0
    compute_window_flips: int = 0
    closed_form_in_window: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def closed_form_share(self) -> float | None:
        """Of the flips in the compute window, those that have a closed form; None where there are none."""
        return self.closed_form_in_window / self.compute_window_flips if self.compute_window_flips else None


def tally(vectors: Vectors, program: str, name: str) -> Tally:
    """One register under one program, by both engines."""
    faults = vectors.select(program, name)
    answered, formed = by_closed_form(vectors, program, name)
    wrong = _wrong(vectors, faults, by_cycles(vectors, program, faults.tolist()))
    wrong_forms = _wrong(vectors, answered, formed)
    flips = vectors.flips(faults)
    window = flips[vectors.faults.cycle[flips] < len(program_of(vectors, program).act)]
    return Tally(
        checked=len(faults),
        mismatches=len(wrong | wrong_forms),
        cycle_mismatches=len(wrong),
        closed_form=len(answered),
        closed_form_mismatches=len(wrong_forms),
        compute_window_flips=len(window),
        closed_form_in_window=len(np.intersect1d(window, answered)),
    )


def _wrong(vectors: Vectors, faults: Ints, results: Iterable[Words]) -> set[int]:
    pairs = zip(faults.tolist(), results, strict=True)
    return {fault for fault, found in pairs if not np.array_equal(found, vectors.answer(fault))}


def wrong_golden(vectors: Vectors) -> list[str]:
    """The programs whose fault-free result is not the RTL's."""
    return [
        program
        for program in vectors.programs
        if not np.array_equal(
            run_program(array_of(program), program_of(vectors, program)), vectors.golden[program]
        )
    ]


def check_vectors(vectors: Vectors) -> dict[str, Any]:
    """The counts of a file: of all faults, register by register, engine by engine, and of the fault-free results;
    `mismatches` is the sum of those of registers and fault-free results."""
    by_register = {
        name: sum((tally(vectors, program, name) for program in vectors.programs), Tally())
        for name in vectors.registers
    }
    total = sum(by_register.values(), Tally())
    golden = {"checked": len(vectors.programs), "mismatches": len(wrong_golden(vectors))}
    return {
        "checked": total.checked,
        "mismatches": total.mismatches + golden["mismatches"],
        "golden": golden,
        "by_register": {
            name: {**asdict(t), "closed_form_share": t.closed_form_share} for name, t in by_register.items()
        },
        "engines": {
            "cycle": {"checked": total.checked, "mismatches": total.cycle_mismatches},
            "closed-form": {"checked": total.closed_form, "mismatches": total.closed_form_mismatches},
        },
    }
