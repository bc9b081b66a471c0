"""Kernels are compiled on first use, which takes a minute: whoever waits can be told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def telling_of_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Calls `tell` once if a kernel is compiled; not where all come from the cache."""
    from numba.core import event

    class First(event.Listener):
        told = False

        def on_start(self, _: Any) -> None:
            if not self.told:
                self.told = True
                tell()

        def on_end(self, _: Any) -> None:
            pass

    with event.install_listener("numba:compile", First()):
        yield
