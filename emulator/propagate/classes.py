"""Faults that write the same values are one: what each stores behind the requantiser, kept once.

Golden is the same for all of them, so faults that change the same elements of a layer's output to the same int8 values
have the same effect (exactly): it is found once a class.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.faults.strikes import LayerErrors, gathered
from emulator.gemm import requantise, round_scaled
from emulator.graph.golden import Inference
from emulator.graph.program import Col, Program
from emulator.jit import Int, borrowing, borrowing_stage
from emulator.propagate.stage import Stage

Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Values = npt.NDArray[np.int8]

EMPTY = -1
FEWEST_SLOTS = 1 << 12
RECENT_BITS = 10
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: Knuth, TAOCP 3, sec. 6.4


class Changes(NamedTuple):
    """Class c stores value[ptr[c]:ptr[c + 1]] at `element` of the target of row op[c]; each differs from golden.
    stage: ARRAY, REQUANT or CLAMP where that is nothing, else NONE, as after a hang, which stores nothing."""

    op: Int32s
    stage: Values
    ptr: Ints
    element: Int32s
    value: Values


def changes_of(c: Changes, some: slice) -> Changes:
    """Those of a run of classes."""
    start, stop, _ = some.indices(len(c.op))
    ptr = c.ptr[start : stop + 1]
    within = slice(ptr[0], ptr[-1])
    return Changes(c.op[some], c.stage[some], ptr - ptr[0], c.element[within], c.value[within])


def changes_at(c: Changes, chosen: npt.NDArray[np.intp]) -> Changes:
    """Those of some classes, in the order of `chosen`."""
    ptr, at = gathered(c.ptr, chosen)
    return Changes(c.op[chosen], c.stage[chosen], ptr, c.element[at], c.value[at])


class Members(NamedTuple):
    """size (classes,): what the faults of each count together. fresh: the classes whose first fault came last, in the
    order of those faults, first."""

    size: Ints
    fresh: Int32s
    first: Ints


class _Table(NamedTuple):
    """Open addressing: slot to class, and the hash of each class. recent_error, recent_class: what single errors came
    last, by a hash of theirs; a word's flips, and those of the next PE's, are often the same few errors."""

    slot: Int32s
    key: npt.NDArray[np.uint64]
    recent_error: Ints
    recent_class: Int32s


@borrowing_stage
def _write(
    p: Program, golden: Values, acc: Int32s, op: Int, errors: LayerErrors, f: Int, c: Changes, used: Int
) -> int:
    """What fault `f` stores into the changes of the class `used`; its stage."""
    row = p.ops[op]
    channels, start = row[Col.GROUPS] * row[Col.N], p.tensor_start[row[Col.TARGET]]
    at, clamped = c.ptr[used], False
    for e in range(errors.ptr[f], errors.ptr[f + 1]):
        element = errors.m[e] * channels + errors.n[e]
        before = golden[start + element]
        if errors.at_output[f]:
            value = np.int64(np.int8(before + errors.delta[e]))
        else:
            scale, total = p.scale[row[Col.BIAS_START] + errors.n[e]], acc[row[Col.ACC_START] + element]
            wrong = np.int32(total + errors.delta[e])
            value = np.int64(requantise(wrong, scale, row[Col.ZERO_POINT], row[Col.LOW], row[Col.HIGH]))
            clamped |= value == before and round_scaled(wrong, scale) != round_scaled(total, scale)
        if value != before:
            c.element[at], c.value[at] = element, value
            at += 1
    c.ptr[used + 1] = at
    if at > c.ptr[used] or errors.hang[f]:
        return Stage.NONE
    if errors.ptr[f] == errors.ptr[f + 1]:
        return Stage.ARRAY
    return Stage.CLAMP if clamped else Stage.REQUANT


@borrowing_stage
def _key(c: Changes, used: Int) -> np.uint64:
    """A hash of what is stored, where and by which layer."""
    key = np.uint64(c.op[used] * 8 + c.stage[used]) * _MULTIPLIER
    for i in range(c.ptr[used], c.ptr[used + 1]):
        word = np.uint64(c.element[i]) << np.uint64(8) | np.uint64(np.uint8(c.value[i]))
        key = ((key ^ word) + np.uint64(1)) * _MULTIPLIER
        key ^= key >> np.uint64(29)
    return key


@borrowing_stage
def _same(c: Changes, a: Int, b: Int) -> bool:
    """Do two classes store the same?"""
    size = c.ptr[a + 1] - c.ptr[a]
    if c.op[a] != c.op[b] or c.stage[a] != c.stage[b] or size != c.ptr[b + 1] - c.ptr[b]:
        return False
    i, j = c.ptr[a], c.ptr[b]
    for step in range(size):
        if c.element[i + step] != c.element[j + step] or c.value[i + step] != c.value[j + step]:
            return False
    return True


@borrowing_stage
def _join(members: Members, found: Int, f: int, count: Int, fresh: int) -> int:
    """Fault `f` into the class `found`; how many classes are fresh then."""
    if members.size[found] == 0:
        members.fresh[fresh], members.first[fresh] = found, f
        fresh += 1
    members.size[found] += count
    return fresh


@borrowing
def _enter(
    p: Program,
    golden: Values,
    acc: Int32s,
    op: Ints,
    errors: LayerErrors,
    count: Ints,
    c: Changes,
    members: Members,
    table: _Table,
    start: int,
    used: int,
    fresh: int,
    of: Int32s,
) -> tuple[int, int, int]:
    """The class of faults from `start` on, until all have one or the table is half full: how far that came, and how
    many classes there are then, how many of them fresh."""
    last = np.uint64(len(table.slot) - 1)
    for f in range(start, len(op)):
        if 2 * used >= len(table.slot):
            return f, used, fresh
        first = errors.ptr[f]
        error, recent = np.int64(-1), np.uint64(0)
        if errors.ptr[f + 1] == first + 1 and not errors.at_output[f]:
            element = errors.m[first] * (p.ops[op[f], Col.GROUPS] * p.ops[op[f], Col.N]) + errors.n[first]
            error = element << 32 | np.int64(np.uint32(errors.delta[first]))
            recent = np.uint64(error) * _MULTIPLIER >> np.uint64(64 - RECENT_BITS)
            known = table.recent_class[recent]
            if table.recent_error[recent] == error and c.op[known] == op[f]:
                of[f] = known
                fresh = _join(members, known, f, count[f], fresh)
                continue
        c.op[used] = op[f]
        c.stage[used] = _write(p, golden, acc, op[f], errors, f, c, used)
        key = _key(c, used)
        slot = key >> np.uint64(20) & last
        found = table.slot[slot]
        while found != EMPTY and not (table.key[found] == key and _same(c, found, used)):
            slot = slot + np.uint64(1) & last
            found = table.slot[slot]
        if found == EMPTY:
            table.slot[slot], table.key[used], found = used, key, np.int32(used)
            members.size[used] = 0
            used += 1
        of[f] = found
        fresh = _join(members, found, f, count[f], fresh)
        table.recent_error[recent], table.recent_class[recent] = error, found
    return len(op), used, fresh


@borrowing
def _fill(table: _Table, used: Int) -> None:
    """Every class into an empty table."""
    last = np.uint64(len(table.slot) - 1)
    for found in range(used):
        slot = table.key[found] >> np.uint64(20) & last
        while table.slot[slot] != EMPTY:
            slot = slot + np.uint64(1) & last
        table.slot[slot] = found


class Classes:
    """The distinct effects of the faults of an image on the layers they strike, all of them compiled."""

    def __init__(self, program: Program, image: Inference) -> None:
        self.program = program
        self.image = image
        self.count = 0
        words, values = np.zeros(1, np.int32), np.zeros(1, np.int8)
        self._rooms = Changes(words, values, np.zeros(1, np.int64), words, values)
        self._members = Members(np.zeros(1, np.int64), words, np.zeros(1, np.int64))
        self._fresh = 0
        self._table = _Table(
            slot=np.full(FEWEST_SLOTS, EMPTY, np.int32),
            key=np.zeros(1, np.uint64),
            recent_error=np.full(1 << RECENT_BITS, EMPTY, np.int64),
            recent_class=np.zeros(1 << RECENT_BITS, np.int32),
        )

    def __len__(self) -> int:
        return self.count

    def add(self, layer: Ints, errors: LayerErrors, count: Ints | None = None) -> Int32s:
        """(faults,) the class of each fault, fault f in MAC layer layer[f]; new ones are numbered on. count: for how
        many each fault counts, at least one, None: one."""
        self._make_room(len(layer), int(errors.ptr[-1]))
        of, op, done, self._fresh = np.empty(len(layer), np.int32), self.program.layer_op[layer], 0, 0
        counts = np.ones_like(op) if count is None else count
        while done < len(op):
            done, self.count, self._fresh = _enter(
                self.program, self.image.values, self.image.accumulators, op, errors, counts, self._rooms,
                self._members, self._table, done, self.count, self._fresh, of,
            )  # fmt: skip
            if done < len(op):
                self._table = self._table._replace(slot=np.full(4 * len(self._table.slot), EMPTY, np.int32))
                _fill(self._table, self.count)
        return of

    @property
    def sizes(self) -> Ints:
        """(classes,) what the faults of each count together, since the count began."""
        return self._members.size[: self.count]

    @property
    def fresh(self) -> tuple[Int32s, Ints]:
        """The classes that had no fault before the last `add`, and which of its faults was the first of each."""
        return self._members.fresh[: self._fresh], self._members.first[: self._fresh]

    def count_anew(self) -> None:
        """Every class is known, and none has a fault: for the next register of the layer."""
        self._members.size[:] = 0

    @property
    def changes(self) -> Changes:
        """Of all classes so far."""
        c, used = self._rooms, int(self._rooms.ptr[self.count])
        return Changes(
            c.op[: self.count],
            c.stage[: self.count],
            c.ptr[: self.count + 1],
            c.element[:used],
            c.value[:used],
        )

    def _make_room(self, faults: int, errors: int) -> None:
        """For as many more classes, one being written, and as many more changes."""
        c, classes = self._rooms, self.count + faults + 1
        changes = int(c.ptr[self.count]) + errors + 1
        self._rooms = Changes(
            _grown(c.op, classes), _grown(c.stage, classes), _grown(c.ptr, classes + 1), _grown(c.element, changes),
            _grown(c.value, changes),
        )  # fmt: skip
        self._members = Members(*(_grown(part, classes) for part in self._members))
        self._table = self._table._replace(key=_grown(self._table.key, classes))


def _grown(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """At least this long, twice as long as before if it was not."""
    if size <= len(array):
        return array
    room = np.zeros(max(size, 2 * len(array)), array.dtype)
    room[: len(array)] = array
    return room
