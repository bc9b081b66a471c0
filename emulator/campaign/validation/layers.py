"""What the checks read of a MAC layer: the one place here that knows how a layer is built."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.graph.golden import Golden, Inference
from emulator.graph.qgraph import Int8, MacLayer, QTensor, QuantGraph, TableOp
from emulator.graph.wide import Words, as_stored


class Product(NamedTuple):
    """One layer's integers: act (groups, m, k), wgt (groups, k, n), int8 or int16; bias (groups, n) int32, or
    (groups, m, n)."""

    act: Words
    wgt: Words
    bias: npt.NDArray[np.int32]


class Output(NamedTuple):
    """One layer's answer: values (elements,) int8 and what they would be without the clip, float32."""

    values: Int8
    unclipped: npt.NDArray[np.float32]
    low: int
    high: int
    relu: bool


def names(graph: QuantGraph) -> list[str]:
    return [layer.name for layer in graph.layers]


def target(graph: QuantGraph, index: int) -> QTensor | None:
    """The int8 tensor that layer `index` writes, None where its sums are the result."""
    written = graph.layers[index].target
    return graph.tensors[written] if isinstance(written, int) else None


def channels(graph: QuantGraph, index: int) -> int:
    """Output channels of layer `index`, stored last; 1 where its result is a stack of matrices."""
    layer = graph.layers[index]
    return 1 if layer.taps is None else layer.columns


def product(golden: Golden, run: Inference, index: int) -> Product:
    return Product(golden.streamed(run, index), golden.stationary(run, index), golden.bias(run, index))


def output(golden: Golden, run: Inference, index: int) -> Output | None:
    """relu: the lower bound stands for a real zero, or a ReLU that follows makes it one. None without
    requantisation."""
    layer = golden.graph.layers[index]
    rq = layer.requantisation
    if rq is None or not isinstance(layer.target, int):
        return None
    unclipped = np.rint(golden.accumulator(run, index).astype(np.float32) * rq.scale) + np.float32(
        rq.zero_point
    )
    relu = rq.low == rq.zero_point or _relu_follows(golden.graph, layer)
    stored = golden.tensor(run, layer.target)
    return Output(stored, as_stored(layer, unclipped), rq.low, rq.high, relu)


def real(graph: QuantGraph, logits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Answers in real units."""
    return logits.astype(np.float32) if graph.answer is None else graph.answer.real(logits)


def bias_overflow(graph: QuantGraph, index: int) -> tuple[int, int]:
    """(biases the quantiser clipped to int32, biases that wrap once the input's zero point is folded in)."""
    layer = graph.layers[index]
    if layer.weight is None or not isinstance(layer.zero_point, int):
        return 0, 0
    limits = np.iinfo(np.int32)
    clipped = int(((layer.bias == limits.max) | (layer.bias == limits.min)).sum())
    exact = layer.bias.astype(np.int64) - layer.zero_point * layer.weight.astype(np.int64).sum(axis=1)
    return clipped, int(((exact > limits.max) | (exact < limits.min)).sum())


def _relu_follows(graph: QuantGraph, layer: MacLayer) -> bool:
    """Is everything that reads the output a table that maps all below zero to one value?"""
    assert isinstance(layer.target, int)
    zero = graph.tensors[layer.target].zero_point
    readers = graph.readers.get(layer.target, [])
    return bool(readers) and all(
        isinstance(op, TableOp)
        and bool((op.table[..., : zero + 128] == op.table[..., zero + 128, None]).all())
        for op in readers
    )
