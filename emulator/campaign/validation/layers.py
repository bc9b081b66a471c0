"""What the checks read of a MAC layer: the one place here that knows how a layer is built."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.gemm import GemmShape
from emulator.graph.golden import Golden, Inference
from emulator.graph.qgraph import Int8, MacLayer, QTensor, QuantGraph, TableOp


class Product(NamedTuple):
    """One layer's integers: act (groups, m, k), wgt (groups, k, n), int8; bias (groups, n) int32."""

    act: Int8
    wgt: Int8
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


def shape(graph: QuantGraph, index: int) -> GemmShape:
    return graph.layers[index].shape


def target(graph: QuantGraph, index: int) -> QTensor:
    """The int8 tensor that layer `index` writes."""
    return graph.tensors[graph.layers[index].target]


def product(golden: Golden, run: Inference, index: int) -> Product:
    layer = golden.graph.layers[index]
    return Product(golden.streamed(run, index), layer.weight, layer.bias)


def output(golden: Golden, run: Inference, index: int) -> Output:
    """relu: the lower bound stands for a real zero, or a ReLU that follows makes it one."""
    layer = golden.graph.layers[index]
    rq = layer.requantisation
    unclipped = np.rint(golden.accumulator(run, index).astype(np.float32) * rq.scale) + np.float32(
        rq.zero_point
    )
    relu = rq.low == rq.zero_point or _relu_follows(golden.graph, layer)
    return Output(golden.tensor(run, layer.target), unclipped.reshape(-1), rq.low, rq.high, relu)


def stored(golden: Golden, run: Inference, index: int) -> Int8:
    """(elements,) the int8 answer of layer `index`."""
    return golden.tensor(run, golden.graph.layers[index].target)


def real(graph: QuantGraph, logits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Stored answers in real units."""
    return graph.tensors[graph.output].real(logits)


def bias_overflow(graph: QuantGraph, index: int) -> tuple[int, int]:
    """(biases the quantiser clipped to int32, biases that wrap once the input's zero point is folded in)."""
    layer = graph.layers[index]
    zero_point = graph.tensors[layer.source].zero_point
    folded = zero_point * layer.weight.astype(np.int64).sum(axis=1)
    written = layer.bias.astype(np.int64) + folded
    limits = np.iinfo(np.int32)
    clipped = int(((written == limits.max) | (written == limits.min)).sum())
    return clipped, int(((written > limits.max) | (written < limits.min)).sum())


def _relu_follows(graph: QuantGraph, layer: MacLayer) -> bool:
    """Is everything that reads the output a table that maps all below zero to one value?"""
    zero = graph.tensors[layer.target].zero_point
    readers = [op for op in graph.ops if layer.target in _sources(op)]
    return bool(readers) and all(
        isinstance(op, TableOp) and bool((op.table[: zero + 129] == op.table[zero + 128]).all())
        for op in readers
    )


def _sources(op: Any) -> tuple[int, ...]:
    """The tensors an operator reads."""
    return tuple(getattr(op, name) for name in ("source", "left", "right") if hasattr(op, name))
