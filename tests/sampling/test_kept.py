"""What is kept of what was computed, and what has to be computed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar
from weakref import WeakSet

import numpy as np
import pytest

from emulator.sampling.kept import Kept

CHEAP, DEAR = 0, 1


class Made:
    """Something that is made, counted."""

    alive: ClassVar[WeakSet[Made]] = WeakSet()

    def __init__(self, size: int) -> None:
        self.size = size
        Made.alive.add(self)


def maker(log: list[object], key: object, size: int) -> Callable[[], Made]:
    def make() -> Made:
        log.append(key)
        return Made(size)

    return make


def get(kept: Kept, log: list[object], key: object, size: int = 10, worth: int = CHEAP) -> Made:
    return kept.get(key, worth, maker(log, key, size), lambda made: made.size)


def test_what_fits_is_made_once() -> None:
    kept, log = Kept(30), []
    first = [get(kept, log, key) for key in range(3)]
    assert [get(kept, log, key) for key in range(3)] == first
    assert (log, kept.used) == ([0, 1, 2], 30)


@pytest.mark.parametrize("room", [0, 10, 35, 49, 50])
def test_round_after_round_only_what_found_no_room_is_made_again(room: int) -> None:
    """A cache that forgets the least recently used would make all five again, each round."""
    kept, log = Kept(room), []
    for _ in range(4):
        for key in range(5):
            get(kept, log, key)
    stay = room // 10
    assert log == [*range(5), *(list(range(stay, 5)) * 3 if stay < 4 else [])]


def test_the_last_one_is_at_hand_without_any_room() -> None:
    kept, log = Kept(0), []
    for key in (1, 1, 1, 2, 2, 1):
        get(kept, log, key)
        get(kept, log, ("dear", key), worth=DEAR)
    assert log == [1, ("dear", 1), 2, ("dear", 2), 1, ("dear", 1)]
    assert kept.used == 0


def test_the_last_one_goes_before_the_next_is_made() -> None:
    kept, alive = Kept(0), []

    def make() -> Made:
        alive.append(len(Made.alive))
        return Made(10)

    for key in range(4):
        kept.get(key, CHEAP, make, lambda made: made.size)
    assert alive == [0, 0, 0, 0]


def test_what_takes_longer_to_make_displaces_what_does_not_and_never_the_reverse() -> None:
    kept, log = Kept(30), []
    for key in range(3):
        get(kept, log, key)
    get(kept, log, "dear", size=15, worth=DEAR)
    assert kept.used == 25
    for key in ("dear", 0, 5, "dear", 0):
        get(kept, log, key, size=15 if key == "dear" else 10, worth=DEAR if key == "dear" else CHEAP)
    assert log == [0, 1, 2, "dear", 5]
    # Too large for all the room that could be made: nobody has to go.
    get(kept, log, "large", size=16, worth=DEAR)
    assert kept.used == 25


def test_no_more_is_alive_than_has_room_and_one_of_each_worth() -> None:
    rng, kept, log = np.random.default_rng(0), Kept(100), []
    for _ in range(500):
        worth = int(rng.integers(2))
        get(kept, log, (worth, int(rng.integers(12))), size=10 + 15 * worth, worth=worth)
        assert kept.used <= 100
        assert sum(made.size for made in Made.alive) <= 100 + 10 + 25
    assert len(log) < 500
