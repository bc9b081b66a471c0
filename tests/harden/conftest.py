"""What the room's tests compare with: every live site of a small space struck in every image, one image at a time, and
populations whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from known_truth import ARRAY, Truth

from emulator.array.registers import register
from emulator.campaign.trial import judge_faults
from emulator.faults.fault import FaultBatch
from emulator.faults.space import FaultSpace
from emulator.harden.answers import Answers
from emulator.sampling.workbench import Workbench

IMAGES = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """sites ascending by index, their faults, and top1 (images, sites), the answers under each fault."""

    bench: Workbench
    answers: Answers
    sites: npt.NDArray[np.int64]
    faults: FaultBatch
    top1: npt.NDArray[np.int64]

    @property
    def lost(self) -> npt.NDArray[np.int64]:
        """(sites,) right answers fewer than without the fault, counted plainly."""
        clean = sum(int(a == b) for a, b in zip(self.answers.label, self.answers.fault_free, strict=True))
        faulty = (self.top1 == self.answers.label[:, np.newaxis]).sum(axis=0)
        lost: npt.NDArray[np.int64] = clean - faulty
        return lost

    def column(self, faults: FaultBatch) -> npt.NDArray[np.intp]:
        return np.searchsorted(self.sites, np.array(self.bench.space.indices(faults)))


@pytest.fixture(scope="session")
def table(digits: Any) -> Table:
    space = FaultSpace(digits.network, digits.array, registers=["pe_a", "pe_b"], layers=["fc"])
    bench = Workbench(digits.network, digits.array, space, digits.inputs[:IMAGES])
    faults = space.live_faults(np.arange(space.live))
    order = np.argsort(np.array(space.indices(faults)), kind="stable")
    top1 = np.stack([judge_faults(bench, image, faults)["top1_faulty"] for image in range(IMAGES)])
    top1 = top1[:, order]
    fault_free = Answers.of(bench).fault_free
    label = fault_free.copy()
    # Two images answered wrongly, one of which many faults put right.
    often = [np.bincount(row[row != free]).argmax() for row, free in zip(top1, fault_free, strict=True)]
    weakest = np.argsort(bench.margins)[:2]
    label[weakest] = np.array(often)[weakest]
    return Table(
        bench=bench,
        answers=Answers.of(bench, label),
        sites=np.array(space.indices(faults))[order],
        faults=faults[order],
        top1=top1,
    )


@pytest.fixture
def truth() -> Callable[..., Truth]:
    """PE registers, of which few bits matter much and most a little."""

    def make(name: str = "pe_b", looked: bool = False) -> Truth:
        bits = register(ARRAY, name).total_bits
        rate = np.random.default_rng(5).pareto(1.0, bits).clip(0, 40) / 80
        return Truth(name=name, rate=rate, looked=looked)

    return make
