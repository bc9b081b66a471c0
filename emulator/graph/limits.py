"""What a model file may ask for when it is first run: a few bytes can ask for any amount of time and memory."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from emulator.errors import UnsupportedModel

SECONDS = 3.0
MEMORY_BYTES = 3 << 29

# How numpy and ONNX Runtime say that memory ran out.
_NO_MEMORY = ("MemoryError", "bad_alloc", "bad allocation", "Failed to allocate", "Unable to allocate")


@contextmanager
def bounded_memory(what: str) -> Iterator[None]:
    """Refuse to go MEMORY_BYTES above what the process has now, where the system can be told so (Linux)."""
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most if soft < 0 else min(soft, most), hard))
    try:
        yield
    except Exception as error:
        if any(words in f"{type(error).__name__}: {error}" for words in _NO_MEMORY):
            raise UnsupportedModel(
                f"{what} needs more than {MEMORY_BYTES / (1 << 30):g} GiB for one inference; allowed: less. "
                "Check its shapes."
            ) from None
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def run_in_time(
    session: Any, names: Sequence[str], feeds: Mapping[str, npt.NDArray[Any]], what: str
) -> list[Any]:
    """session.run, given up after SECONDS: ONNX Runtime looks at the flag between nodes, each round of a Loop too."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    clock = threading.Timer(SECONDS, setattr, (options, "terminate", True))
    clock.daemon = True
    clock.start()
    try:
        values: list[Any] = session.run(names, feeds, options)
    except Exception:
        if options.terminate:
            raise UnsupportedModel(
                f"{what} takes more than {SECONDS:g} s for one inference; allowed: less. Check its loops."
            ) from None
        raise
    finally:
        clock.cancel()
    return values
