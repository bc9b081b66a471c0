"""Campaigns of known truth: a small array, a rate for every bit of it, and trials drawn from these."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from emulator.array.registers import register
from emulator.array.spec import ArraySpec
from emulator.campaign.results import Results
from emulator.campaign.trials import HeldTrials

ARRAY = ArraySpec.preset("gemmini-8")
ALPHA = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """rate (bits,): P(SDC-1) of an upset in each bit of one register class, in the order of its index."""

    name: str
    rate: npt.NDArray[np.float64]
    looked: bool = False

    def manifest(self) -> dict[str, Any]:
        bits = len(self.rate)
        entry = {"layer": 0, "layer_name": "conv", "register": self.name, "sites": 400 * bits}
        return {
            "array": asdict(ARRAY),
            "model": {"name": "known"},
            "registers": [self.name],
            "layers": [{"index": 0, "name": "conv", "window_cycles": 400}],
            "sampler": {"name": "importance", "alpha": ALPHA},
            "looked": self.looked,
            "space": {"size": 400 * bits, "live": 100 * bits, "breakdown": [{**entry, "live": 100 * bits}]},
            "inputs": {"samples": 1},
        }

    def campaign(self, seed: int, trials: int) -> Results:
        """Drawn with a defensive mixture, whose score knows the rates up to a factor."""
        rng = np.random.default_rng(seed)
        bits = len(self.rate)
        score = np.sqrt(self.rate) * np.random.default_rng(0).uniform(0.3, 3, bits) + 1e-3
        q = ALPHA / bits + (1 - ALPHA) * score / score.sum()
        drawn = rng.choice(bits, trials, p=q)
        row, col, bit = register(ARRAY, self.name).place(drawn)
        frame = {
            "trial_id": np.arange(trials),
            "register": self.name,
            "layer": 0,
            "layer_name": "conv",
            "row": row,
            "col": col,
            "bits": np.int64(1) << bit,
            "log_weight": -np.log(q[drawn] * bits),
            "sdc1": rng.random(trials) < self.rate[drawn],
            "drawn": drawn,
        }
        return Results(
            directory=Path("known"), manifest=self.manifest(), table=HeldTrials(pd.DataFrame(frame))
        )
