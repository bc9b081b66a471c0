"""What every rewriting of a model needs: quantised values, new constants and nodes, by name and in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]
Inputs = Sequence[ir.Value | None]


class StaysFloat(Exception):
    """Why a node is left as it is."""


def array_of(value: ir.Value | None) -> Array | None:
    """The content of an initializer or Constant, None for anything else."""
    if value is None:
        return None
    constant = ir.convenience.get_const_tensor(value)
    return None if constant is None else constant.numpy()


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """Values by name, of those the node has."""
    return {name: attribute.value for name, attribute in node.attributes.items()}


def attribute_of(node: ir.Node, name: str, default: Any) -> Any:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """An integer tensor with its scale and zero point, as a DequantizeLinear or QuantizeLinear names them."""

    value: ir.Value
    scale: ir.Value
    zero_point: ir.Value
    axis: int

    @property
    def triple(self) -> list[ir.Value | None]:
        return [self.value, self.scale, self.zero_point]

    @property
    def scales(self) -> Array:
        """Constant float32 scales; raises StaysFloat for others."""
        found = array_of(self.scale)
        if found is None or found.dtype != np.float32:
            raise StaysFloat(f"the scale of {self.value.name!r} is not constant float32")
        return found

    @property
    def zero(self) -> Array:
        found = array_of(self.zero_point)
        if found is None:
            raise StaysFloat(f"the zero point of {self.value.name!r} is computed")
        return found

    def per_tensor(self) -> Quantised:
        """Itself, if it is 8 bits with one scale; raises StaysFloat."""
        if self.zero.dtype not in (np.int8, np.uint8) or self.scales.size != 1:
            raise StaysFloat(f"{self.value.name!r} is {self.zero.dtype} with {self.scales.size} scales")
        return self


def dequantised(value: ir.Value | None) -> Quantised:
    """What is behind a dequantised value; raises StaysFloat where it is anything else."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear" or attribute_of(node, "block_size", 0):
        raise StaysFloat(
            f"{value.name if value is not None else 'an input'!r} is not dequantised from integers"
        )
    return quantisation_of(node, node.inputs[0])


def quantisation_of(node: ir.Node, value: ir.Value | None) -> Quantised:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear; raises StaysFloat where `normalise` found none."""
    scale, zero_point = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    assert value is not None and scale is not None
    if zero_point is None:
        raise StaysFloat(f"the scale of {value.name!r} is computed")
    return Quantised(value=value, scale=scale, zero_point=zero_point, axis=int(attribute_of(node, "axis", 1)))


class Rewriter:
    """A graph being rewritten. Names of what it adds begin with those of what they replace."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._names = {str(value.name) for node in graph for value in node.outputs}
        self._names |= set(graph.initializers) | {str(value.name) for value in graph.inputs}

    def constant(self, name: str, array: Array) -> ir.Value:
        tensor = ir.tensor(np.asarray(array), name=self.fresh(name))
        value = ir.Value(
            name=tensor.name,
            const_value=tensor,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(tensor.dtype),
        )
        self.graph.register_initializer(value)
        return value

    def node(
        self, before: ir.Node, op: str, inputs: Inputs, name: str, *, domain: str = "", **attributes: Any
    ) -> ir.Value:
        """A new node in front of `before`; its output."""
        attrs = [ir.convenience.convert_attribute(key, value) for key, value in attributes.items()]
        new = ir.Node(domain, op, inputs, attributes=attrs, num_outputs=1)
        new.outputs[0].name = self.fresh(name)
        self.graph.insert_before(before, new)
        return new.outputs[0]

    def replace(self, old: ir.Node, new: ir.Node) -> None:
        """Put `new` where `old` was, its output under the old name."""
        output, value = old.outputs[0], new.outputs[0]
        name = output.name
        self.graph.insert_before(old, new)
        ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
        self.graph.remove(old, safe=True)
        value.name = name
        value.type, value.shape = output.type, output.shape

    def fresh(self, name: str) -> str:
        """`name`, or one like it that nothing has."""
        while name in self._names:
            name += "'"
        self._names.add(name)
        return name
