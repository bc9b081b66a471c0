"""Every number here was reported by SCALE-Sim 3.0.0 itself, in COMPUTE_REPORT.csv."""

from __future__ import annotations

from typing import get_args

import pytest

from emulator.array.scale_sim import scale_sim_cycles, scale_sim_utilisation
from emulator.array.spec import Dataflow
from emulator.gemm import GemmShape

# (rows, cols), (m, n, k), cycles of os, ws, is
REPORTED = [
    ((16, 16), (16, 16, 16), (45, 61, 61)),
    ((16, 16), (64, 64, 64), (1503, 1759, 1759)),
    ((16, 16), (20, 40, 50), (479, 791, 687)),
    ((16, 16), (100, 16, 16), (321, 145, 433)),
    ((8, 12), (16, 16, 16), (135, 167, 167)),
    ((8, 12), (64, 64, 64), (3935, 4319, 4319)),
    ((8, 12), (20, 40, 50), (815, 1287, 923)),
    ((8, 12), (100, 16, 16), (883, 503, 755)),
]


@pytest.mark.parametrize(("array", "mnk", "reported"), REPORTED)
def test_cycles_are_those_scale_sim_reports(
    array: tuple[int, int], mnk: tuple[int, int, int], reported: tuple[int, int, int]
) -> None:
    shape = GemmShape(m=mnk[0], n=mnk[1], k=mnk[2])
    dataflows: tuple[Dataflow, ...] = ("os", "ws", "is")
    assert tuple(scale_sim_cycles(*array, dataflow, shape) for dataflow in dataflows) == reported


def test_a_depthwise_layer_counts_as_much_as_its_channels_reported_one_by_one() -> None:
    # Topology row "DPa, 10, 10, 3, 3, 3, 1, 1": SCALE-Sim reports three layers of 109 cycles each.
    assert scale_sim_cycles(16, 16, "ws", GemmShape(m=64, k=9, n=1)) == 109
    assert scale_sim_cycles(16, 16, "ws", GemmShape(m=64, k=9, n=1, groups=3)) == 3 * 109


@pytest.mark.parametrize(
    ("dataflow", "percent"),
    [("os", 32.620041753653446), ("ws", 19.75347661188369), ("is", 22.74381368267831)],
)
def test_utilisation_is_what_scale_sim_reports(dataflow: Dataflow, percent: float) -> None:
    shape = GemmShape(m=20, n=40, k=50)
    assert 100 * scale_sim_utilisation(16, 16, dataflow, shape) == pytest.approx(percent, rel=1e-12)


@pytest.mark.parametrize("dataflow", get_args(Dataflow))
def test_groups_leave_the_utilisation_unchanged(dataflow: Dataflow) -> None:
    one, many = (GemmShape(m=49, k=9, n=1, groups=groups) for groups in (1, 32))
    assert scale_sim_utilisation(16, 16, dataflow, one) == scale_sim_utilisation(16, 16, dataflow, many)
