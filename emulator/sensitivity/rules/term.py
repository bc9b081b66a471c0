"""Formulas as they stand in the books: Python's operators on values of the graph append the nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from emulator.sensitivity.rules.tape import Tape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Term:
    """A value of the graph in the float type of `like`; numbers beside it become constants of that type."""

    tape: Tape = field(repr=False)
    value: ir.Value
    like: ir.Value

    def op(self, op_type: str, *others: Term | float) -> Term:
        """The operator `op_type` with this value as its first input."""
        return self._new(self.tape.op(op_type, self.value, *map(self._lift, others)))

    def where(self, condition: ir.Value, otherwise: Term | float) -> Term:
        """This where the condition holds, else `otherwise`."""
        return self._new(self.tape.op("Where", condition, self.value, self._lift(otherwise)))

    def above(self, bound: Term | float) -> ir.Value:
        """Where this is greater than `bound`, bool."""
        return self.tape.op("Greater", self.value, self._lift(bound))

    def equals(self, other: Term | float) -> ir.Value:
        """Where both are the same, bool."""
        return self.tape.op("Equal", self.value, self._lift(other))

    def total(self, *axes: int) -> Term:
        """The sum over these axes, which stay with size 1."""
        return self._new(self.tape.op("ReduceSum", self.value, self.tape.ints(*axes), keepdims=1))

    def mean(self, *axes: int) -> Term:
        """The mean over these axes, which stay with size 1."""
        return self._new(self.tape.op("ReduceMean", self.value, self.tape.ints(*axes), keepdims=1))

    def __add__(self, other: Term | float) -> Term:
        return self.op("Add", other)

    def __sub__(self, other: Term | float) -> Term:
        return self.op("Sub", other)

    def __mul__(self, other: Term | float) -> Term:
        return self.op("Mul", other)

    def __truediv__(self, other: Term | float) -> Term:
        return self.op("Div", other)

    def __neg__(self) -> Term:
        return self.op("Neg")

    def __radd__(self, other: float) -> Term:
        return self + other

    def __rmul__(self, other: float) -> Term:
        return self * other

    def __rsub__(self, other: float) -> Term:
        return self._new(self._lift(other)).op("Sub", self)

    def __rtruediv__(self, other: float) -> Term:
        return self._new(self._lift(other)).op("Div", self)

    def _lift(self, other: Term | float) -> ir.Value:
        return other.value if isinstance(other, Term) else self.tape.floats(other, self.like)

    def _new(self, value: ir.Value) -> Term:
        return Term(tape=self.tape, value=value, like=self.like)
