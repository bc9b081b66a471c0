"""How every kernel is compiled: cached on disk, no Python objects, IEEE arithmetic as written.

The JIT turns itself off with NUMBA_DISABLE_JIT=1: the same functions then run as plain Python, which is
their readable definition.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import numba
import numpy as np

# Kernel scalars: plain Python without the JIT, NumPy scalars where they come out of arrays.
Int: TypeAlias = "int | np.signedinteger[Any]"
Real: TypeAlias = "float | np.floating[Any]"

P = ParamSpec("P")
R = TypeVar("R")


def _cache_folder() -> str | None:
    """A cache folder of its own for each state of the source; None leaves the choice to numba.

    numba notices a change in a kernel's own file, not in the file of a kernel it calls, and would go on
    running the old one. Where the package can't be written to, nobody edits it either.
    """
    package = Path(__file__).parent
    root = Path(os.environ.get("NUMBA_CACHE_DIR", package / "__pycache__"))
    if not os.access(package, os.W_OK):
        return None
    digest = hashlib.sha256()
    for source in sorted(package.rglob("*.py")):
        digest.update(source.read_bytes())
    return str(root / f"kernels-{digest.hexdigest()[:12]}")


_config: Any = numba.config
_config.CACHE_DIR = _cache_folder() or _config.CACHE_DIR


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` with numba on its first call; never with fast-math, which would change bits."""
    return cast(Callable[P, R], numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel pasted into its callers: for a few instructions, where passing a record would cost more."""
    return cast(Callable[P, R], numba.njit(inline="always", error_model="numpy")(function))


def stage(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel that becomes part of its callers, by LLVM: numba counts the references of arrays around every call
    that is left, and passes a record word by word."""
    return cast(Callable[P, R], numba.njit(forceinline=True, nogil=True, error_model="numpy")(function))
