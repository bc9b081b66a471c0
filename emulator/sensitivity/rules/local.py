"""One arc as a formula sees it: the values around the node, read only when asked for."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from emulator.sensitivity.rules.registry import Arc
from emulator.sensitivity.rules.tape import Tape
from emulator.sensitivity.rules.term import Term


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Local:
    """What a rule reads, as terms. What is not asked for is not read: a read may cost a fusion or a copy."""

    tape: Tape
    arc: Arc

    @property
    def x(self) -> Term:
        """The input the gradient is asked for."""
        return self.of(self.arc.x)

    @property
    def y(self) -> Term:
        """The output the gradient comes from."""
        return self.of(self.arc.y)

    @property
    def grad(self) -> Term:
        """The gradient of the output."""
        return self.term(self.arc.grad)

    def input(self, index: int) -> Term:
        return self.of(self.arc.input(index))

    def of(self, forward: ir.Value) -> Term:
        """A value of the forward part."""
        return self.term(self.tape.value(forward))

    def term(self, value: ir.Value) -> Term:
        """A value of the backward part, or a constant."""
        return Term(tape=self.tape, value=value, like=self.arc.y)

    def number(self, name: str, default: float) -> float:
        """A float attribute."""
        return self.arc.node.attributes.get_float(name, default)
