"""What quantisation costs: each MAC layer's signal to quantisation noise, and the answers, against the float
model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, log10
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.campaign.validation import layers
from emulator.graph.float_model import FloatModel
from emulator.graph.golden import Golden, Inference
from emulator.graph.qgraph import QuantGraph, Sample

# Below this ratio a user is warned: the noise is a third of the signal's size.
LOW_SQNR_DB = 10.0

Doubles = npt.NDArray[np.float64]


@dataclass(slots=True, kw_only=True, eq=False)
class Noise:
    """signal (channels,): sum of squares of the float values; noise (channels,): of what quantisation changed, in this
    layer and in those before it."""

    signal: Doubles
    noise: Doubles

    @classmethod
    def of(cls, channels: int) -> Noise:
        return cls(signal=np.zeros(channels), noise=np.zeros(channels))

    def add(self, exact: npt.NDArray[np.float32], quantised: npt.NDArray[np.float32]) -> None:
        """One sample: (elements,) as stored, channels last."""
        true = exact.astype(np.float64).reshape(-1, len(self.signal))
        self.signal += (true**2).sum(axis=0)
        self.noise += ((true - quantised.reshape(true.shape)) ** 2).sum(axis=0)

    @property
    def sqnr_db(self) -> float | None:
        """Of the whole layer, where a loud channel hides the others."""
        return _decibel(self.signal.sum(), self.noise.sum())

    @property
    def channels_db(self) -> list[float | None]:
        """Of each channel."""
        return [_decibel(*pair) for pair in zip(self.signal, self.noise, strict=True)]

    def to_json(self) -> dict[str, Any]:
        found = self.channels_db
        known = {channel: db for channel, db in enumerate(found) if db is not None and len(found) > 1}
        worst = min(known, key=known.__getitem__, default=None)
        return {
            "sqnr_db": self.sqnr_db,
            "sqnr_worst_channel": worst,
            "sqnr_worst_channel_db": None if worst is None else known[worst],
            "sqnr_low_channels": sum(db < LOW_SQNR_DB for db in known.values()),
        }


def _decibel(signal: float, noise: float) -> float | None:
    """10 log10(signal / noise); None without signal or where both are the same."""
    if signal == 0 or noise == 0:
        return None
    ratio = signal / noise
    return 10 * log10(ratio) if ratio < inf else None


NO_NOISE: dict[str, Any] = dict.fromkeys(Noise.of(1).to_json())
"""Of a layer that is compared with nothing."""


@dataclass(slots=True, kw_only=True, eq=False)
class FloatComparison:
    """layers: one a MAC layer, None where the float model has no such tensor; logits: the float answers."""

    model: FloatModel
    layers: list[Noise | None]
    logits: list[npt.NDArray[np.float32]] = field(default_factory=list)

    @classmethod
    def of(cls, model: FloatModel, graph: QuantGraph) -> FloatComparison:
        """Before the first sample."""
        noise = [
            None if name is None else Noise.of(layers.channels(graph, index))
            for index, name in enumerate(model.tensors)
        ]
        return cls(model=model, layers=noise)

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
