"""The cycle engine: programs and layers on the machine, every register in every cycle, any Upset in any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emulator.array.compile import compile_layer
from emulator.array.host import Host, Observed, Table, Words
from emulator.array.injection import encode_upsets
from emulator.array.layout import Control, Grid, grid
from emulator.array.machine import advance, reset
from emulator.array.operands import Operands
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import Upset
from emulator.errors import BadData
from emulator.gemm import FixedPoint, Requantisation

HANG_FACTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """accumulator (m, groups * n) int32 as drained, wrapped at acc_bits; output, the same shape, what the
    requantiser wrote (int32; to be ignored without a requantisation, zero where sums leave unrequantised). cycles:
    first accepted row to last result row, both included. completed_in: cycles until the last output was written,
    None for a hang (DUE)."""

    accumulator: npt.NDArray[np.int32]
    output: npt.NDArray[np.int32]
    cycles: int
    completed_in: int | None


def replay_layer(
    plan: Schedule,
    operands: Operands,
    upsets: Sequence[Upset] = (),
    requantisation: Requantisation | FixedPoint | None = None,
) -> Replay:
    """The layer cycle by cycle; cycle 0 accepts the first row of the first preload. A run that takes twice the
    cycles of the layer hangs.

    Raises BadData for operands of another shape, BadConfig for upsets outside the array.
    """
    host = compile_layer(plan, operands, requantisation)
    g = grid(plan.spec)
    seen = observer(plan)
    encoded = encode_upsets(plan.spec, g, upsets)
    state, cycle = run(g, host, seen, encoded, cycle_limit(plan))
    control = state[g.control :]
    return Replay(
        accumulator=as_matrix(plan, seen.rows),
        output=as_matrix(plan, seen.result),
        cycles=int(control[Control.LAST_RESULT]) + 1,
        completed_in=cycle if control[Control.COMPLETE] else None,
    )


def run(g: Grid, host: Host, seen: Observed, upsets: Table, cycles: int) -> tuple[Words, int]:
    """(state, cycle) at the end of a run from reset."""
    state = np.zeros(g.words, np.int32)
    reset(state, g, host)
    return state, advance(state, g, upsets, np.zeros(len(upsets), np.int32), host, seen, 0, cycles)


def cycle_limit(plan: Schedule) -> int:
    """A run that is not complete by this cycle hangs."""
    return HANG_FACTOR * plan.window_cycles


def observer(plan: Schedule) -> Observed:
    """Room for the results of a layer."""
    rows = int(plan.m_size[plan.last_folds].sum())
    words = np.zeros((2, rows, plan.spec.cols), np.int32)
    log = np.zeros((2, 2 * cycle_limit(plan)), np.int32)
    return Observed(words[0], words[1], log[0], log[1])


def as_matrix(plan: Schedule, rows: Words) -> npt.NDArray[np.int32]:
    """Output rows, block after block, as (m, groups * n) of the layer."""
    shape = plan.streamed
    result = np.zeros((shape.groups, shape.m, shape.n), np.int32)
    start = 0
    for fold in plan.last_folds:
        m, n = int(plan.m_start[fold]), int(plan.n_start[fold])
        height, width = int(plan.m_size[fold]), int(plan.n_size[fold])
        result[plan.group[fold], m : m + height, n : n + width] = rows[start : start + height, :width]
        start += height
    if plan.spec.dataflow == "is":
        result = result.transpose(0, 2, 1)
    return np.ascontiguousarray(result.transpose(1, 0, 2)).reshape(plan.shape.m, -1)


def run_gemm(
    spec: ArraySpec,
    act: npt.NDArray[np.int8] | npt.NDArray[np.int16],
    wgt: npt.NDArray[np.int8] | npt.NDArray[np.int16],
    bias: npt.NDArray[np.int32] | None = None,
    upsets: Sequence[Upset] = (),
) -> Replay:
    """act @ wgt + bias on the array `spec`, cycle by cycle.

    act (m, k) or (groups, m, k), wgt (k, n) or (groups, k, n) int8 or int16, bias (n,) or (m, n), with leading groups
    where the operands have them, int32, zero by default. Raises BadData for anything else, BadConfig for upsets
    outside the array.
    """
    if act.ndim != wgt.ndim or act.ndim not in (2, 3):
        raise BadData(
            f"run_gemm: act {act.shape}, wgt {wgt.shape}; allowed: (m, k) and (k, n), or (groups, m, k) and "
            "(groups, k, n). Reshape the operands."
        )
    if act.ndim == 2:
        act, wgt = act[np.newaxis], wgt[np.newaxis]
        bias = None if bias is None else bias[np.newaxis]
    if bias is None:
        bias = np.zeros((wgt.shape[0], wgt.shape[2]), np.int32)
    operands = Operands(act=act, wgt=wgt, bias=bias)
    return replay_layer(schedule(spec, operands.shape), operands, upsets)
