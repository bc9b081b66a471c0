"""Whoever waits for kernels to be compiled is told so, once; nobody else is."""

from __future__ import annotations

import numba

from emulator.compiling import telling_of_compiling


def test_compiling_is_told_once_and_only_where_it_happens() -> None:
    told: list[str] = []
    first, second = numba.njit(lambda x: x + 1), numba.njit(lambda x: x + 2)
    with telling_of_compiling(lambda: told.append("now")):
        assert (first(1), second(1)) == (2, 3)
    assert told == ["now"]
    with telling_of_compiling(lambda: told.append("again")):
        assert (first(1), second(1)) == (2, 3)
    numba.njit(lambda x: x + 3)(1)
    assert told == ["now"]
