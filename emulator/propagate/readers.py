"""Who reads each value: the windows and moves of a program the other way round, for following a change."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.graph.program import Col, Kind, Program
from emulator.jit import kernel

Ints = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

_WINDOWS = (Kind.MAC, Kind.MAX_POOL, Kind.AVERAGE_POOL)


class Readers(NamedTuple):
    """start (operators,): where the table of an operator with taps or origins begins. It holds the number of source
    indices up to the largest that is read, that many + 1 offsets, then the readers of each, in order: an output pixel
    (of a move, a place in `origin`) above tap_bits[operator] bits of its tap."""

    start: Ints
    tap_bits: Ints
    table: Int32


def readers_of(p: Program) -> Readers:
    """Operators with the same taps share a table."""
    start, tap_bits = np.zeros((2, len(p.ops)), np.int64)
    tables: dict[tuple[int, int, int], int] = {}
    parts = [np.zeros(1, np.int32)]  # keeps kernels free of empty arrays
    for op, row in enumerate(p.ops):
        if row[Col.KIND] in _WINDOWS:
            first, places, each = (int(row[col]) for col in (Col.TAPS_START, Col.M, Col.TAPS))
        elif row[Col.KIND] == Kind.MOVE:
            first, places, each = int(row[Col.ORIGIN_START]), int(row[Col.COUNT]), 1
        else:
            continue
        # A division takes a core ten times as long as a shift.
        tap_bits[op] = (each - 1).bit_length()
        key = (first, places, each)
        if key not in tables:
            tables[key] = sum(map(len, parts))
            taps = p.indices[first : first + places * each].reshape(places, each)
            parts.append(_table(taps, int(tap_bits[op])))
        start[op] = tables[key]
    return Readers(start=start, tap_bits=tap_bits, table=np.concatenate(parts))


def _table(taps: Int32, tap_bits: int) -> Int32:
    size = int(taps.max(initial=-1)) + 1
    table = np.zeros(size + 2 + int((taps >= 0).sum()), np.int32)
    table[0] = size
    _fill(taps, tap_bits, size, table)
    return table


@kernel
def _fill(taps: Int32, tap_bits: int, size: int, table: Int32) -> None:
    """Counting sort: readers of each index counted, their ends summed up, then filled in from behind."""
    offsets, readers = table[1 : size + 2], table[size + 2 :]
    for source in taps.reshape(-1):
        if source >= 0:
            offsets[source] += 1
    for index in range(1, size + 1):
        offsets[index] += offsets[index - 1]
    for place in range(len(taps) - 1, -1, -1):
        for tap in range(taps.shape[1] - 1, -1, -1):
            source = taps[place, tap]
            if source >= 0:
                offsets[source] -= 1
                readers[offsets[source]] = place << tap_bits | tap
