"""How every kernel is compiled: cached on disk, no Python objects, IEEE arithmetic as written.

The JIT turns itself off with NUMBA_DISABLE_JIT=1: the same functions then run as plain Python, which is
their readable definition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` with numba on its first call; never with fast-math, which would change bits."""
    return cast(Callable[P, R], numba.njit(cache=True, nogil=True, error_model="numpy")(function))
