"""What counts as right: labels, and which images the fault-free network answers rightly."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emulator.errors import BadData
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import proportion
from emulator.sampling.workbench import Workbench

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """Of every image: label (images,) int64, and fault_free (images,) int64, the fault-free top-1."""

    label: Ints = field(repr=False)
    fault_free: Ints = field(repr=False)

    @classmethod
    def of(cls, bench: Workbench, labels: Ints | None = None) -> Answers:
        """Of the images of a bench; without labels (images,) the fault-free answers are the labels. Raises BadData for
        another number of labels."""
        fault_free = bench.golden.answers(map(bench.inference, range(bench.images)))
        label = fault_free if labels is None else labels.astype(np.int64)
        if label.shape != fault_free.shape:
            raise BadData(f"labels of shape {label.shape}; allowed: one an image, ({bench.images},).")
        return cls(label=label, fault_free=fault_free)

    def __len__(self) -> int:
        return len(self.label)

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """(images,): those that count towards the clean accuracy."""
        right: npt.NDArray[np.bool_] = self.label == self.fault_free
        return right

    @property
    def accuracy(self) -> Estimate:
        """The clean one, with Wilson's interval."""
        return proportion(self.right)
