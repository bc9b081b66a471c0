"""Range restriction: what no calibration input makes of a layer's result, no fault may either.

Bounds are the extremes that fault-free runs show, a layer or a channel, and what lies beyond is set to the bound
(Chen et al., A Low-cost Fault Corrector for Deep Neural Networks through Range Restriction, DSN'21; per channel as in
Hoang et al., FT-ClipAct, DATE'20, and Geissler et al., Towards a Safety Case for Hardware Fault Tolerance in CNNs Using
Activation Range Supervision, 2021). An int8 result lies within 256 values already, so only tighter bounds help.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from emulator.choices import one_of
from emulator.errors import BadConfig, BadData
from emulator.graph.golden import Golden
from emulator.graph.load import Network
from emulator.graph.qgraph import Int8, MacLayer, QTensor, Sample
from emulator.graph.restriction import Bounds, file_tensor

Per = Literal["layer", "channel"]
PERS: tuple[Per, ...] = get_args(Per)
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """What the int8 result of a MAC layer was over the calibration inputs: see Bounds for tensor and axis. counts
    (channels, 256) int64: how often each stored value, from -128 on."""

    layer: str
    tensor: str
    axis: int
    counts: Counts = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """How far bounds lie outside what was seen: lsb steps, and a share of the observed width, rounded up."""

    lsb: int = 0
    relative: float = 0.0

    def __post_init__(self) -> None:
        if self.lsb < 0 or not 0 <= self.relative < float("inf"):
            raise BadConfig(f"margin of {self}; allowed: 0 or more. Values seen must stay inside.")

    @classmethod
    def parse(cls, text: str) -> Margin:
        """`4` is 4 LSB, `5%` a share of the width; raises BadConfig."""
        try:
            if text.endswith("%"):
                return cls(relative=float(text[:-1]) / 100)
            return cls(lsb=int(text))
        except ValueError:
            raise BadConfig(
                f"margin {text!r}; allowed: LSB as in 4, or a share as in 5%. Write it so."
            ) from None

    def __str__(self) -> str:
        return f"{100 * self.relative:g}%" if self.relative else str(self.lsb)


def observe(network: Network, inputs: Sequence[Sample]) -> tuple[Observed, ...]:
    """Run the fault-free network over the calibration inputs. Layers without an int8 result in the file are left out
    (`unbounded`). Raises BadData without inputs."""
    if not len(inputs):
        raise BadData("no calibration inputs; allowed: 1 or more. Give the images the network is meant for.")
    golden = Golden(network.graph)
    found = [(layer, file_tensor(network, layer)) for layer in network.graph.layers]
    bounded = [(layer, tensor) for layer, tensor in found if tensor is not None]
    axes = [_axis(layer, tensor) for layer, tensor in bounded]
    counts = [
        np.zeros((_channels(t, axis), 256), np.int64) for (_, t), axis in zip(bounded, axes, strict=True)
    ]
    for sample in inputs:
        run = golden.run(sample)
        for (_, tensor), axis, into in zip(bounded, axes, counts, strict=True):
            _count(tensor, axis, golden.tensor(run, network.graph.index[tensor.name]), into)
    return tuple(
        Observed(layer=layer.name, tensor=tensor.name, axis=axis, counts=seen)
        for (layer, tensor), axis, seen in zip(bounded, axes, counts, strict=True)
    )


def unbounded(network: Network, observed: Iterable[Observed]) -> list[str]:
    """Names of the layers that have no bounds."""
    known = {each.layer for each in observed}
    return [layer.name for layer in network.graph.layers if layer.name not in known]


def bounds_of(
    observed: Iterable[Observed],
    *,
    per: Per = "channel",
    margin: Margin = Margin(),
    percentile: float = 100.0,
) -> tuple[Bounds, ...]:
    """The bounds of each layer: the innermost `percentile` of the values seen, 100 for all, and the margin.

    Raises BadConfig for another `per` or a percentile outside [50, 100].
    """
    one_of(PERS, per, "per")
    # A share in place of per cent would leave nothing of a network.
    if not 50 <= percentile <= 100:
        raise BadConfig(
            f"percentile={percentile}; allowed: per cent, 50 to 100, such as 99.9; 100: all values seen."
        )
    return tuple(_bounds(each, per, margin, percentile) for each in observed)


def _bounds(observed: Observed, per: Per, margin: Margin, percentile: float) -> Bounds:
    counts = observed.counts if per == "channel" else observed.counts.sum(axis=0, keepdims=True)
    low, high = _ends(counts, (100 - percentile) / 200)
    wider = margin.lsb + np.ceil(margin.relative * (high - low)).astype(np.int64)
    return Bounds(
        layer=observed.layer,
        tensor=observed.tensor,
        axis=observed.axis,
        low=np.maximum(low - wider, -128).astype(np.int8),
        high=np.minimum(high + wider, 127).astype(np.int8),
    )


def _ends(counts: Counts, tail: float) -> tuple[Counts, Counts]:
    """(channels,) the lowest and highest stored value, at most a share `tail` of the values beyond each."""
    seen = counts.sum(axis=1, keepdims=True)
    # A twentieth of 400 is 20, not 19.999999; the middle value stays.
    most = np.minimum(np.floor(tail * seen + 1e-6), (seen - 1) // 2)
    low = (np.cumsum(counts, axis=1) > most).argmax(axis=1)
    high = (np.cumsum(counts[:, ::-1], axis=1) > most).argmax(axis=1)
    return low - 128, 127 - high


def _axis(layer: MacLayer, tensor: QTensor) -> int:
    """Where the channels of a layer's result are."""
    return 1 if layer.op == "Conv" else len(tensor.shape) - 1


def _channels(tensor: QTensor, axis: int) -> int:
    """How many channels have bounds of their own; a vector has none."""
    return tensor.shape[axis] if axis > 0 else 1


def _count(tensor: QTensor, axis: int, stored: Int8, into: Counts) -> None:
    """Add the values of one run."""
    values = tensor.in_order(stored[np.newaxis])[0]
    channels = len(into)
    columns = np.moveaxis(values, axis, -1).reshape(-1, channels).astype(np.int64) + 128
    columns += np.arange(channels) * 256
    into += np.bincount(columns.reshape(-1), minlength=into.size).reshape(into.shape)
