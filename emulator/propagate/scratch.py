"""Working memory for following one fault after the other, and how a changed element is noted in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.graph.program import SLACK, Col, Program
from emulator.jit import Int, borrowing, borrowing_stage, inlined
from emulator.propagate.readers import Readers, readers_of
from emulator.propagate.views import Views, span, unit_of, views_of
from emulator.simd import CHANGE, LOW, PART, QUEUE, Queues, Spread, aligned, lay, room_of

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.int8]


class Scratch(NamedTuple):
    """Working memory, clean between faults: `current` equals golden, counts, listed and all marks are zero.

    counts (views,): changed units of a view; units: which, from where the view starts. listed: is a unit among
    them? last_use (tensors,): the last operator that reads each. rows: rows of
    sums that read what has changed, queues: what they read. sums, values: room for one row.
    """

    current: Values
    views: Views
    counts: Ints
    units: npt.NDArray[np.int32]
    listed: npt.NDArray[np.uint8]
    spread: Spread
    readers: Readers
    last_use: Ints
    rows: npt.NDArray[np.int32]
    sums: npt.NDArray[np.int32]
    values: Values
    queues: Queues


@inlined
def touch(s: Scratch, view: Int, unit: Int) -> None:
    """Something in this unit has changed."""
    place = s.views.start[view] + unit
    if s.listed[place] == 0:
        s.listed[place] = 1
        s.units[s.views.start[view] + s.counts[view]] = unit
        s.counts[view] += 1


@inlined
def settle(p: Program, s: Scratch, golden: Values, tensor: Int, element: Int, value: Int) -> bool:
    """A single recomputed element; has it changed?"""
    at = p.tensor_start[tensor] + element
    if value == golden[at]:
        return False
    s.current[at] = value
    touch(s, tensor, unit_of(s.views, tensor, element))
    return True


@borrowing
def settle_all(p: Program, s: Scratch, golden: Values, tensor: Int, stored: Values) -> bool:
    """A tensor recomputed whole."""
    for element in range(len(stored)):
        settle(p, s, golden, tensor, element, stored[element])
    lay_out(p, s, golden, tensor)
    return bool(s.counts[tensor] > 0)


@borrowing_stage
def lay_out(p: Program, s: Scratch, golden: Values, view: Int) -> None:
    """The changes of all touched units, for those who read them."""
    v, start = s.views, s.views.start[view]
    for unit in s.units[start : start + s.counts[view]]:
        first, length = span(v, view, unit)
        at, place = p.tensor_start[v.tensor[view]] + first, v.place[view] + unit * v.room[view]
        lay(s.current, golden, at, length, s.spread, start + unit, place)


@inlined
def changed_channels(s: Scratch, view: Int, unit: Int) -> npt.NDArray[np.uint8]:
    """Which elements of a unit have changed, some perhaps named twice."""
    place = s.views.place[view] + unit * s.views.room[view]
    return s.spread.channel[place : place + (s.spread.mark[s.views.start[view] + unit] & LOW)]


@borrowing_stage
def clear(s: Scratch, view: Int) -> None:
    """Nothing has changed as far as this view goes."""
    start = s.views.start[view]
    for unit in s.units[start : start + s.counts[view]]:
        s.spread.mark[start + unit] = 0
        s.listed[start + unit] = 0
    s.counts[view] = 0


@borrowing
def list_changed(p: Program, s: Scratch, golden: Values, tensor: Int, changed: Ints) -> Int:
    """The elements of a tensor that have changed into `changed`, which has room for all; how many."""
    v, start = s.views, p.tensor_start[tensor]
    count: Int = 0
    for unit in s.units[v.start[tensor] : v.start[tensor] + s.counts[tensor]]:
        first, length = span(v, tensor, unit)
        for element in range(first, first + length):
            if s.current[start + element] != golden[start + element]:
                changed[count] = element
                count += 1
    return count


@borrowing_stage
def relay(p: Program, s: Scratch, golden: Values, view: Int) -> None:
    """Fill a view that is not its tensor's own from that."""
    v, tensor = s.views, s.views.tensor[view]
    if view == tensor:
        return
    for unit in s.units[v.start[tensor] : v.start[tensor] + s.counts[tensor]]:
        first = span(v, tensor, unit)[0]
        for channel in changed_channels(s, tensor, unit):
            touch(s, view, unit_of(v, view, first + channel))
    lay_out(p, s, golden, view)


@borrowing_stage
def unlay(s: Scratch, view: Int) -> None:
    """Empty a view that is not its tensor's own."""
    if view != s.views.tensor[view]:
        clear(s, view)


@borrowing
def changed_elements(p: Program, s: Scratch, golden: Values, tensor: Int) -> Int:
    """How many elements of a tensor have changed."""
    v, start = s.views, p.tensor_start[tensor]
    count: Int = 0
    for unit in s.units[v.start[tensor] : v.start[tensor] + s.counts[tensor]]:
        first, length = span(v, tensor, unit)
        for element in range(start + first, start + first + length):
            count += s.current[element] != golden[element]
    return count


@borrowing
def restore(p: Program, s: Scratch, golden: Values) -> None:
    """Remove the fault: every changed element is golden again."""
    v = s.views
    for tensor in range(len(s.last_use)):
        if s.counts[tensor] == 0:
            continue
        for unit in s.units[v.start[tensor] : v.start[tensor] + s.counts[tensor]]:
            first, length = span(v, tensor, unit)
            at = p.tensor_start[tensor] + first
            # Assigning a slice would copy it first.
            current, before = s.current[at:][:length], golden[at:][:length]
            for i in range(length):
                current[i] = before[i]
        clear(s, tensor)


def scratch_for(p: Program) -> Scratch:
    """Working memory for the faults of one image at a time."""
    v = views_of(p)
    groups = np.where(p.ops[:, Col.DEPTHWISE] != 0, 1, np.maximum(p.ops[:, Col.GROUPS], 1))
    most = int((p.ops[:, Col.M] * groups).max(initial=1))
    wide = int(np.maximum(p.ops[:, Col.CHANNELS], p.ops[:, Col.N]).max(initial=1))
    depth = p.ops[:, Col.CHANNELS] // np.maximum(p.ops[:, Col.GROUPS], 1)
    read = int((p.ops[:, Col.TAPS] * depth).max(initial=1)) * room_of(PART) // PART
    size = np.diff(p.tensor_start)[v.tensor] // v.depth * v.parts
    units, places = int((v.start + size).max(initial=0)) + 1, int((v.place + size * v.room).max(initial=0))
    last_use = np.full(len(p.tensor_start) - 1, -1, np.int64)
    for op in range(len(p.ops)):
        last_use[v.tensor[[v.source[op], v.right[op]]]] = op
    return Scratch(
        current=np.zeros(p.value_size, np.int8),
        views=v,
        counts=np.zeros(len(v.tensor), np.int64),
        units=np.zeros(units, np.int32),
        listed=np.zeros(units, np.uint8),
        spread=Spread(
            mark=np.zeros(units, np.int64),
            channel=aligned(places + SLACK, np.uint8),
            change=aligned(places + SLACK, CHANGE),
        ),
        readers=readers_of(p),
        last_use=last_use,
        rows=np.zeros(most, np.int32),
        sums=np.zeros(wide, np.int32),
        values=np.zeros(wide, np.int8),
        queues=Queues(
            mark=np.zeros(most, np.int64),
            entry=np.zeros(most * QUEUE, np.int64),
            longest=np.zeros(read + SLACK, np.int64),
        ),
    )
