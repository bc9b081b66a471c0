"""The memory of a campaign, shared out: what its processes need for themselves, and what is left for golden data.

Golden data is what is known about each image: its fault-free run, laid out for the array, and its Jacobians. What has
no room is computed again when it is needed; what is found does not depend on it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from emulator.campaign.executors import usable_cores
from emulator.campaign.footprint import Footprint
from emulator.errors import BadConfig

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT]?)(i?)B?)\s*", re.IGNORECASE)

_GROUPS = Path("/sys/fs/cgroup")

# Where workers are on other machines: each of them.
CLUSTER_BYTES = 4 * 10**9


def bytes_of(text: str | int) -> int:
    """'4GB' is 4 * 10^9, '4GiB' 4 * 2^30; a number: bytes, a million or more. Raises BadConfig for anything else."""
    found = _SIZE.fullmatch(str(text))
    if found is None or not float(found[1]) or (not found[2] and float(found[1]) < 10**6):
        raise BadConfig(f"memory={text!r}; allowed: bytes with a unit, above 0. Try 4GB.")
    units = _BINARY if found[3] else _UNITS
    return int(float(found[1]) * units.get(found[2].upper(), 1))


def text_of(size: int) -> str:
    """1.2 GB; what `bytes_of` reads."""
    # Rounded up: what is said to be needed must be enough.
    return f"{ceil(size / 10**8) / 10:.1f} GB" if size >= 10**9 else f"{ceil(size / 10**6)} MB"


def available_bytes() -> int:
    """What is free on this machine, or the limit of the control group of this process where that is less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_group_limits()]
    free = [line.split()[1] for line in _lines(Path("/proc/meminfo")) if line.startswith("MemAvailable:")]
    return min(*found, *(1024 * int(kib) for kib in free))


def _group_limits() -> list[int]:
    """Bytes; of version 2 and of version 1, as they are seen from inside a container and from outside."""
    found = []
    for line in _lines(Path("/proc/self/cgroup")):
        _, kind, group = line.split(":", 2)
        if kind in ("", "memory"):
            root, name = _GROUPS / kind, "memory.limit_in_bytes" if kind else "memory.max"
            found += [*_lines(root / name), *_lines(root / group.lstrip("/") / name)]
    return [int(limit) for limit in found if limit.isdecimal()]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Bytes. workers: processes, None: those of a cluster; limit: for all processes of this machine together, on a
    cluster for each worker; need: the least they can do with. room: for golden data in each process, beside the image
    at hand; pool: for golden runs that they share."""

    footprint: Footprint
    workers: int | None
    limit: int
    need: int
    room: int
    pool: int

    @property
    def golden(self) -> int:
        """For golden data, of all processes."""
        return self.pool + (self.workers or 1) * self.room

    @property
    def images(self) -> int:
        """How many images it is enough for."""
        return min(self.footprint.images, self.golden // self.footprint.image)

    def default(self) -> str:
        """What was taken where nobody said how much, and why."""
        size = text_of(self.limit) + (" for each worker" if self.workers is None else "")
        if self.limit == self.need:
            return f"{size}, what is needed"
        return size if self.workers is None else f"{size}, half of what is free"

    def to_json(self) -> dict[str, int | None]:
        """In bytes."""
        f = self.footprint
        needs = {"needed": self.need, "process": f.process, "image": f.image, "images_kept": self.images}
        return {"limit": self.limit, "workers": self.workers, **needs}

    def __str__(self) -> str:
        f = self.footprint
        rest = (
            f"the rest keeps golden data of {self.images:,} of {f.images:,} images, {text_of(f.image)} each"
        )
        return f"{text_of(self.limit)} for {_who(self.workers)}: {text_of(self.need)} needed, {rest}"


def share_out(footprint: Footprint, memory: int | None, workers: int | str | None) -> MemoryPlan:
    """workers: a number, 'auto' for one a core or as many as there is memory for, None for those of a cluster. memory:
    bytes; None: half of what is available, CLUSTER_BYTES on a cluster, more where more is needed. Raises BadConfig
    where it is less than is needed."""
    available = available_bytes()
    if isinstance(workers, str):
        workers = _workers_for(footprint, available if memory is None else memory)
    need = _need(footprint, workers)
    limit = max(need, CLUSTER_BYTES if workers is None else available // 2) if memory is None else memory
    if limit < need or (memory is None and workers is not None and need > available):
        raise BadConfig(_too_little(footprint, workers, need, available if memory is None else memory))
    left = limit - need
    pool = 0 if workers in (None, 1) else left // 2
    room = (left - pool) // (workers or 1)
    return MemoryPlan(footprint=footprint, workers=workers, limit=limit, need=need, room=room, pool=pool)


def _need(footprint: Footprint, workers: int | None) -> int:
    """A single worker is this process; more are beside it."""
    return footprint.process if workers in (None, 1) else footprint.idle + (workers or 0) * footprint.process


def _workers_for(footprint: Footprint, memory: int) -> int:
    counts = range(usable_cores(), 1, -1)
    return next((count for count in counts if _need(footprint, count) <= memory), 1)


def _who(workers: int | None) -> str:
    if workers is None:
        return "each worker"
    return "this process" if workers == 1 else f"{workers} workers and this process"


def _too_little(footprint: Footprint, workers: int | None, need: int, memory: int) -> str:
    f = footprint
    fewer = f", or --workers 1, which needs {text_of(f.process)}" if (workers or 1) > 1 else ""
    return (
        f"memory: {text_of(memory)} for {_who(workers)}; allowed: from {text_of(need)} (a process takes "
        f"{text_of(f.idle)} for libraries, model and images, {text_of(f.work)} for its work, {text_of(f.image)} for "
        f"what is known about one image). Give --memory {text_of(need).replace(' ', '')} or more{fewer}."
    )
