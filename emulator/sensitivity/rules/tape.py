"""What a rule writes with: node emission, shared constants, shapes, and forward values it may read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from emulator.errors import UnsupportedModel
from emulator.graph.rewriting import attributes_of
from emulator.sensitivity.rules.quantisation import constant_array
from emulator.sensitivity.rules.replica import Replica
from emulator.sensitivity.rules.straight_through import StraightThrough

if TYPE_CHECKING:
    from onnx_ir._convenience import SupportedAttrTypes

PREFIX = "gradient/"
Dim = int | str | None


class Tape:
    """Appends the backward nodes to `graph`; nothing that is already there is changed."""

    def __init__(
        self, graph: ir.Graph, *, straight_through: StraightThrough, float_type: ir.DataType
    ) -> None:
        self.straight_through = straight_through
        self._float_type = float_type
        self._tape = ir.tape.Tape(graph)
        self._count = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._shapes: dict[ir.Value, ir.Value] = {}
        self._replica = Replica(graph, self)

    # -- writing

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: SupportedAttrTypes) -> ir.Value:
        """Append one node with one output and return that output."""
        return self._append(1, "", op_type, inputs, attributes)[0]

    def op_many(
        self, outputs: int, op_type: str, *inputs: ir.Value | None, **attributes: SupportedAttrTypes
    ) -> Sequence[ir.Value]:
        """Append one node and return its outputs."""
        return self._append(outputs, "", op_type, inputs, attributes)

    def again(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> Sequence[ir.Value]:
        """Append a node like one of the forward part, with other inputs, and return its outputs."""
        return self._append(len(node.outputs), node.domain, node.op_type, inputs, attributes_of(node))

    def _append(
        self,
        outputs: int,
        domain: str,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, SupportedAttrTypes],
    ) -> Sequence[ir.Value]:
        self._count += 1
        name = f"{PREFIX}{op_type}_{self._count}"
        values = self._tape.op_multi_out(
            op_type, inputs, attributes, num_outputs=outputs, domain=domain, name=name
        )
        for index, value in enumerate(values):
            value.name = f"{name}.{index}" if outputs > 1 else name
        return values

    def constant(self, array: npt.NDArray[np.generic]) -> ir.Value:
        """An initializer; equal arrays share one."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"{PREFIX}constant_{len(self._constants)}"
            self._constants[key] = self._tape.initializer(ir.tensor(array, name=name), name)
        return self._constants[key]

    def ints(self, *values: int) -> ir.Value:
        """An int64 vector: axes, a shape, pads."""
        return self.constant(np.array(values, np.int64))

    def floats(self, values: npt.ArrayLike, like: ir.Value) -> ir.Value:
        """A constant in the float type of the gradient of `like`, any shape."""
        return self.constant(np.asarray(values, self.float_type(like).numpy()))

    def float_type(self, value: ir.Value) -> ir.DataType:
        """The type in which the gradient of `value` is carried: its own, or the model's for an integer."""
        dtype = value.dtype
        return dtype if dtype is not None and dtype.is_floating_point() else self._float_type

    # -- reading

    def value(self, forward: ir.Value) -> ir.Value:
        """The forward value, to be read by a backward node (see `Replica` for why it may be a copy)."""
        return self._replica.of(forward)

    def rounded(self, quantised: ir.Value) -> ir.Value:
        """The output of a QuantizeLinear in real units before its clip, to compare with `value`."""
        return self._replica.rounded(quantised)

    def value_is_free(self, forward: ir.Value) -> bool:
        """Whether the forward value itself may be read."""
        return not self._replica.guards(forward)

    def array(self, value: ir.Value | None, what: str) -> npt.NDArray[np.generic]:
        """The content of an input that must be constant; `what` names it in the error."""
        array = constant_array(value)
        if array is None:
            name = "missing" if value is None else f"{value.name!r}, computed at run time"
            raise UnsupportedModel(f"no gradient for {what} {name}; export the model with a constant {what}")
        return array

    def dims(self, value: ir.Value) -> list[Dim]:
        """The dimensions: int where fixed, a name where symbolic, None where unknown."""
        if value.shape is None:
            raise UnsupportedModel(
                f"shape inference finds no rank for {value.name!r}; onnx.checker.check_model(model, "
                "full_check=True) may say why. Export static shapes (only the batch may be dynamic)"
            )
        return [dim if isinstance(dim, int) else dim.value for dim in value.shape]

    def rank(self, value: ir.Value) -> int:
        return len(self.dims(value))

    def fixed(self, value: ir.Value, start: int = 0) -> list[int]:
        """The dimensions from axis `start` on, which must be static."""
        dims = self.dims(value)
        sizes = [dim for dim in dims[start:] if isinstance(dim, int)]
        if len(sizes) != len(dims) - start:
            raise UnsupportedModel(
                f"{value.name!r} has shape {dims}, where axes from {start} on must be static; "
                "export the model with fixed sizes (only the batch may be dynamic)"
            )
        return sizes

    def shape(self, value: ir.Value) -> ir.Value:
        """The shape as an int64 vector, a constant where possible."""
        dims = self.dims(value)
        if all(isinstance(dim, int) for dim in dims):
            return self.ints(*self.fixed(value))
        if value not in self._shapes:
            self._shapes[value] = self.op("Shape", self.value(value))
        return self._shapes[value]

    # -- shaping gradients

    def reshape(self, grad: ir.Value, like: ir.Value) -> ir.Value:
        """`grad` in the shape of `like`; a single dynamic dimension costs no Shape node."""
        dims = [dim if isinstance(dim, int) else -1 for dim in self.dims(like)]
        return self.op("Reshape", grad, self.ints(*dims) if dims.count(-1) <= 1 else self.shape(like))

    def masked(self, grad: ir.Value, condition: ir.Value, like: ir.Value) -> ir.Value:
        """`grad` where the condition holds, else 0. `Where` says the same, up to ten times slower."""
        return self.op("Mul", grad, self.op("Cast", condition, to=int(self.float_type(like))))

    def along(self, grad: ir.Value, like: ir.Value, axis: int, weights: npt.NDArray[np.float64]) -> ir.Value:
        """A linear map along one axis: every vector v there becomes v @ weights, weights (before, after)."""
        rank = self.rank(like)
        axis %= rank
        if axis == rank - 1:
            return self.op("MatMul", grad, self.floats(weights, like))
        if axis == rank - 2:
            return self.op("MatMul", self.floats(weights.T, like), grad)
        order = [*range(axis), *range(axis + 1, rank), axis]
        turned = self.op("MatMul", self.op("Transpose", grad, perm=order), self.floats(weights, like))
        return self.op("Transpose", turned, perm=[order.index(position) for position in range(rank)])

    def zeros(self, like: ir.Value) -> ir.Value:
        """Zeros in the shape of `like`."""
        return self.op("Expand", self.floats(0, like), self.shape(like))

    def unbroadcast(self, grad: ir.Value, like: ir.Value, full: Sequence[Dim]) -> ir.Value:
        """Sum `grad`, of shape `full`, over the axes along which `like` was repeated."""
        own = self.dims(like)
        lead = len(full) - len(own)
        axes = list(range(lead))
        for axis, (small, large) in enumerate(zip(own, full[lead:], strict=True), start=lead):
            if small == 1 and large != 1:
                axes.append(axis)
            elif small != large and (isinstance(small, int) or isinstance(large, int)):
                raise UnsupportedModel(
                    f"cannot tell how {like.name!r} of shape {own} was broadcast to {list(full)}; "
                    "export the model with static shapes (only the batch may be dynamic)"
                )
        if not axes:
            return grad
        total = self.op("ReduceSum", grad, self.ints(*axes), keepdims=1)
        return self.reshape(total, like) if lead else total
