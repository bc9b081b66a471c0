"""Fault-free runs in a file that all workers of a campaign map: computed once an image, held in memory once a machine.

Images beyond its room are not kept here; nor are networks that compute host values, whose sizes are known only then.
Pages nobody uses are the operating system's to write out.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.graph.golden import Golden, Inference
from emulator.graph.qgraph import HostOp, Sample

LINE_BYTES = 64
PAGE_BYTES = 4096


class PoolFile(NamedTuple):
    """room: bytes it may grow to."""

    path: Path
    room: int


class GoldenPool:
    """The runs of images 0 .. images - 1 of one campaign in a file, empty or already in use."""

    def __init__(self, golden: Golden, file: PoolFile, images: int) -> None:
        self.golden = golden
        program = golden.program
        self._accumulators_at = _rounded(program.value_size, LINE_BYTES)
        self._slot_bytes = _rounded(self._accumulators_at + 4 * program.acc_size, PAGE_BYTES)
        # A byte an image says whether its run is there; the runs follow.
        self._first_slot = _rounded(max(1, images), PAGE_BYTES)
        room = max(0, file.room - self._first_slot) // self._slot_bytes
        self.capacity = min(images, room) if _can_share(golden) else 0
        self._file = file.path.open("r+b")
        size = self._first_slot + self.capacity * self._slot_bytes
        if self.capacity and not (self._reserve(0, self._first_slot) and self._stretch(size)):
            self.capacity = 0
        if self.capacity:
            # Writable, because kernels are compiled for arrays that are; whoever is given a run only reads it.
            self._bytes = np.memmap(self._file, np.uint8, "r+", shape=(size,))

    def get(self, image: int, sample: Sample) -> Inference | None:
        """The run of an image, None if nobody has put it there. sample: the image itself."""
        if image >= self.capacity or not self._bytes[image]:
            return None
        return self._inference(image, self.golden.host_values(sample))

    def put(self, image: int, inference: Inference) -> Inference:
        """Keep a run, if there is room: what is to be used from now on. Two who put the same run write the same."""
        if image >= self.capacity or not self._reserve(self._slot_at(image), self._slot_bytes):
            return inference
        kept = self._inference(image, inference.host)
        kept.values[:] = inference.values
        kept.accumulators[:] = inference.accumulators
        self._bytes[image] = 1
        return kept

    def _reserve(self, start: int, size: int) -> bool:
        """Is there room on the disk? Touching a mapped page without any, even to read it, may kill the process."""
        try:
            os.posix_fallocate(self._file.fileno(), start, size)
        except OSError:
            return False
        return True

    def _stretch(self, size: int) -> bool:
        """May the file be so long? Not where files are limited, and on some file systems not without the room."""
        try:
            self._file.truncate(size)
        except OSError:
            return False
        return True

    def _slot_at(self, image: int) -> int:
        return self._first_slot + image * self._slot_bytes

    def _inference(self, image: int, host: dict[str, npt.NDArray[Any]]) -> Inference:
        program, slot = self.golden.program, self._bytes[self._slot_at(image) :][: self._slot_bytes]
        accumulators = slot[self._accumulators_at :][: 4 * program.acc_size]
        values = np.asarray(slot[: program.value_size]).view(np.int8)
        return Inference(values=values, accumulators=np.asarray(accumulators).view(np.int32), host=host)


def _can_share(golden: Golden) -> bool:
    """Is all that a run computes in its pools, and does the processor show what was written in the order in which it
    was?"""
    graph = golden.graph
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    hosts = [name for op in graph.ops if isinstance(op, HostOp) for name in op.outputs]
    return all(name in graph.index for name in hosts) and all(isinstance(m.target, int) for m in graph.layers)


def _rounded(size: int, to: int) -> int:
    return -(-size // to) * to
