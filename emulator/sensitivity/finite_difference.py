"""Exact effect of a change of one value in the integer network: no linearisation, one propagation a probe.

The cross-check of the gradients, and a sensitivity where gradients are undefined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.graph.golden import Golden, Inference
from emulator.graph.program import Col
from emulator.graph.qgraph import Sample
from emulator.propagate.classes import Changes
from emulator.propagate.outcome import Answer, in_lsb, lsb_of
from emulator.propagate.propagator import Propagator
from emulator.propagate.stage import Stage
from emulator.sensitivity.jacobian import Rivals

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Half of the range of int8. Shorter steps drown in the roundings on the way to the logits (docs/gradients.md).
STEP_LSB = 127

# Room for the answers of a chunk of probes; a logit takes up to 32 bytes on its way from float to LSB.
CHUNK_BYTES = 64 << 20
LOGIT_BYTES = 32


def finite_differences(
    golden: Golden, image: Inference, tensor: int, elements: Ints, change: Ints
) -> npt.NDArray[np.int16] | Floats:
    """Change of every logit, in LSB, when one element of `tensor` moves by `change` LSB: one probe each.

    tensor: one that compiled rows write (product, table, pair table, move, pool). elements, change: (probes,) int64,
    elements in storage order; a value that would leave int8 saturates. A narrower clamp of the row that writes it, as
    a ReLU's, bounds no probe: upsets behind the requantiser store any int8 value. Returns (probes, classes): int16,
    exact; for a float answer float32, in LSB as `lsb_of` has them, with what is not finite counted as `in_lsb` does.
    Raises BadConfig for any other tensor and for elements outside it.
    """
    size = golden.graph.tensors[tensor].size
    if ((elements < 0) | (elements >= size)).any():
        raise BadConfig(
            f"finite differences at elements {elements.min()} to {elements.max()} of tensor "
            f"{golden.graph.tensors[tensor].name!r}; allowed: 0 to {size - 1}. Leave out the others."
        )
    return _differences(Propagator(golden), image, tensor, elements, change)


class FiniteDifferenceSource:
    """Jacobians of the logits at chosen tensors by central differences: two probes an element. step: LSB to each
    side, from 1. Raises BadConfig for tensors that no compiled row writes."""

    def __init__(self, golden: Golden, tensors: Sequence[int], *, step: int = STEP_LSB) -> None:
        if step < 1:
            raise BadConfig(f"finite differences with step={step} LSB; allowed: from 1. Try {STEP_LSB}.")
        self.tensors = tuple(dict.fromkeys(tensors))
        for tensor in self.tensors:
            _last_writer(golden, tensor)
        self.golden = golden
        self.step = step
        self._propagator = Propagator(golden)

    def jacobians(self, sample: Sample, image: Inference, rivals: Rivals) -> dict[int, Floats]:
        """See `JacobianSource`. Near the ends of int8 a step is as long as the range allows: there the difference is
        lopsided, at the ends one-sided."""
        return {tensor: self._jacobian(image, tensor, rivals) for tensor in self.tensors}

    def _jacobian(self, image: Inference, tensor: int, rivals: Rivals) -> Floats:
        jacobian = np.empty((self.golden.graph.tensors[tensor].size, len(rivals)), np.float32)
        chunk = max(1, CHUNK_BYTES // (LOGIT_BYTES * 2 * self.golden.graph.classes))
        for first in range(0, len(jacobian), chunk):
            some = slice(first, first + chunk)
            jacobian[some] = self._slopes(image, tensor, np.arange(len(jacobian))[some])[:, rivals]
        return jacobian

    def _slopes(self, image: Inference, tensor: int, elements: Ints) -> Floats:
        """(elements, classes)."""
        value = self.golden.tensor(image, tensor)[elements]
        steps = np.repeat([self.step, -self.step], len(elements))
        both = _differences(self._propagator, image, tensor, np.tile(elements, 2), steps)
        up, down = np.split(both.astype(np.float32), 2)
        length = _moved(value, self.step).astype(np.float32) - _moved(value, -self.step)
        slopes: Floats = (up - down) / length[:, np.newaxis]
        return slopes


def _differences(
    propagator: Propagator, image: Inference, tensor: int, elements: Ints, change: Ints
) -> npt.NDArray[np.int16] | Floats:
    golden = propagator.golden
    row = _last_writer(golden, tensor)
    before = golden.tensor(image, tensor)[elements]
    after = _moved(before, change)
    moved = after != before
    changes = Changes(
        op=np.full(len(elements), row, np.int32),
        stage=np.where(moved, Stage.NONE, Stage.ARRAY).astype(np.int8),
        ptr=np.concatenate([[0], np.cumsum(moved)]),
        element=elements[moved].astype(np.int32),
        value=after[moved],
    )
    return _change_in_lsb(golden.logits(image), propagator.run_classes(image, changes).logits)


def _last_writer(golden: Golden, tensor: int) -> int:
    """The row after which the tensor is whole: a concatenation is written by several."""
    rows = np.flatnonzero(golden.program.ops[:, Col.TARGET] == tensor)
    if not len(rows):
        raise BadConfig(
            f"finite differences at tensor {golden.graph.tensors[tensor].name!r}, which no compiled row writes "
            "(an input, a constant, or a result of ONNX Runtime or of a wide layer); allowed: results of integer "
            "products with constant weights, tables, moves and pools. Take one of those."
        )
    return int(rows[-1])


def _moved(value: npt.NDArray[np.int8], change: Ints | int) -> npt.NDArray[np.int8]:
    moved: npt.NDArray[np.int8] = np.clip(value.astype(np.int64) + change, -128, 127).astype(np.int8)
    return moved


def _change_in_lsb(golden: Answer, faulty: Answer) -> npt.NDArray[np.int16] | Floats:
    """golden (classes,), faulty (probes, classes): what `Golden.logits` gives."""
    if golden.dtype == np.int8:
        return faulty.astype(np.int16) - golden
    before = in_lsb(golden)
    low, high = before.min(), before.max()
    lsb = 1.0 if np.issubdtype(golden.dtype, np.integer) else lsb_of(golden)
    after = np.nan_to_num(faulty / np.float64(lsb), nan=low, posinf=high, neginf=low)
    return (after - before).astype(np.float32)
