"""The interface of every sampler: given a workbench and a generator, which faults, with which weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from emulator.faults.fault import FaultBatch
from emulator.sampling.past import Past
from emulator.sampling.workbench import Workbench

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledFaults:
    """Independent draws from (image, live site). log_weight: log of population over proposal density, so that
    the mean of exp(log_weight) * y estimates the rate of y over all images and live sites. score: larger for what the
    sampler holds more likely to be critical, NaN where it ranks nothing."""

    image: Ints
    faults: FaultBatch
    log_weight: npt.NDArray[np.float64] = field(repr=False)
    score: npt.NDArray[np.float64] = field(repr=False)


@runtime_checkable
class Sampler(Protocol):
    """One proposal a class; `draw` depends on nothing but its arguments."""

    @property
    def name(self) -> str: ...

    @property
    def max_weight(self) -> float:
        """No draw weighs more; 1 / alpha of a defensive mixture."""
        ...

    def settings(self) -> dict[str, Any]:
        """What distinguishes this sampler in a manifest."""
        ...

    @property
    def learns(self) -> bool:
        """Does `draw` look at the past?"""
        ...

    def draw(self, bench: Workbench, rng: np.random.Generator, count: int, past: Past) -> SampledFaults: ...
