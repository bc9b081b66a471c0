"""How a campaign is cut: chunks are the unit of work, of storage and of resuming.

Drawn chunks grow, so that a short campaign answers soon and a long one spends its time on faults: the images of a chunk
are struck together, and what is found out about each image and layer serves all of its faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any, Protocol

from emulator.choices import few

FIRST_TRIALS = 500
ALIKE = 8
MOST_TRIALS = 32_000

# After so many turns, 28,000 trials, nothing more is learnt, and no chunk waits for another.
TURNS_TO_LEARN = 3


class Chunks(Protocol):
    """Chunk 0, 1, 2 ... of one campaign."""

    def rows(self, chunk: int) -> int | None:
        """Trials in a chunk; None: only the chunk itself knows."""
        ...

    def exists(self, chunk: int) -> bool:
        """Is it part of the campaign?"""
        ...

    def first(self, chunk: int) -> int:
        """The number of its first trial; those of the whole campaign ascend, and are distinct."""
        ...

    def before(self, chunk: int) -> int:
        """How many chunks, from the first on, a sampler that learns may look back at."""
        ...

    def settings(self) -> dict[str, Any]:
        """What identifies the cut in a manifest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnChunks:
    """FIRST_TRIALS trials in each of the first ALIKE chunks, then twice as many, up to MOST_TRIALS; `limit` trials in
    all, None: no end."""

    limit: int | None

    def rows(self, chunk: int) -> int:
        size = self._size(chunk // ALIKE)
        return size if self.limit is None else max(0, min(size, self.limit - self.first(chunk)))

    def exists(self, chunk: int) -> bool:
        return self.rows(chunk) > 0

    def first(self, chunk: int) -> int:
        turn, within = divmod(chunk, ALIKE)
        return ALIKE * sum(map(self._size, range(turn))) + within * self._size(turn)

    def before(self, chunk: int) -> int:
        return ALIKE * min(chunk // ALIKE, TURNS_TO_LEARN)

    def settings(self) -> dict[str, Any]:
        return {"first": FIRST_TRIALS, "alike": ALIKE, "most": MOST_TRIALS}

    def _size(self, turn: int) -> int:
        return min(FIRST_TRIALS << min(turn, 30), MOST_TRIALS)


def gap(stored: Sequence[int], trials: int | None) -> str:
    """Which drawn chunks are not there, and how many trials that makes; "" where none is. trials: those of the campaign
    when it was finished, None: it is not, and what lies beyond the last stored chunk was never made."""
    cut = DrawnChunks(limit=trials)
    last = max(stored, default=-1)
    chunks = range(last + 1) if trials is None else [*takewhile(cut.exists, count())]
    lost = sorted(set(chunks) - set(stored))
    if not lost:
        return ""
    missing = sum(map(cut.rows, lost))
    if len(lost) == 1:
        return f"chunk {lost[0]} of {len(chunks)} is missing: {missing:,} trials"
    return f"chunks {few(lost)} of {len(chunks)} are missing: {missing:,} trials"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedChunks:
    """A known number of chunks, as many trials in each as there are classes."""

    count: int

    def rows(self, chunk: int) -> None:
        return None

    def exists(self, chunk: int) -> bool:
        return chunk < self.count

    def first(self, chunk: int) -> int:
        return chunk << 32

    def before(self, chunk: int) -> int:
        return 0

    def settings(self) -> dict[str, Any]:
        return {"count": self.count}
