"""How every kernel is compiled: cached on disk, no Python objects, IEEE arithmetic as written.

The JIT turns itself off with NUMBA_DISABLE_JIT=1: the same functions then run as plain Python, which is
their readable definition.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import numba
import numpy as np
from numba.misc.appdirs import AppDirs

from emulator import instructions

# Kernel scalars: plain Python without the JIT, NumPy scalars where they come out of arrays.
Int: TypeAlias = "int | np.signedinteger[Any]"
Real: TypeAlias = "float | np.floating[Any]"

P = ParamSpec("P")
R = TypeVar("R")

_config: Any = numba.config
_PACKAGE = Path(__file__).parent
_IMPORT = re.compile(r"^ *from (emulator[.\w]*) import (\([^)]*\)|.*)", re.MULTILINE)


@lru_cache
def _source(module: str) -> Path | None:
    """The file of a module of the package, None if it is not a module."""
    path = _PACKAGE.parent.joinpath(*module.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


@lru_cache
def _imported(module: str) -> tuple[str, ...]:
    """The modules of the package that a module imports, wherever the import stands."""
    file = _source(module)
    found = [] if file is None else _IMPORT.findall(file.read_text())
    names = [(base, *(f"{base}.{name}" for name in re.findall(r"\w+", rest))) for base, rest in found]
    return tuple(name for group in names for name in group if _source(name) is not None)


def _reached(module: str) -> set[str]:
    """A module and all of the package that it imports; the whole package for one from elsewhere, like a script."""
    if _source(module) is None:
        files = (path.relative_to(_PACKAGE.parent) for path in _PACKAGE.rglob("*.py"))
        return {".".join(file.with_suffix("").parts) for file in files}
    seen, found = {module, __name__}, [module]
    while found:
        new = set(_imported(found.pop())) - seen
        seen |= new
        found += new
    return seen


@lru_cache
def _cache_folder(module: str) -> str:
    """A cache folder of its own for each state of a module and of all it imports; None leaves the choice to numba.

    Modules on the dot products of `simd` have one for each choice of instructions, too.

    numba notices a change in a kernel's own file, not in the file of a kernel it calls, and would go on
    running the old one. Where the package can't be written to, numba's folder of the user takes it.
    """
    own = _PACKAGE / "__pycache__" if os.access(_PACKAGE, os.W_OK) else AppDirs("numba").user_cache_dir
    root = Path(os.environ.get("NUMBA_CACHE_DIR", own))
    seen = _reached(module)
    digest = hashlib.sha256()
    for name in sorted(seen):
        file = _source(name)
        digest.update(b"" if file is None else name.encode() + file.read_bytes())
    if instructions.__name__ in seen:
        digest.update(instructions.CHOSEN.name.encode())
    return str(root / f"kernels-{digest.hexdigest()[:12]}")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` with numba on its first call; never with fast-math, which would change bits."""
    return _cached(function)


def borrowing(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel that allocates nothing, and neither does what it calls: it uses the arrays of its callers, which keep
    them alive. Counting references to them, an atomic addition each, took half the time of sparse propagation."""
    return _cached(function, _nrt=False)


def _cached(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    given = _config.CACHE_DIR
    _config.CACHE_DIR = _cache_folder(function.__module__)
    try:
        return cast(
            Callable[P, R], numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
        )
    finally:
        _config.CACHE_DIR = given


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel pasted into its callers: for a few instructions, where passing a record would cost more."""
    return cast(Callable[P, R], numba.njit(inline="always", error_model="numpy")(function))


def stage(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel that becomes part of its callers, by LLVM: numba counts the references of arrays around every call
    that is left, and passes a record word by word."""
    return cast(Callable[P, R], numba.njit(forceinline=True, nogil=True, error_model="numpy")(function))


def borrowing_stage(function: Callable[P, R]) -> Callable[P, R]:
    """A stage that allocates nothing, like `borrowing`: numba would take that from the first kernel that happens to
    call it, and count references in all others from then on."""
    options: dict[str, Any] = {"_nrt": False}
    return cast(
        Callable[P, R], numba.njit(forceinline=True, nogil=True, error_model="numpy", **options)(function)
    )
