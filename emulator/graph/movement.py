"""Operators that only move values, as one index per output element, found by letting ONNX Runtime move the
indices themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from emulator.errors import UnsupportedModel
from emulator.graph.qgraph import QTensor
from emulator.graph.session import run_nodes

MOVEMENT = frozenset(
    """DepthToSpace Expand Flatten Gather Identity Pad Reshape Slice SpaceToDepth Squeeze Tile Transpose
    Unsqueeze""".split()
)


def origins(
    nodes: Sequence[onnx.NodeProto],
    source: QTensor,
    feed: str,
    output: str,
    target: QTensor,
    constants: Mapping[str, npt.NDArray[Any]],
    opsets: Sequence[onnx.OperatorSetIdProto],
) -> npt.NDArray[np.int32]:
    """(target size,) int32 stored source index of every stored target element; -1 where a Pad fills.

    `feed` and `output` are the tensor names at which the chain of nodes starts and ends.
    """
    # Float32 carries indices exactly below 2^24; index 0 is kept for padding.
    if source.size >= 1 << 24:
        raise UnsupportedModel(
            f"{nodes[0].op_type} (node {nodes[0].name!r}) moves {source.size} values; allowed: below 2^24."
        )
    stored = np.arange(1, source.size + 1, dtype=np.int32)[np.newaxis]
    if source.channels_last:
        n, c, h, w = source.shape
        logical = np.moveaxis(stored.reshape(n, h, w, c), -1, 1)
    else:
        logical = stored.reshape(source.shape)
    padless = {
        name: np.zeros(array.shape, np.float32) if name in pad_values(nodes) else array
        for name, array in constants.items()
    }
    moved = run_nodes(nodes, feed, np.ascontiguousarray(logical, np.float32), output, padless, opsets)
    return (
        target.to_storage(np.rint(moved).astype(np.int32).reshape(target.shape)).reshape(-1).astype(np.int32)
        - 1
    )


def pad_values(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """Names of the constants that Pad nodes fill with."""
    return [
        node.input[2] for node in nodes if node.op_type == "Pad" and len(node.input) > 2 and node.input[2]
    ]
