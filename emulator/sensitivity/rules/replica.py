"""Forward values for backward nodes to read, without disturbing how ONNX Runtime runs the forward part.

ONNX Runtime fuses DequantizeLinear -> Conv -> QuantizeLinear into one integer kernel, and turns int8 tensors
into uint8 ones, only where nothing else reads the tensors involved. A backward node that did would change the
kernels and with them the answer. So everything behind the first QuantizeLinear is computed a second time, in
real numbers that are rounded and clipped in the same way, and only as far as a rule asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from emulator.errors import UnsupportedModel
from emulator.sensitivity.rules.quantisation import Quantisation, constant_array, lies_on, quantisation
from emulator.sensitivity.rules.registry import describe, has_body

if TYPE_CHECKING:
    from emulator.sensitivity.rules.tape import Tape


class Replica:
    """Lazily made copies of the values behind a QuantizeLinear or DequantizeLinear, all in real units."""

    def __init__(self, graph: ir.Graph, tape: Tape) -> None:
        self._tape = tape
        self._copies: dict[ir.Value, ir.Value] = {}
        self._rounded: dict[ir.Value, ir.Value] = {}
        self._position: dict[ir.Value, int] = {}
        for position, node in enumerate(graph):
            quantised = node.op_type in ("QuantizeLinear", "DequantizeLinear")
            if quantised or any(value in self._position for value in node.inputs):
                self._position.update(dict.fromkeys(node.outputs, position))

    def guards(self, value: ir.Value) -> bool:
        """Whether reading the value itself would change how the forward part runs."""
        return value in self._position

    def of(self, value: ir.Value) -> ir.Value:
        """The value itself, or its copy where reading it would change how the forward part runs."""
        for node in self._missing(value):
            self._copies.update(zip(node.outputs, self._copy(node), strict=True))
        return self._copies.get(value, value)

    def rounded(self, quantised: ir.Value) -> ir.Value:
        """A QuantizeLinear's output, rounded but not yet clipped."""
        self.of(quantised)
        return self._rounded[quantised]

    def _missing(self, value: ir.Value) -> list[ir.Node]:
        """The nodes to copy before `value` can be read, in the order of execution."""
        found: dict[ir.Node, int] = {}
        open_values = [value]
        while open_values:
            current = open_values.pop()
            node = current.producer()
            if node is None or node in found or current in self._copies or current not in self._position:
                continue
            found[node] = self._position[current]
            open_values += [source for source in node.inputs if source is not None]
        return sorted(found, key=found.__getitem__)

    def _copy(self, node: ir.Node) -> list[ir.Value]:
        if node.op_type == "QuantizeLinear":
            return [self._quantised(node)]
        if node.op_type == "DequantizeLinear":
            return [self._dequantised(node)]
        return self._repeated(node)

    def _repeated(self, node: ir.Node) -> list[ir.Value]:
        if has_body(node):
            raise UnsupportedModel(
                f"{describe(node)} stands behind a QuantizeLinear, and a gradient must read its result; "
                "use operators without subgraphs"
            )
        inputs = [None if value is None else self._copies.get(value, value) for value in node.inputs]
        copies = list(self._tape.again(node, inputs))
        for copy, value in zip(copies, node.outputs, strict=True):
            copy.type, copy.shape = value.type, value.shape
        return copies

    def _quantised(self, node: ir.Node) -> ir.Value:
        """Rounded to even and clipped as the integers are, but left in real units."""
        tape, x = self._tape, node.inputs[0]
        assert x is not None  # required by ONNX
        grid, given = quantisation(node), self._copies.get(x, x)
        if lies_on(grid, x):
            return given
        scale = tape.floats(grid.scale, x)
        steps = tape.op("Round", tape.op("Div", given, scale))
        rounded = self._rounded[node.outputs[0]] = tape.op("Mul", steps, scale)
        if grid.computed_zero_point is not None:
            return rounded
        low, high = (tape.floats(bound, x) for bound in grid.real_bounds)
        if not grid.scale.ndim:
            return tape.op("Clip", rounded, low, high)
        return tape.op("Min", tape.op("Max", rounded, low), high)

    def _dequantised(self, node: ir.Node) -> ir.Value:
        """(q - zero_point) * scale: at once for a constant, nothing left to do for a copy of the same grid."""
        tape, integers, output = self._tape, node.inputs[0], node.outputs[0]
        assert integers is not None  # required by ONNX
        grid = quantisation(node)
        stored = constant_array(integers)
        if stored is not None and grid.computed_zero_point is None:
            return tape.floats((stored.astype(grid.scale.dtype) - grid.zero_point) * grid.scale, output)
        if integers in self._copies:
            return self._read_again(node, integers, grid)
        steps = tape.op("Cast", integers, to=int(tape.float_type(output)))
        zero = grid.computed_zero_point
        steps = tape.op(
            "Sub",
            steps,
            tape.floats(grid.zero_point, output)
            if zero is None
            else tape.op("Cast", zero, to=int(tape.float_type(output))),
        )
        return tape.op("Mul", steps, tape.floats(grid.scale, output))

    def _read_again(self, node: ir.Node, integers: ir.Value, grid: Quantisation) -> ir.Value:
        """The copy of a quantised tensor as this DequantizeLinear understands it."""
        tape, copy, maker = self._tape, self._copies[integers], integers.producer()
        if maker is None or maker.op_type != "QuantizeLinear":
            raise UnsupportedModel(
                f"{describe(node)} reads integers that are computed by {describe(maker or node)}; "
                "put that behind the DequantizeLinear"
            )
        written = quantisation(maker)
        if written.same_grid(grid):
            return copy
        if written.computed_zero_point is not grid.computed_zero_point:
            raise UnsupportedModel(
                f"{describe(node)} reads {integers.name!r} with a zero point of its own, and one of the two is "
                "computed at run time; use the same"
            )
        scaled = tape.op("Mul", copy, tape.floats(grid.scale / written.scale, node.outputs[0]))
        moved = (written.zero_point - grid.zero_point) * grid.scale
        return tape.op("Add", scaled, tape.floats(moved, node.outputs[0])) if np.any(moved) else scaled
