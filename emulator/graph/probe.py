"""What one run of a model says about it: the shape and type of every value, and which values no input can change."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from emulator.errors import UnsupportedModel
from emulator.graph.limits import Limits
from emulator.graph.qgraph import InputSpec
from emulator.graph.session import open_session, with_outputs

Array = npt.NDArray[Any]

# Operators whose result depends on the shape of their input alone.
_OF_SHAPE = frozenset(("Shape", "Size"))
# Operators whose result has a shape that depends on the values of their inputs, of all or of all but the first.
_SHAPED_BY_ALL = frozenset(
    "Compress ConstantOfShape If Loop NonMaxSuppression NonZero Range Scan SequenceAt SequenceMap Unique".split()
)
_SHAPED_BY_REST = frozenset(
    "CenterCropPad Col2Im DFT Expand OneHot Pad Reshape Resize Slice Split SplitToSequence Squeeze STFT Tile TopK "
    "Unsqueeze Upsample".split()
)
_RANDOM = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
)


class Probe:
    """One run of `model` on zeros, or on ones where it can't run on zeros, batch 1.

    inputs: the model's. shapes, dtypes: of every tensor value. constants: initializers, Constant nodes, and whatever is
    computed from those and from shapes alone. Raises UnsupportedModel with ONNX Runtime's reason.
    """

    def __init__(self, model: onnx.ModelProto, graph: ir.Graph) -> None:
        self.inputs = tuple(_input_spec(value) for value in graph.inputs)
        self.constants: dict[str, Array] = {
            name: value.const_value.numpy()
            for name, value in graph.initializers.items()
            if value.const_value is not None
        }
        names = [str(v.name) for node in graph for v in node.outputs if v.name and _is_readable(v)]
        values = _run(model, names, self.inputs)
        self.shapes = {name: value.shape for name, value in values.items()}
        self.dtypes = {name: value.dtype for name, value in values.items()}
        for spec in self.inputs:
            self.shapes[spec.name], self.dtypes[spec.name] = spec.shape, spec.dtype
        for name, constant in self.constants.items():
            self.shapes[name], self.dtypes[name] = constant.shape, constant.dtype
        self._loose: set[str] = set()  # of a shape that depends on the input
        for node in graph:
            if self._is_loose(node):
                self._loose |= {str(value.name) for value in node.outputs}
            elif self._is_fixed(node):
                found = {str(value.name) for value in node.outputs} & values.keys()
                self.constants.update({name: values[name] for name in found})

    def _is_fixed(self, node: ir.Node) -> bool:
        if node.op_type in _RANDOM:
            return False
        if node.op_type in _OF_SHAPE:
            return self._loose.isdisjoint(reads_of(node))
        return all(name in self.constants for name in reads_of(node))

    def _is_loose(self, node: ir.Node) -> bool:
        if node.op_type in _OF_SHAPE:
            return False
        reads = reads_of(node)
        shaping = (
            reads if node.op_type in _SHAPED_BY_ALL else reads[1:] if node.op_type in _SHAPED_BY_REST else []
        )
        return not self._loose.isdisjoint(reads) or any(name not in self.constants for name in shaping)

    def is_bytes(self, name: str) -> bool:
        """Is it an int8 or uint8 tensor?"""
        return self.dtypes.get(name) in (np.dtype(np.int8), np.dtype(np.uint8))


def _is_readable(value: ir.Value) -> bool:
    """Has ONNX Runtime an array for it? It has none for sequences, optional values and 4-bit integers."""
    special = isinstance(value.type, ir.SequenceType | ir.OptionalType)
    return not special and value.dtype not in (ir.DataType.INT4, ir.DataType.UINT4)


def reads_of(node: ir.Node) -> list[str]:
    """Names of all values a node reads, those that the bodies of If, Loop and Scan capture included."""
    names = [str(value.name) for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        bodies = (
            [attribute.value]
            if attribute.type == ir.AttributeType.GRAPH
            else attribute.value
            if attribute.type == ir.AttributeType.GRAPHS
            else []
        )
        for body in bodies:
            names += _captured_by(body)
    return list(dict.fromkeys(names))


def _captured_by(body: ir.Graph) -> list[str]:
    own = {str(value.name) for value in body.inputs} | set(body.initializers)
    own |= {str(value.name) for node in body for value in node.outputs}
    read = [name for node in body for name in reads_of(node)]
    read += [str(value.name) for value in body.outputs]
    return [name for name in read if name not in own]


def _input_spec(value: ir.Value) -> InputSpec:
    if value.shape is None or value.dtype is None or not isinstance(value.type, ir.TensorType):
        raise UnsupportedModel(
            f"input {value.name!r} is {value.type} without a shape; allowed: tensors of known rank. "
            "Export with shapes."
        )
    if value.dtype == ir.DataType.STRING:
        raise UnsupportedModel(
            f"input {value.name!r} holds strings; allowed: numbers. Cut the text front end off."
        )
    shape = tuple(_size(value, axis) for axis in range(len(value.shape)))
    return InputSpec(name=str(value.name), shape=shape, dtype=np.dtype(value.dtype.numpy()))


def _size(value: ir.Value, axis: int) -> int:
    assert value.shape is not None
    size = value.shape[axis]
    if isinstance(size, int):
        return size
    if axis == 0:
        return 1
    raise UnsupportedModel(
        f"input {value.name!r}: dimension {axis} ({size}) is free; allowed: a number (only the batch may be free). "
        f"Fix it when exporting, or say its shape: --shape {value.name}=1,..."
    )


def _run(model: onnx.ModelProto, names: list[str], inputs: tuple[InputSpec, ...]) -> dict[str, Array]:
    limits = Limits.of(model)
    failure: Exception | None = None
    with limits.bounded_memory():
        session = open_session(with_outputs(model, names))
        # Some inputs may not be zero, such as scales.
        for fill in (np.zeros, np.ones):
            feeds = {spec.name: fill(spec.shape, spec.dtype) for spec in inputs}
            try:
                values = limits.run_in_time(session, names, feeds)
                break
            except UnsupportedModel:
                raise
            except Exception as error:  # ONNX Runtime finds some contradictions only when it runs the nodes
                failure = error
        else:
            reason = " ".join(str(failure).split())[:400]
            raise UnsupportedModel(
                f"ONNX Runtime can't run the model: {reason}. Export it again."
            ) from failure
    # Sequences and optional values have no shape; only host segments touch them.
    found = zip(names, values, strict=True)
    return {name: value for name, value in found if isinstance(value, np.ndarray)}
