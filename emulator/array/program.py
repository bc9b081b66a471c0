"""A bare program for the mesh: what enters the edges slot by slot, without tiling or accumulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from emulator.array.layout import encode_upsets, grid
from emulator.array.mesh import BASE, BIAS, KEPT, STEP, Sink, Streams, advance
from emulator.array.spec import ArraySpec
from emulator.array.upset import Upset
from emulator.errors import BadData

Words = npt.NDArray[np.int32]

NEVER_WRITTEN = -999999


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """Requests of `rows` slots each, accepted back to back; slot s enters in cycle s.

    act (slots, rows), psum (slots, cols), weight (slots, cols), propagate (slots,), shift (slots,): int32,
    within the width of the edge registers. base (requests,) int64: the result row of a request's first row,
    -1 where it has no result address. Output-stationary rows leave the array bottom first.
    """

    dataflow: Literal["ws", "os"]
    act: Words
    psum: Words
    weight: Words
    propagate: Words
    shift: Words
    base: npt.NDArray[np.int64]
    result_rows: int


def run_program(spec: ArraySpec, program: Program, upsets: Sequence[Upset] = ()) -> Words:
    """The result rows (result_rows, cols) int32; rows never written hold NEVER_WRITTEN.

    Raises BadData for streams that don't fit the array, BadConfig for upsets outside it.
    """
    _check_shapes(spec, program)
    g = grid(spec, program.result_rows)
    state = np.zeros(g.words, np.int32)
    state[g.memory :] = NEVER_WRITTEN
    ascending = program.dataflow == "ws"
    requests = np.zeros((len(program.base), 4), np.int64)
    requests[:, BASE] = program.base
    requests[:, STEP] = 1
    if not ascending:
        requests[program.base >= 0, BASE] += spec.rows - 1
        requests[:, STEP] = -1
    requests[:, KEPT] = spec.rows
    requests[:, BIAS] = 0
    operands = np.concatenate((program.act, program.psum, program.weight), axis=1)
    dataflow = np.full_like(program.shift, not ascending)
    fields = np.stack((program.propagate, dataflow, program.shift), axis=1)
    streams = Streams(operands.ravel(), fields)
    none = np.zeros((0, 5), np.int64), np.zeros((0, 0), np.int32)
    sink = Sink(requests, np.zeros(spec.cols, np.int32), *none)
    cycles = len(program.act) + spec.drain_cycles + 1
    advance(state, g, encode_upsets(spec, g, upsets), streams, sink, 0, cycles)
    return state[g.memory :].reshape(program.result_rows, spec.cols)


def _check_shapes(spec: ArraySpec, program: Program) -> None:
    slots = spec.rows * len(program.base)
    allowed = {
        "act": (slots, spec.rows),
        "psum": (slots, spec.cols),
        "weight": (slots, spec.cols),
        "propagate": (slots,),
        "shift": (slots,),
    }
    for name, shape in allowed.items():
        words = getattr(program, name)
        if words.shape != shape or words.dtype != np.int32:
            raise BadData(
                f"Program: {name} is {words.dtype} {words.shape}; allowed: int32 {shape}, "
                f"{len(program.base)} requests of {spec.rows} slots. Pad the requests or change base."
            )
