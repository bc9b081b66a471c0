"""What a model file may ask for when it is first run: a few bytes can ask for any amount of time and memory."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx

from emulator.errors import UnsupportedModel

VARIABLE = "EMULATOR_UNBOUNDED"

# What any file may take, and what each of its bytes adds: large networks are slow and wide for a reason.
_SECONDS, _SECONDS_PER_BYTE = 3.0, 1e-7
_MEMORY_BYTES, _MEMORY_PER_BYTE = 3 << 29, 20
# How numpy and ONNX Runtime say that memory ran out.
_NO_MEMORY = ("MemoryError", "bad_alloc", "bad allocation", "Failed to allocate", "Unable to allocate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one inference, while a model is loaded."""

    what: str
    seconds: float
    memory_bytes: float

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Limits:
        """Those for a file of this size; none at all where EMULATOR_UNBOUNDED is set."""
        size = float("inf") if os.environ.get(VARIABLE) else model.ByteSize()
        return cls(
            what=f"model {model.graph.name!r}",
            seconds=_SECONDS + _SECONDS_PER_BYTE * size,
            memory_bytes=_MEMORY_BYTES + _MEMORY_PER_BYTE * size,
        )

    @contextmanager
    def bounded_memory(self) -> Iterator[None]:
        """Refuse to go memory_bytes above what the process has now, where the system can be told so (Linux)."""
        if not sys.platform.startswith("linux") or self.memory_bytes == float("inf"):
            yield
            return
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + int(self.memory_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (most if soft < 0 else min(soft, most), hard))
        try:
            yield
        except Exception as error:
            if any(words in f"{type(error).__name__}: {error}" for words in _NO_MEMORY):
                raise UnsupportedModel(
                    f"{self.what} needs more than {self.memory_bytes / (1 << 30):.1f} GiB for one inference; allowed: "
                    f"less. Check its shapes, or set {VARIABLE}=1."
                ) from None
            raise
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    def run_in_time(
        self, session: Any, names: Sequence[str], feeds: Mapping[str, npt.NDArray[Any]]
    ) -> list[Any]:
        """session.run, given up after `seconds`: ONNX Runtime looks at the flag between nodes, each round of a Loop
        too."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        clock = threading.Timer(
            min(self.seconds, threading.TIMEOUT_MAX), setattr, (options, "terminate", True)
        )
        clock.daemon = True
        clock.start()
        try:
            values: list[Any] = session.run(names, feeds, options)
        except Exception:
            if options.terminate:
                raise UnsupportedModel(
                    f"{self.what} takes more than {self.seconds:.0f} s for one inference; allowed: less. Check its "
                    f"loops, or set {VARIABLE}=1."
                ) from None
            raise
        finally:
            clock.cancel()
        return values
