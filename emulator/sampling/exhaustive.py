"""Every live site of every image, by classes: sites that store the same values are judged once and counted.

The answer is that of all sites one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emulator.sampling.counted import Judged
from emulator.sampling.site_classes import SiteClasses
from emulator.sampling.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhaustive:
    """Every live site once: what is found is exact."""

    name = "exhaustive"

    def settings(self) -> dict[str, Any]:
        return {"name": self.name}

    def per_site_floor(self, sites: int) -> float:
        return 1.0

    def choose(self, bench: Workbench, found: SiteClasses, rng: np.random.Generator) -> Judged:
        rows = len(found.sites)
        return Judged(np.arange(rows), np.ones(rows), np.full(rows, np.nan))
