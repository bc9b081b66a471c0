"""How a training goes: its length, its batches, and what it is to lower."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from emulator.errors import BadConfig
from emulator.harden.optimisers import OPTIMISERS


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSchedule:
    """epochs of `steps` batches of `batch` rows, a share `struck` of them with a fault, as many their clean twins; for
    each epoch `faults` are drawn on `images` of the training images. rate: the largest learning rate, of the size of
    each parameter (its root mean square, of a weight that of its channel). steady: weight of the `movement` of the
    logits beside the cross entropy. own: share of the network's own first answers in the target, the rest are the
    labels. tighten: by the middle of the training the ranges of all stored tensors shrink to this share: what a fault
    can do shrinks with them. average: what the averaged weights, which are judged and
    kept, keep of themselves in a step: 0 for no average, .998 for about the last 500 steps."""

    epochs: int = 20
    steps: int = 150
    batch: int = 64
    struck: float = 0.33
    faults: int = 1500
    images: int = 400
    rate: float = 0.005
    optimiser: str = "adam"
    steady: float = 5.0
    own: float = 1.0
    tighten: float = 1.0
    average: float = 0.998
    seed: int = 0

    @property
    def settled(self) -> int:
        """The epoch from which on ranges stay as they are."""
        return max(1, self.epochs // 2)

    def __post_init__(self) -> None:
        rules = (
            (min(self.epochs, self.steps, self.batch, self.faults, self.images) < 1, "counts from 1"),
            (not 0 <= self.struck <= 0.5, "struck from 0 to 0.5"),
            (self.steady < 0 or not 0 <= self.own <= 1, "steady from 0, own from 0 to 1"),
            (not 0 < self.tighten <= 1, "tighten above 0, up to 1"),
            (not 0 <= self.average < 1, "average from 0, below 1"),
            (not 0 < self.rate < 1, "rate between 0 and 1"),
            (self.optimiser not in OPTIMISERS, f"optimiser {' or '.join(OPTIMISERS)}"),
        )
        for broken, allowed in rules:
            if broken:
                raise BadConfig(f"{self!r}; allowed: {allowed}. Change it.")

    def settings(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)
