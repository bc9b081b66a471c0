"""Every live site of every image alike: the reference all other samplers are measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emulator.sampling.past import Past
from emulator.sampling.sampler import SampledFaults
from emulator.sampling.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """Uniform over images and live sites."""

    name = "uniform"
    max_weight = 1.0
    learns = False

    def settings(self) -> dict[str, Any]:
        return {"name": self.name, "alpha": 1.0}

    def draw(self, bench: Workbench, rng: np.random.Generator, count: int, past: Past) -> SampledFaults:
        image = rng.integers(0, bench.images, count)
        faults = bench.space.draw(rng, count)
        return SampledFaults(
            image=image, faults=faults, log_weight=np.zeros(count), score=np.full(count, np.nan)
        )
