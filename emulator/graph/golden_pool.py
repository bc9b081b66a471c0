"""Fault-free runs in a file that all workers of a campaign map: computed once an image, held in memory once a machine.

Images beyond the budget are not kept here; nor are networks that compute host values, whose sizes are known only then.
Pages nobody uses are the operating system's to write out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.graph.golden import Golden, Inference
from emulator.graph.qgraph import HostOp, Sample

BUDGET_BYTES = 2 << 30
LINE_BYTES = 64
PAGE_BYTES = 4096


class GoldenPool:
    """The runs of images 0 .. images - 1 of one campaign in the file `path`, empty or already in use."""

    def __init__(self, golden: Golden, path: Path, images: int) -> None:
        self.golden = golden
        program = golden.program
        self._accumulators_at = _rounded(program.value_size, LINE_BYTES)
        self._ready_at = _rounded(self._accumulators_at + 4 * program.acc_size, LINE_BYTES)
        self._slot_bytes = _rounded(self._ready_at + 1, PAGE_BYTES)
        self.capacity = min(images, BUDGET_BYTES // self._slot_bytes) if _only_tensors(golden) else 0
        self._file = path.open("r+b")
        size = max(1, self.capacity * self._slot_bytes)
        self._file.truncate(size)
        # Writable, because kernels are compiled for arrays that are; whoever is given a run only reads it.
        self._bytes = np.memmap(self._file, np.uint8, "r+", shape=(size,))

    def get(self, image: int, sample: Sample) -> Inference | None:
        """The run of an image, None if nobody has put it there. sample: the image itself."""
        if image >= self.capacity or not self._slot(image)[self._ready_at]:
            return None
        return self._inference(image, self.golden.host_values(sample))

    def put(self, image: int, inference: Inference) -> Inference:
        """Keep a run, if there is room: what is to be used from now on. Two who put the same run write the same."""
        if image >= self.capacity or not self._reserve(image):
            return inference
        kept = self._inference(image, inference.host)
        kept.values[:] = inference.values
        kept.accumulators[:] = inference.accumulators
        self._slot(image)[self._ready_at] = 1
        return kept

    def _reserve(self, image: int) -> bool:
        """Is there room on the disk? Writing to a mapped page without any would kill the process."""
        try:
            os.posix_fallocate(self._file.fileno(), image * self._slot_bytes, self._slot_bytes)
        except OSError:
            return False
        return True

    def _slot(self, image: int) -> npt.NDArray[np.uint8]:
        return self._bytes[image * self._slot_bytes :][: self._slot_bytes]

    def _inference(self, image: int, host: dict[str, npt.NDArray[Any]]) -> Inference:
        program, slot = self.golden.program, self._slot(image)
        accumulators = slot[self._accumulators_at :][: 4 * program.acc_size]
        values = np.asarray(slot[: program.value_size]).view(np.int8)
        return Inference(values=values, accumulators=np.asarray(accumulators).view(np.int32), host=host)


def _only_tensors(golden: Golden) -> bool:
    """Is all that a run computes in its pools?"""
    graph = golden.graph
    hosts = [name for op in graph.ops if isinstance(op, HostOp) for name in op.outputs]
    return all(name in graph.index for name in hosts) and all(isinstance(m.target, int) for m in graph.layers)


def _rounded(size: int, to: int) -> int:
    return -(-size // to) * to
