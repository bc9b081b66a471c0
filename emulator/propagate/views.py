"""Where the changes of a tensor lie: in units of a few dozen elements, for the operators that read it.

A view cuts a tensor into runs of `depth` elements, channels last, and each run into `parts` units of `part` elements,
the last one shorter where they don't come out even. An operator that multiplies wants runs as deep as its weights, a
pool those of its channels; one that takes elements singly wants the runs of what it fills.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.graph.program import Col, Kind, Program
from emulator.jit import Int, inlined
from emulator.simd import PART, room_of

Ints = npt.NDArray[np.int64]

_PIXELS = (Kind.MAX_POOL, Kind.AVERAGE_POOL, Kind.GLOBAL_AVERAGE_POOL)


class Views(NamedTuple):
    """One entry a view: tensor, depth, parts and part, see above; where its first unit lies among those of all views,
    start, units before the first standing for padding; where its lists begin, place, and how far apart they are, room.
    even: all units are equally long.

    The first are the tensors' own, in their order, which are filled when a tensor changes. source, right (operators,):
    the view each reads; one that is not a tensor's own is filled from it (see `emulator.propagate.scratch.relay`).
    """

    tensor: Ints
    depth: Ints
    parts: Ints
    part: Ints
    start: Ints
    place: Ints
    room: Ints
    even: npt.NDArray[np.bool_]
    source: Ints
    right: Ints


@inlined
def unit_of(v: Views, view: Int, element: Int) -> Int:
    """The unit that an element of a tensor lies in."""
    run = element // v.depth[view]
    unit: Int = run * v.parts[view] + (element - run * v.depth[view]) // v.part[view]
    return unit


@inlined
def span(v: Views, view: Int, unit: Int) -> tuple[Int, Int]:
    """The first element of a unit, and how many it has."""
    if v.even[view]:
        return unit * v.part[view], v.part[view]
    run = unit // v.parts[view]
    skipped = (unit - run * v.parts[view]) * v.part[view]
    return run * v.depth[view] + skipped, min(v.part[view], v.depth[view] - skipped)


def views_of(p: Program) -> Views:
    """The views that the operators of a program ask for."""
    own_depth = _own_depths(p)
    sizes = np.diff(p.tensor_start)
    # Of a tensor, in runs so deep: the number of the view.
    views = {(tensor, depth): tensor for tensor, depth in enumerate(own_depth.tolist())}
    read = np.zeros((len(p.ops), 2), np.int64)
    for op, row in enumerate(p.ops):
        depth = _wanted(row, own_depth)
        for operand, tensor in enumerate(_read(row)):
            key = (int(tensor), depth or int(own_depth[tensor]))
            read[op, operand:] = views.setdefault(key, len(views))
    tensors, depths = np.ascontiguousarray(np.array(list(views), np.int64).reshape(-1, 2).T)
    parts = np.array([_parts(depth) for depth in depths.tolist()], np.int64)
    part = -(-depths // parts)
    padding = np.zeros(len(views), np.int64)
    np.maximum.at(padding, read[:, 0], p.ops[:, Col.CHANNELS])
    before = padding // depths * parts
    units = sizes[tensors] // depths * parts
    room = np.array([room_of(size) for size in part.tolist()], np.int64)
    return Views(
        tensor=tensors,
        depth=depths,
        parts=parts,
        part=part,
        start=np.cumsum(before + units) - units,
        place=np.cumsum(units * room) - units * room,
        room=room,
        even=part * parts == depths,
        source=np.ascontiguousarray(read[:, 0]),
        right=np.ascontiguousarray(read[:, 1]),
    )


def _read(row: Ints) -> Ints:
    """The tensors that an operator reads."""
    return row[[Col.SOURCE, Col.RIGHT]] if row[Col.KIND] == Kind.PAIR_TABLE else row[[Col.SOURCE]]


def _wanted(row: Ints, own_depth: Ints) -> int:
    """The depth of the runs an operator wants to read; 0 for any."""
    if row[Col.KIND] == Kind.MAC and not row[Col.DEPTHWISE]:
        return int(row[Col.CHANNELS] // row[Col.GROUPS])
    if row[Col.KIND] == Kind.MAC or row[Col.KIND] in _PIXELS:
        return int(row[Col.CHANNELS])
    return 0 if row[Col.KIND] == Kind.MOVE else int(own_depth[row[Col.TARGET]])


def _own_depths(p: Program) -> Ints:
    """Of each tensor, the depth that the readers with the most work want; without any, of one run."""
    depths = np.maximum(np.diff(p.tensor_start), 1)
    most = np.zeros(len(depths), np.int64)
    for row in p.ops[::-1]:
        if row[Col.KIND] == Kind.MAC:
            work = row[Col.M] * row[Col.TAPS] * row[Col.CHANNELS] * row[Col.N]
        else:
            work = np.int64(row[Col.KIND] != Kind.MOVE)
        for tensor in _read(row).tolist():
            if work > most[tensor]:
                depths[tensor], most[tensor] = _wanted(row, depths), work
    return depths


def _parts(depth: int) -> int:
    """As few units a run as hold it, a few more if they come out even then."""
    fewest = -(-depth // PART)
    even = (n for n in range(fewest, 2 * fewest + 3) if depth % n == 0)
    return next(even, fewest)
