"""The network's answers: right or wrong, tied, dead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import proportion

# Real logits below this carry no answer: nothing a softmax or a threshold could tell apart.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """logits (samples, classes), integers or float; real: the same in real units."""

    logits: npt.NDArray[Any] = field(repr=False)
    real: npt.NDArray[np.floating[Any]] = field(repr=False)

    @property
    def top1(self) -> npt.NDArray[np.intp]:
        """(samples,) the class with the largest logit, the first of several."""
        return np.asarray(self.logits.argmax(axis=1), np.intp)

    @property
    def at_maximum(self) -> npt.NDArray[np.intp]:
        """(samples,) how many classes share the largest logit; 1 without a tie."""
        tied = self.logits == self.logits.max(axis=1, keepdims=True)
        return np.asarray(tied.sum(axis=1), np.intp)

    @property
    def tied_share(self) -> float:
        return float((self.at_maximum > 1).mean())

    @property
    def mean_at_maximum(self) -> float:
        return float(self.at_maximum.mean())

    @property
    def dead(self) -> list[str]:
        """Reasons why the output says nothing, none for a live one."""
        reasons = []
        classes = self.logits.shape[1]
        if classes > 1 and (self.logits == self.logits[:, :1]).all():
            reasons.append("all logits of a sample are equal")
        frozen = np.flatnonzero((self.logits == self.logits[:1]).all(axis=0)).tolist()
        if len(self.logits) > 1 and len(frozen) == classes:
            reasons.append(f"no logit varies over {len(self.logits)} samples")
        elif len(self.logits) > 1 and frozen:
            shown = ", ".join(map(str, frozen[:5]))
            reasons.append(f"{len(frozen)} of {classes} logits never vary ({shown})")
        largest = float(np.abs(self.real).max(initial=0))
        if largest < NEGLIGIBLE:
            reasons.append(f"all logits are below {NEGLIGIBLE:g} (largest {largest:.2g})")
        return reasons

    def accuracy(self, labels: npt.NDArray[np.int64]) -> Estimate:
        """The share of samples whose top-1 is the label, with Wilson's interval."""
        return proportion(self.top1 == labels)
