"""What quantisation costs: each MAC layer's signal to quantisation noise, and the answers, against the float
model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, log10

import numpy as np
import numpy.typing as npt

from emulator.campaign.validation import layers
from emulator.graph.float_model import FloatModel
from emulator.graph.golden import Golden, Inference
from emulator.graph.qgraph import Sample


@dataclass(slots=True, kw_only=True)
class Noise:
    """signal: sum of squares of the float values; noise: of what quantisation changed."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, exact: npt.NDArray[np.float32], quantised: npt.NDArray[np.float32]) -> None:
        true = exact.astype(np.float64)
        self.signal += float((true**2).sum())
        self.noise += float(((true - quantised) ** 2).sum())

    @property
    def sqnr_db(self) -> float | None:
        """10 log10(signal / noise); None without signal or where both are the same."""
        if self.signal == 0 or self.noise == 0:
            return None
        ratio = self.signal / self.noise
        return 10 * log10(ratio) if ratio < inf else None


@dataclass(slots=True, kw_only=True, eq=False)
class FloatComparison:
    """layers: one a MAC layer, None where the float model has no such tensor; logits: the float answers."""

    model: FloatModel
    layers: list[Noise | None] = field(default_factory=list)
    logits: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layers = [None if name is None else Noise() for name in self.model.tensors]

    def add(self, golden: Golden, runs: list[Inference], inputs: Sequence[Sample]) -> None:
        """A batch of samples."""
        values, logits = self.model.run([golden.graph.feeds(sample) for sample in inputs])
        self.logits.append(logits)
        for index, exact in enumerate(values):
            tensor, noise = layers.target(golden.graph, index), self.layers[index]
            if exact is None or noise is None or tensor is None or exact[0].size != tensor.size:
                self.layers[index] = None
                continue
            for run, row in zip(runs, exact, strict=True):
                stored = golden.tensor(run, golden.graph.index[tensor.name])
                noise.add(tensor.to_storage(row.reshape(1, *tensor.shape))[0], tensor.real(stored))
