"""How every kernel is compiled: cached on disk, no Python objects, IEEE arithmetic as written.

The JIT turns itself off with NUMBA_DISABLE_JIT=1: the same functions then run as plain Python, which is
their readable definition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import numba
import numpy as np

# Kernel scalars: plain Python without the JIT, NumPy scalars where they come out of arrays.
Int: TypeAlias = "int | np.signedinteger[Any]"
Real: TypeAlias = "float | np.floating[Any]"

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` with numba on its first call; never with fast-math, which would change bits."""
    return cast(Callable[P, R], numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel pasted into its callers: for a few instructions, where passing a record would cost more."""
    return cast(Callable[P, R], numba.njit(inline="always", error_model="numpy")(function))
