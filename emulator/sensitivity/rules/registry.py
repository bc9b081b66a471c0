"""The table of gradient rules, and what one rule is given.

A rule is one function: `rule(tape, arc) -> gradient`. It is called once for every input that needs a gradient
and once for every output that has one; the sweep adds up what the calls return.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from emulator.errors import UnsupportedModel

if TYPE_CHECKING:
    from emulator.sensitivity.rules.tape import Tape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arc:
    """The way of a gradient through one node: from output number `out` back to input number `arg`."""

    node: ir.Node
    out: int
    arg: int
    grad: ir.Value

    @property
    def x(self) -> ir.Value:
        """The input the gradient is asked for."""
        return self.input(self.arg)

    @property
    def y(self) -> ir.Value:
        """The output the gradient comes from; `grad` has its shape."""
        return self.node.outputs[self.out]

    def input(self, index: int) -> ir.Value:
        """Input `index`, which must be there."""
        value = self.optional(index)
        if value is None:
            raise UnsupportedModel(f"{describe(self.node)} has no input {index}; the model is not valid ONNX")
        return value

    def optional(self, index: int) -> ir.Value | None:
        """Input `index`, or None where the node leaves it out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def refuse(self, reason: str, fix: str) -> UnsupportedModel:
        """The error to raise for a form of the operator that the rule does not cover."""
        return UnsupportedModel(f"no gradient for {describe(self.node)}: {reason}; {fix}")


Rule = Callable[["Tape", Arc], ir.Value | None]

_RULES: dict[str, Rule] = {}


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Register a gradient rule for operators: standard ones by their type, others as "domain.type".

    The rule returns the gradient of `arc.x`, in the shape of `arc.x`, or None where the derivative is zero
    almost everywhere (a condition, an index).
    """

    def register(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(op_types, function))
        return function

    return register


def covered() -> list[str]:
    """The operators that have a rule."""
    return sorted(_RULES)


def rule_of(node: ir.Node) -> Rule:
    """The rule of a node; raises UnsupportedModel, naming the node, where there is none."""
    found = _RULES.get(node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}")
    if found is None:
        raise UnsupportedModel(
            f"no gradient rule for {describe(node)}; supported: {', '.join(covered())}. "
            "Export the model with these operators, ask for tensors behind this node only, "
            "or add a rule in emulator/sensitivity/rules/"
        )
    return found


def gradient_of(tape: Tape, arc: Arc) -> ir.Value | None:
    """What the rule of the node returns; integers have no derivative unless they are quantised reals."""
    found, node = rule_of(arc.node), arc.node
    if arc.arg == 0 and is_integer(arc.x) and node.op_type != "DequantizeLinear":
        raise UnsupportedModel(
            f"no gradient rule for {describe(node)} on integers; only operators that move or select values "
            "may stand between QuantizeLinear and DequantizeLinear. Put a DequantizeLinear before it"
        )
    return found(tape, arc)


def describe(node: ir.Node) -> str:
    """`Conv (node 'conv1')`, with the domain in front where it is not ONNX's own."""
    op_type = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"{op_type} (node {node.name or node.outputs[0].name!r})"


def has_body(node: ir.Node) -> bool:
    """Whether it runs a graph of its own: If, Loop, Scan."""
    return any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values())


def is_integer(value: ir.Value) -> bool:
    """Whether the tensor is known to hold integers."""
    return value.dtype is not None and value.dtype.is_integer()
