"""A bare program: what enters the edges request by request, without tiling, accumulation or requantisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.array.host import (
    ACT_ADDRESS,
    ACT_BUFFER,
    ACT_ON,
    BASE,
    KEPT,
    REQUEST_FIELDS,
    RESULT,
    SHIFT_FIELD,
    STATIONARY_OUT,
    TOGGLE,
    WGT_ADDRESS,
    WGT_BUFFER,
    WGT_ON,
    Host,
    Observed,
)
from emulator.array.injection import encode_upsets
from emulator.array.layout import grid
from emulator.array.machine import advance, reset
from emulator.array.spec import ArraySpec
from emulator.array.tiling import WRITE_CYCLES
from emulator.array.upset import Upset
from emulator.errors import BadData

Words = npt.NDArray[np.int32]

NEVER_WRITTEN = -999999


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """Requests of `rows` slots each, accepted back to back; slot s enters in cycle s. The array's dataflow says
    what it is for.

    act (slots, rows), psum (slots, cols), weight (slots, cols): what enters at the left, at b and at d, int32,
    within the width of the edge registers. toggle, shift, base (requests,) int64: whether the request switches
    the banks, its right shift, and the result row of its first row, -1 where it has no result address.
    Output-stationary rows leave the array bottom first.
    """

    act: Words
    psum: Words
    weight: Words
    toggle: npt.NDArray[np.int64]
    shift: npt.NDArray[np.int64]
    base: npt.NDArray[np.int64]
    result_rows: int


class LoadedProgram:
    """A program on its array; `run` as often as wanted.

    Raises BadData for streams that don't fit the array and its buffers.
    """

    def __init__(self, spec: ArraySpec, program: Program) -> None:
        self._spec, self._program = spec, program
        self._grid, self._host = grid(spec), compile_program(spec, program)
        self._start = np.zeros(self._grid.words, np.int32)
        reset(self._start, self._grid, self._host)
        self._start[self._grid.memory :] = NEVER_WRITTEN

    def run(self, upsets: Sequence[Upset] = ()) -> Words:
        """The result rows (result_rows, cols) int32; rows never written hold NEVER_WRITTEN. Raises BadConfig for upsets
        outside the array."""
        table, state, g = encode_upsets(self._spec, self._grid, upsets), self._start.copy(), self._grid
        none = np.zeros((0, self._spec.cols), np.int32), np.zeros(1, np.int32)
        seen = Observed(none[0], none[0], none[1], none[1])
        patches, cycles = np.zeros(len(upsets), np.int32), program_cycles(self._spec, self._program)
        advance(state, g, table, patches, self._host, seen, 0, cycles)
        return state[g.memory :].reshape(-1, self._spec.cols)[: self._program.result_rows]


def run_program(spec: ArraySpec, program: Program, upsets: Sequence[Upset] = ()) -> Words:
    """`LoadedProgram.run`, once."""
    return LoadedProgram(spec, program).run(upsets)


def program_cycles(spec: ArraySpec, program: Program) -> int:
    """From the first row accepted to the last result row in the accumulator."""
    return len(program.act) + spec.drain_cycles + WRITE_CYCLES


def compile_program(spec: ArraySpec, program: Program) -> Host:
    """The host tables; everything is in the buffers before the start."""
    _check_shapes(spec, program)
    os = spec.dataflow == "os"
    slots = len(program.act)
    requests = np.zeros((len(program.base), REQUEST_FIELDS), np.int64)
    requests[:, TOGGLE], requests[:, SHIFT_FIELD] = program.toggle, program.shift
    requests[:, STATIONARY_OUT] = os
    requests[:, ACT_ON] = requests[:, WGT_ON] = 1
    requests[:, ACT_ADDRESS] = requests[:, WGT_ADDRESS] = np.arange(len(requests)) * spec.rows
    requests[:, RESULT] = program.base >= 0
    requests[:, BASE] = np.maximum(program.base, 0)
    requests[:, KEPT] = spec.rows
    row = np.arange(slots)
    loads = [np.stack((np.full(slots, -1), np.full(slots, b), row, row), 1) for b in (ACT_BUFFER, WGT_BUFFER)]
    none = np.zeros((0, spec.cols), np.int32)
    return Host(
        requests=requests,
        stream=program.weight if os else program.psum,
        act=program.act.astype(np.int16),
        wgt=(program.psum if os else program.weight).astype(np.int16),
        loads=np.concatenate(loads),
        bias=none,
        bias_tiled=0,
        scale=none,
        shift=none,
        scale_step=0,
        blocks=np.zeros((0, 4), np.int64),
        clip=(0, 0, 0),
        requantised=0,
    )


def _check_shapes(spec: ArraySpec, program: Program) -> None:
    slots = spec.rows * len(program.base)
    room = min(spec.act_buffer_rows, spec.wgt_buffer_rows)
    if slots > room or program.result_rows > spec.acc_rows:
        raise BadData(
            f"Program: {slots} slots, {program.result_rows} result rows; allowed on {spec.name!r}: {room}, "
            f"{spec.acc_rows}. Shorten the program, or use larger buffers and acc_rows."
        )
    allowed = {"act": (slots, spec.rows), "psum": (slots, spec.cols), "weight": (slots, spec.cols)}
    for name, shape in allowed.items():
        words = getattr(program, name)
        if words.shape != shape or words.dtype != np.int32:
            raise BadData(
                f"Program: {name} is {words.dtype} {words.shape}; allowed: int32 {shape}, "
                f"{len(program.base)} requests of {spec.rows} slots. Pad the requests or change base."
            )
        bits = spec.act_bits if name == "act" else spec.edge_bits
        if ((words >> (bits - 1)) != (words >> 31)).any():
            raise BadData(
                f"Program: {name} holds {words.min()} to {words.max()}; allowed: {bits} bits signed, the width of "
                f"the edge registers. Use smaller words or a wider array."
            )
    for name in ("toggle", "shift"):
        if getattr(program, name).shape != program.base.shape:
            raise BadData(f"Program: {name} {getattr(program, name).shape}; allowed: {program.base.shape}.")
