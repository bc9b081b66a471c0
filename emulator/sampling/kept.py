"""What is known about images, kept while there is room.

Chunks go through their images in ascending order, again and again: a cache that lets the least recently used go would
have forgotten each image when its turn comes. So what fits stays, and of the rest each is made again when it is needed;
only what is worth less, a byte, gives way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar, cast

T = TypeVar("T")


class _Entry(NamedTuple):
    value: Any
    worth: int
    size: int


class Kept:
    """At most `room` bytes, and beside them the last one of each worth that found none."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.used = 0
        self._entries: dict[Hashable, _Entry] = {}
        self._last: dict[int, tuple[Hashable, Any]] = {}

    def get(self, key: Hashable, worth: int, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """What `make` gave for this key, or gives now. worth: the higher, the longer it takes to make again, a byte;
        size: its bytes."""
        if key in self._entries:
            return cast(T, self._entries[key].value)
        if key == self._last.get(worth, (None,))[0]:
            return cast(T, self._last[worth][1])
        self._last.pop(worth, None)  # before the next is made: there are never two
        made = make()
        bytes_ = size(made)
        if self._finds_room(worth, bytes_):
            self._entries[key] = _Entry(made, worth, bytes_)
            self.used += bytes_
        else:
            self._last[worth] = key, made
        return made

    def _finds_room(self, worth: int, size: int) -> bool:
        """Is there room, or do others make some?"""
        lesser = [key for key, entry in self._entries.items() if entry.worth < worth]
        if self.room - self.used + sum(self._entries[key].size for key in lesser) < size:
            return False
        while self.room - self.used < size:
            self.used -= self._entries.pop(lesser.pop()).size
        return True
