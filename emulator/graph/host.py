"""Host segments: the part of a network that ONNX Runtime runs itself, as it is deployed, whatever it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from emulator.errors import UnsupportedModel
from emulator.graph.qgraph import HostOp
from emulator.graph.session import open_session

Arrays = Mapping[str, npt.NDArray[Any]]


class HostRuntime:
    """Sessions of the segments of one network, opened when first needed."""

    def __init__(self) -> None:
        self._sessions: dict[str, Any] = {}

    def run(self, segment: HostOp, feeds: Arrays) -> list[npt.NDArray[Any]]:
        """The segment's outputs, in their order. Raises UnsupportedModel with ONNX Runtime's reason."""
        if segment.name not in self._sessions:
            self._sessions[segment.name] = open_session(segment.model)
        try:
            outputs: list[npt.NDArray[Any]] = self._sessions[segment.name].run(segment.outputs, feeds)
        except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
            reason = " ".join(str(error).split())[:400]
            raise UnsupportedModel(
                f"host segment {segment.name!r} ({', '.join(segment.nodes)}) can't be run by ONNX Runtime: {reason}"
            ) from error
        return outputs
