"""Bounds behind a MAC layer, into its requantisation: what clips anyway clips there, and an operator is gone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from emulator.graph.qgraph import MacLayer, Op, QTensor, TableOp, readers_of

_CODES = np.arange(-128, 128)


def with_bounds_folded(
    ops: Sequence[Op], tensors: Sequence[QTensor], answers: Collection[str]
) -> tuple[Op, ...]:
    """The operators, those tables gone that only bound what a MAC layer gives to nobody else. answers: names of the
    outputs. A table a channel stays: the requantiser of the array has one pair of bounds a layer."""
    readers = readers_of(ops, tensors)
    folded: dict[int, MacLayer] = {}
    gone: set[int] = set()
    for at, op in enumerate(ops):
        if isinstance(op, MacLayer) and isinstance(op.target, int) and tensors[op.target].name not in answers:
            followers = readers.get(op.target, [])
            bounds = _bounds(followers[0], op, tensors) if len(followers) == 1 else None
            if bounds is not None:
                folded[at] = bounds
                gone.add(id(followers[0]))
    return tuple(folded.get(at, op) for at, op in enumerate(ops) if id(op) not in gone)


def _bounds(table: Op, layer: MacLayer, tensors: Sequence[QTensor]) -> MacLayer | None:
    """The layer with the bounds of the table that reads it; None if the table is more than bounds."""
    rule = layer.requantisation
    if not isinstance(table, TableOp) or rule is None:
        return None
    low, high = int(table.table.min()), int(table.table.max())
    if not np.array_equal(table.table, np.clip(_CODES, low, high)):
        return None
    assert isinstance(layer.target, int)
    if _quantisation(tensors[layer.target]) != _quantisation(tensors[table.target]):
        return None
    if (low, high) == (rule.zero_point, 127):  # a ReLU, which runs behind the array
        return None
    low, high = (min(max(bound, rule.low), rule.high) for bound in (low, high))
    return replace(layer, target=table.target, requantisation=replace(rule, low=low, high=high))


def _quantisation(tensor: QTensor) -> tuple[float, int, int]:
    return tensor.scale, tensor.zero_point, tensor.offset
