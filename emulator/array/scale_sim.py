"""SCALE-Sim's cycle count, the second convention beside that of the Gemmini schedule in `tiling`.

SCALE-Sim 3.0.0 (Samajdar et al., "A Systematic Methodology for Characterizing Scalability of DNN Accelerators
using SCALE-Sim", ISPASS 2020; the PyPI package) runs the folds of a layer one after the other: the stationary
operand of a fold is loaded only when the fold before has drained. Memory stalls are not part of it.
"""

from __future__ import annotations

from emulator.array.spec import Dataflow
from emulator.gemm import GemmShape


def scale_sim_cycles(rows: int, cols: int, dataflow: Dataflow, shape: GemmShape) -> int:
    """The "Total Cycles" of SCALE-Sim 3.0.0's compute report, without stalls: groups x (F x tau - 1).

    F folds of tau cycles: os F = ceil(m/rows) ceil(n/cols), tau = k + rows + cols - 2; ws F = ceil(k/rows)
    ceil(n/cols), tau = m + 2 rows + cols - 2; is as ws with m and n exchanged. The 1 is taken off because
    SCALE-Sim reports the number of the last cycle, counted from 0. It expands a depthwise layer into one layer
    a channel and reports each by itself, so the 1 is taken off in every group: the result is what the reports
    of the groups add up to, one a group less than the cycles that pass.
    """
    height, width, depth = _mapping(dataflow, shape)
    folds = -(-height // rows) * -(-width // cols)
    load_cycles = 0 if dataflow == "os" else rows
    fold_cycles = load_cycles + depth + rows + cols - 2
    return shape.groups * (folds * fold_cycles - 1)


def scale_sim_utilisation(rows: int, cols: int, dataflow: Dataflow, shape: GemmShape) -> float:
    """Useful multiply-accumulates per PE and cycle, 0 to 1, for two PEs or more: its "Overall Util %" / 100."""
    return shape.macs / (scale_sim_cycles(rows, cols, dataflow, shape) * rows * cols)


def _mapping(dataflow: Dataflow, shape: GemmShape) -> tuple[int, int, int]:
    """The dimensions laid over the array's rows, over its columns, and over time."""
    return {
        "os": (shape.m, shape.n, shape.k),
        "ws": (shape.k, shape.n, shape.m),
        "is": (shape.k, shape.m, shape.n),
    }[dataflow]
