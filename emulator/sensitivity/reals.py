"""Real values in the place of integers, in one graph: with which scale and zero point each integer tensor was written,
and what reads, selects or sums up integers on real values instead."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from emulator.errors import UnsupportedModel
from emulator.graph.rewriting import Rewriter
from emulator.sensitivity.rules.quantisation import constant_array, selects, taken_from
from emulator.sensitivity.rules.registry import describe

FLOAT, _INT32 = ir.DataType.FLOAT, ir.DataType.INT32

# What accumulators may go through before they are a float: the same on floats. The second group joins several.
_WIDE_ALONE = frozenset("Cast Expand Identity Neg Relu Reshape Slice Squeeze Transpose Unsqueeze".split())
_WIDE_TOGETHER = frozenset("Add Concat Mul Sub Sum".split())

# Inputs that are integers: (place, that of the scale, that of the zero point).
_OPERANDS: dict[str, tuple[tuple[int, int | None, int], ...]] = {
    "ConvInteger": ((0, None, 2),),
    "ConvInteger16": ((0, None, 2),),
    "DequantizeLinear": ((0, 1, 2),),
    "MatMulInteger": ((0, None, 2), (1, None, 3)),
    "MatMulInteger16": ((0, None, 2),),
    "QLinearAdd": ((0, 1, 2), (3, 4, 5)),
    "QLinearAveragePool": ((0, 1, 2),),
    "QLinearConv": ((0, 1, 2),),
    "QLinearGlobalAveragePool": ((0, 1, 2),),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5)),
    "QLinearMul": ((0, 1, 2), (3, 4, 5)),
    "QLinearConcat": ((2, 3, 4), (5, 6, 7)),
    "QGemm": ((0, 1, 2),),
}


class Grid(NamedTuple):
    """How integers are read: the scale, the zero point (None: 0), and the axis of those that are vectors."""

    scale: ir.Value
    zero_point: ir.Value | None
    axis: int

    @property
    def beside(self) -> list[ir.Value]:
        """The inputs of a QuantizeLinear or DequantizeLinear beside the first."""
        return [self.scale] if self.zero_point is None else [self.scale, self.zero_point]


class Reals:
    """One graph, node by node. grids: how each integer tensor was written; wide: accumulators, int32 once and float
    now."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.r = Rewriter(graph)
        self.grids: dict[ir.Value, Grid] = {}
        self.wide: set[ir.Value] = set()
        self._reals: dict[tuple[ir.Value, Grid], ir.Value] = {}
        for value in graph.inputs:
            if value.dtype is not None and value.dtype.is_integer():
                self._given(value)

    @cached_property
    def one(self) -> ir.Value:
        """The scale of integers that are read as they are."""
        return self.r.constant("gradient/one", np.ones((), np.float32))

    # ---- what builders use

    def grid(self, node: ir.Node, scale: int | None, zero_point: int, axis: int = 1) -> Grid:
        """Scale and zero point that a node names, of one shape; no scale is 1."""
        zero = input_of(node, zero_point)
        given = self.one if scale is None else input_of(node, scale)
        assert given is not None  # required by the operators
        size = max(_size(given), 1 if zero is None else _size(zero))
        if size > 1:
            given = self._vector(given, size)
            zero = None if zero is None else self._vector(zero, size)
        return Grid(given, zero, axis)

    def _vector(self, value: ir.Value, size: int) -> ir.Value:
        found = constant_array(value)
        if found is None or (found.ndim == 1 and found.size == size):
            return value
        return self.r.constant(f"{value.name}/vector", np.broadcast_to(found.reshape(-1), (size,)).copy())

    def real(self, node: ir.Node, value: ir.Value | None, grid: Grid) -> ir.Value:
        """The real values of integers, in front of `node`."""
        assert value is not None  # required by the operators
        if (value, grid) not in self._reals:
            self._reals[value, grid] = self._scaled(
                node, "DequantizeLinear", value, grid, f"{value.name}/real"
            )
        return self._reals[value, grid]

    def _scaled(self, node: ir.Node, op: str, value: ir.Value, grid: Grid, name: str) -> ir.Value:
        inputs = [value, *grid.beside]
        if _size(grid.scale) == 1:
            return self.r.node(node, op, inputs, name)
        return self.r.node(node, op, inputs, name, axis=grid.axis)

    def operator(self, node: ir.Node, op: str, inputs: Sequence[ir.Value | None], *keep: str) -> ir.Value:
        """A standard operator in front of `node`, with those of its attributes that are named."""
        if "channels_last" in node.attributes and node.attributes.get_int("channels_last"):
            raise UnsupportedModel(
                f"{describe(node)} has its channels last; save the model before layouts change"
            )
        attributes = {name: node.attributes[name].value for name in keep if name in node.attributes}
        return self.r.node(node, op, inputs, f"{node.outputs[0].name}/real", **attributes)

    def quantise(self, node: ir.Node, real: ir.Value, grid: Grid, old: ir.Value) -> ir.Value:
        """A real value as integers, in the place of `old`, an output of `node`; returns them."""
        new = self._scaled(node, "QuantizeLinear", real, grid, f"{old.name}/integers")
        dtype = ir.DataType.UINT8 if grid.zero_point is None else grid.zero_point.dtype
        self.replace(old, new, dtype)
        self.grids[new] = grid
        return new

    def replace(self, old: ir.Value, new: ir.Value, dtype: ir.DataType | None) -> None:
        """Give `new` to all readers of `old`, under its name."""
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        new.shape = old.shape
        new.type = None if dtype is None else ir.TensorType(dtype)
        name, old.name = old.name, self.r.fresh(f"{old.name}/replaced")
        new.name = name

    # ---- integers that are given, selected, or summed up

    def _given(self, value: ir.Value) -> None:
        """The grid with which a graph input is read first."""
        readers = list(value.consumers())
        for node in readers:
            if selects(node):
                readers += [reader for output in node.outputs for reader in output.consumers()]
            for at, scale, zero_point in _OPERANDS.get(node.op_type, ()):
                source = node.inputs[at]
                if source is not None and value in _origins(source):
                    self.grids[value] = self.grid(node, scale, zero_point)
                    return

    def selected(self, node: ir.Node) -> None:
        """The same node on real values. What stands beside integers, a bound or a fill, is an integer too."""
        taken = taken_from(node)
        grid = next(self.grids[value] for value in taken if value in self.grids)
        if _size(grid.scale) > 1:
            raise UnsupportedModel(
                f"{describe(node)} works on integers with a scale a channel; put it behind the DequantizeLinear"
            )
        inputs = [self.real(node, v, grid) if any(v is t for t in taken) else v for v in node.inputs]
        op = node.op_type
        if op == "Relu" or (op == "Pad" and input_of(node, 2) is None):
            # What it compares with or fills in is the integer 0, whatever that is worth.
            dtype = np.uint8 if grid.zero_point is None else _dtype(grid.zero_point)
            zero = self.real(node, self.r.constant(f"{node.outputs[0].name}/zero", np.zeros((), dtype)), grid)
            op = "Max" if op == "Relu" else op
            inputs = [inputs[0], zero] if op == "Max" else [*inputs[:2], zero, *inputs[3:]]
        new = ir.Node(
            "", op, inputs, attributes=node.attributes.values(), num_outputs=len(node.outputs), name=node.name
        )
        self.graph.insert_before(node, new)
        for index, (old, made) in enumerate(zip(node.outputs, new.outputs, strict=True)):
            made.name = self.r.fresh(f"{old.name}/real")
            if index and op in ("MaxPool", "TopK"):
                self.replace(old, made, ir.DataType.INT64)
            else:
                self.quantise(node, made, grid, old)
        self.graph.remove(node, safe=True)

    def accumulated(self, node: ir.Node, total: ir.Value) -> None:
        """A sum of products, a float, in the place of the int32 that `node` returned."""
        self.replace(node.outputs[0], total, FLOAT)
        self.wide.add(total)
        self.graph.remove(node, safe=True)

    def accumulators(self, node: ir.Node) -> None:
        """Floats in, floats out; an operator that is not known to do the same with floats gets the integers back."""
        known = node.op_type in _WIDE_ALONE | _WIDE_TOGETHER
        for at, value in enumerate(node.inputs):
            if value is None or (known and (value in self.wide or (at and node.op_type in _WIDE_ALONE))):
                continue
            if known or value in self.wide:
                to = int(FLOAT if known else _INT32)
                cast = self.r.node(node, "Cast", [value], f"{value.name}/cast", to=to)
                node.replace_input_with(at, cast)
        if known and node.op_type != "Cast":
            node.outputs[0].type = ir.TensorType(FLOAT)
            self.wide.add(node.outputs[0])


def input_of(node: ir.Node, at: int) -> ir.Value | None:
    return node.inputs[at] if at < len(node.inputs) else None


def _size(value: ir.Value) -> int:
    """Elements of a constant; 1 for a scale or zero point computed at run time."""
    found = constant_array(value)
    return 1 if found is None else found.size


def _dtype(value: ir.Value) -> np.dtype[np.generic]:
    return np.dtype(np.uint8) if value.dtype is None else value.dtype.numpy()


def _origins(value: ir.Value) -> list[ir.Value]:
    """A value and what it was selected from."""
    found = [value]
    for each in found:
        node = each.producer()
        if node is not None and selects(node):
            found += taken_from(node)
    return found
