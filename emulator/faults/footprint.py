"""How many bytes a fault-free run takes, laid out for the array."""

from __future__ import annotations

from emulator.array.spec import ArraySpec
from emulator.graph.qgraph import MacLayer, QuantGraph

ACCUMULATOR_BYTES = 4


def run_bytes(graph: QuantGraph, array: ArraySpec) -> int:
    """The tensors and accumulators of one image, and its operands; host values are known only when it has run."""
    sums = sum(layer.shape.m * layer.columns for layer in graph.layers)
    return (
        sum(tensor.size for tensor in graph.tensors) + ACCUMULATOR_BYTES * sums + operand_bytes(graph, array)
    )


def operand_bytes(graph: QuantGraph, array: ArraySpec) -> int:
    """What the array multiplies of one image (`operands`), weights apart that all images share."""
    return sum(_operand_bytes(layer, exchanged=array.dataflow == "is") for layer in graph.layers)


def _operand_bytes(layer: MacLayer, *, exchanged: bool) -> int:
    shape, width = layer.shape, 1 if layer.compiled else 2
    act, wgt = shape.groups * shape.m * shape.k, shape.groups * shape.k * shape.n
    if not exchanged:
        return width * act
    # Transposed copies beside them (`Operands.streamed`), biases row by row.
    return width * (2 * act + wgt) + ACCUMULATOR_BYTES * shape.m * layer.columns
