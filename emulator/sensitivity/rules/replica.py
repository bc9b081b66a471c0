"""Forward values for backward nodes to read, without disturbing how ONNX Runtime runs the forward part.

ONNX Runtime fuses DequantizeLinear -> Conv -> QuantizeLinear into one integer kernel, and turns int8 tensors
into uint8 ones, only where nothing else reads the tensors involved. A backward node that did would change the
kernels and with them the answer. So everything behind the first QuantizeLinear is computed a second time, in
real numbers that are rounded and clipped in the same way, and only as far as a rule asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from emulator.errors import UnsupportedModel
from emulator.sensitivity.rules.quantisation import Quantisation, constant_array, quantisation
from emulator.sensitivity.rules.registry import describe, is_integer, rule_for

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
        if node.domain or any(
            attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()
        ):
            raise UnsupportedModel(
                f"{describe(node)} stands behind a QuantizeLinear, and a gradient must read its result; "
                "use a standard operator without subgraphs"
            )
        self._check_units(node)
        inputs = [None if value is None else self._copies.get(value, value) for value in node.inputs]
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        return list(self._tape.op_many(len(node.outputs), node.op_type, *inputs, **attributes))

    def _check_units(self, node: ir.Node) -> None:
        """Copies of integer tensors are in real units: only what moves such tensors alone can be repeated."""
        integers = [value for value in node.inputs if value is not None and is_integer(value)]
        if not any(value in self._copies for value in integers):
            return
        rule_for(node)
        mixed = node.op_type == "Concat" and not all(value in self._copies for value in integers)
        if mixed or node.op_type == "Pad":
            raise UnsupportedModel(
                f"{describe(node)} adds constants to a quantised tensor; put it behind the DequantizeLinear"
            )

    def _quantised(self, node: ir.Node) -> ir.Value:
        """Rounded to even and clipped as the integers are, but left in real units."""
        tape, x = self._tape, node.inputs[0]
        assert x is not None  # required by ONNX
        grid = quantisation(node)
        low, high = (tape.floats(bound, x) for bound in grid.real_bounds)
        scale = tape.floats(grid.scale, x)
        steps = tape.op("Round", tape.op("Div", self._copies.get(x, x), scale))
        rounded = self._rounded[node.outputs[0]] = tape.op("Mul", steps, scale)
        if not grid.scale.ndim:
            return tape.op("Clip", rounded, low, high)
        return tape.op("Min", tape.op("Max", rounded, low), high)

    def _dequantised(self, node: ir.Node) -> ir.Value:
        """(q - zero_point) * scale: at once for a constant, nothing left to do for a copy."""
        tape, integers, output = self._tape, node.inputs[0], node.outputs[0]
        assert integers is not None  # required by ONNX
        if integers in self._copies:
            return self._copies[integers]
        grid: Quantisation = quantisation(node)
        stored = constant_array(integers)
        if stored is not None:
            return tape.floats((stored.astype(grid.scale.dtype) - grid.zero_point) * grid.scale, output)
        steps = tape.op("Cast", integers, to=int(tape.float_type(output)))
        steps = tape.op("Sub", steps, tape.floats(grid.zero_point, output))
        return tape.op("Mul", steps, tape.floats(grid.scale, output))
