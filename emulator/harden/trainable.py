"""A quantised network as a function of its real weights: what training differentiates, and what it writes back.

Weights and biases become inputs of the graph; a weight is quantised there as it is stored (straight-through), so that
the network computes what the integers will. In front of the QuantizeLinear that stores the result of a MAC layer an
error is added, an input too: what a fault did to the stored values, zero where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from emulator.errors import UnsupportedModel
from emulator.graph.load import Network
from emulator.graph.session import open_session, with_outputs
from emulator.sensitivity.backward import gradient_model
from emulator.sensitivity.qdq import to_qdq

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Arrays = dict[str, Floats]

_MACS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What moves values and keeps their scale.
_MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weight:
    """The int8 or uint8 initializer `name`: integer = real / scale + zero_point, one scale for all or one an entry of
    `axis`."""

    name: str
    scale: str
    zero_point: Array = field(repr=False)
    axis: int

    def along(self, values: Floats, dims: int) -> Floats:
        """Scales or zero points, to broadcast with the weight."""
        if values.size == 1:
            return values.reshape(())
        return values.reshape([-1 if axis == self.axis else 1 for axis in range(dims)])

    def integers(self, real: Floats, scale: Floats) -> Array:
        """As they are stored, rounded half to even as QuantizeLinear does."""
        zero = self.along(self.zero_point, real.ndim).astype(np.float32)
        info = np.iinfo(self.zero_point.dtype)
        rounded = np.rint(real / self.along(scale, real.ndim)) + zero
        stored: Array = np.clip(rounded, info.min, info.max).astype(self.zero_point.dtype)
        return stored

    def fitting(self, real: Floats, scale: Floats) -> Floats:
        """The smallest scales that hold these weights; where a zero point is not 0, or all weights are 0, as it was."""
        if np.any(self.zero_point):
            return scale
        axes = tuple(axis for axis in range(real.ndim) if scale.size == 1 or axis != self.axis)
        largest = np.abs(real).max(axis=axes).reshape(scale.shape)
        found: Floats = np.where(largest > 0, largest / np.iinfo(self.zero_point.dtype).max, scale).astype(
            np.float32
        )
        return found

    def size(self, real: Floats) -> Floats:
        """The root mean square of weights, of each channel where they have a scale each, to broadcast with them; of
        channels that are nearly 0 a tenth of the middle one."""
        axes = None
        if self.zero_point.size > 1:
            axes = tuple(axis for axis in range(real.ndim) if axis != self.axis)
        size = _root_mean_square(real, axes)
        return self.along(np.maximum(size, np.median(size) / 10).astype(np.float32), real.ndim)

    def reals(self, stored: Array, scale: Floats) -> Floats:
        """What stored integers mean."""
        zero = self.along(self.zero_point, stored.ndim).astype(np.float32)
        result: Floats = (stored.astype(np.float32) - zero) * self.along(scale, stored.ndim)
        return result


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bias:
    """The int32 initializer `name`: integer = real / (activations x weight), the initializers of two scales; their
    product is the initializer `scale`, if there is one."""

    name: str
    scale: str | None
    activations: str
    weight: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """real: weights and biases by the name of their initializer; scale: every scale, likewise, float32."""

    real: Mapping[str, Floats] = field(repr=False)
    scale: Mapping[str, Floats] = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trainable:
    """What of a network is trained. stored: the tensors that MAC layers store, where the kernels run them.
    activations: the scales of all stored tensors but inputs and answer."""

    network: Network
    qdq: onnx.ModelProto = field(repr=False)
    weights: tuple[Weight, ...]
    biases: tuple[Bias, ...]
    activations: tuple[str, ...]
    stored: tuple[str, ...]

    @classmethod
    def of(cls, network: Network) -> Trainable:
        """Raises UnsupportedModel where no weight of a MAC layer is a stored integer."""
        qdq, graph = to_qdq(network.original), network.graph
        reader = _Reader(qdq.graph)
        pairs = list(reader.parameters())
        if not pairs:
            raise UnsupportedModel(
                f"model {network.path!r}: no weight of a Conv, Gemm or MatMul is an int8 initializer; allowed: models "
                "in QDQ or QLinear form. Quantise it first (`emulator quantize`)."
            )
        stored = [
            graph.tensors[layer.target].name
            for layer in graph.layers
            if layer.compiled and isinstance(layer.target, int)
        ]
        return cls(
            network=network,
            qdq=qdq,
            weights=tuple({weight.name: weight for weight, _ in pairs}.values()),
            biases=tuple({bias.name: bias for _, bias in pairs if bias is not None}.values()),
            activations=reader.activations(_outer(network, qdq)),
            stored=tuple(stored),
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """The initializers that are trained."""
        return (*(weight.name for weight in self.weights), *(bias.name for bias in self.biases))

    @cached_property
    def _initializers(self) -> dict[str, Array]:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.qdq.graph.initializer}

    def state(self) -> State:
        """That of the file."""
        value = self._initializers
        names = {*self.activations, *(w.scale for w in self.weights), *(b.activations for b in self.biases)}
        scale = {name: np.asarray(value[name], np.float32) for name in sorted(names)}
        real = {w.name: w.reals(value[w.name], scale[w.scale]) for w in self.weights}
        for bias in self.biases:
            unit = scale[bias.activations] * scale[bias.weight]
            real[bias.name] = value[bias.name].astype(np.float32) * unit
        return State(real=real, scale=scale)

    def sizes(self) -> dict[str, Floats]:
        """The unit in which each of `parameters` is trained, to broadcast with it: the root mean square of the weights
        in the file, of each channel where they have a scale each; of biases that of all, or that of the smallest of
        activations times the largest of weights where they are nearly 0."""
        state = self.state()
        found = {weight.name: weight.size(state.real[weight.name]) for weight in self.weights}
        for bias in self.biases:
            unit = 127 * float((state.scale[bias.activations] * state.scale[bias.weight]).mean())
            found[bias.name] = np.maximum(_root_mean_square(state.real[bias.name]), np.float32(unit))
        return {name: np.where(size > 0, size, np.float32(1)) for name, size in found.items()}

    def rescaled(self, state: State, share: float) -> State:
        """Weight scales that just hold the largest weight, and activation scales that are this share of the file's."""
        scale, first = dict(state.scale), self._initializers
        for name in self.activations:
            scale[name] = np.asarray(first[name] * np.float32(share), np.float32)
        for weight in self.weights:
            scale[weight.scale] = weight.fitting(state.real[weight.name], scale[weight.scale])
        return State(real=state.real, scale=scale)

    def integers(self, state: State) -> dict[str, Array]:
        """Every initializer that a state changes, as the file stores it."""
        found: dict[str, Array] = dict(state.scale)
        for weight in self.weights:
            found[weight.name] = weight.integers(state.real[weight.name], state.scale[weight.scale])
        for bias in self.biases:
            unit = state.scale[bias.activations] * state.scale[bias.weight]
            found[bias.name] = np.rint(state.real[bias.name].astype(np.float64) / unit).astype(np.int32)
            if bias.scale is not None:
                found[bias.scale] = unit
        return found

    def file(self, state: State) -> onnx.ModelProto:
        """The original file with other weights and scales: the same nodes and names."""
        model = onnx.ModelProto()
        model.CopyFrom(self.network.original)
        value = self.integers(state)
        for tensor in model.graph.initializer:
            if tensor.name in value:
                shape = tuple(tensor.dims)
                tensor.CopyFrom(numpy_helper.from_array(value[tensor.name].reshape(shape), tensor.name))
        return model

    def sessions(self, state: State) -> tuple[Any, Any]:
        """ONNX Runtime at these scales, (forward, backward). Inputs: those of the network, the real weights and biases
        (`trained_name`), errors of the stored tensors in real units (`error_name`); of backward also "seed", the
        gradient of a loss with respect to the answer. Outputs: the answer; the loss's gradient with respect to each of
        `parameters`."""
        names = [trained_name(name) for name in self.parameters]
        forward, answer = _differentiable(self, state), self.network.graph.output_name
        backward = gradient_model(forward, names, loss="seed", output=answer)
        wanted = [f"grad:{name}" for name in names]
        return (
            open_session(with_outputs(forward, [answer]), optimised=True),
            open_session(with_outputs(backward, wanted), optimised=True),
        )


def _root_mean_square(real: Floats, axes: tuple[int, ...] | None = None) -> Floats:
    return np.asarray(np.sqrt(np.mean(real.astype(np.float64) ** 2, axis=axes)), np.float32)


def _outer(network: Network, qdq: onnx.ModelProto) -> set[str]:
    """Tensors whose scales belong to others: what is fed, and the answer."""
    fed = {spec.name for spec in network.graph.inputs}
    maker = {name: node for node in qdq.graph.node for name in node.output}
    outer, name = {*fed, network.graph.output_name}, network.graph.output_name
    while name in maker and maker[name].op_type in (*_MOVES, "DequantizeLinear", "QuantizeLinear"):
        name = maker[name].input[0]
        outer.add(name)
    return outer


def _differentiable(trainable: Trainable, state: State) -> onnx.ModelProto:
    """The QDQ form at these scales, with weights, biases and errors as inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(trainable.qdq)
    graph, value = model.graph, trainable.integers(state)
    trained = {weight.name for weight in trainable.weights}
    kept = [tensor for tensor in graph.initializer if tensor.name not in trained]
    del graph.initializer[:]
    for tensor in kept:
        array = value.get(tensor.name, numpy_helper.to_array(tensor))
        graph.initializer.append(numpy_helper.from_array(array.reshape(tuple(tensor.dims)), tensor.name))
    nodes = [
        *_weights_as_inputs(trainable, graph),
        *_errors_as_inputs(trainable, graph, _biases_as_inputs(trainable, graph)),
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    shapes = {trained_name(name): list(real.shape) for name, real in state.real.items()}
    tensors = {tensor.name: tensor for tensor in trainable.network.graph.tensors}
    shapes |= {error_name(name): ["N", *tensors[name].shape[1:]] for name in trainable.stored}
    graph.input.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )
    del graph.value_info[:]
    return model


def trained_name(name: str) -> str:
    """The input of the gradient graph that holds the real values of an initializer."""
    return f"{name}/trained"


def error_name(tensor: str) -> str:
    """The input of the gradient graph that is added to a stored tensor."""
    return f"{tensor}/error"


def _weights_as_inputs(trainable: Trainable, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for weight in trainable.weights:
        zero = f"{weight.name}/zero"
        graph.initializer.append(numpy_helper.from_array(weight.zero_point, zero))
        yield helper.make_node(
            "QuantizeLinear", [trained_name(weight.name), weight.scale, zero], [weight.name], axis=weight.axis
        )


def _biases_as_inputs(trainable: Trainable, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    reader, trained = _Reader(graph), {bias.name for bias in trainable.biases}
    for node in graph.node:
        bias = reader.bias_of(node)
        if bias is not None and bias[0] in trained:
            node.input[2] = trained_name(bias[0])
        yield node


def _errors_as_inputs(
    trainable: Trainable, graph: onnx.GraphProto, nodes: Iterator[onnx.NodeProto]
) -> Iterator[onnx.NodeProto]:
    """Errors are added to what would be stored: to values that have been clipped, and are rounded with them."""
    value = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in nodes:
        name = node.output[0]
        if node.op_type == "QuantizeLinear" and name in trainable.stored:
            scale, zero = (value[each] for each in node.input[1:3])
            info, ends = np.iinfo(zero.dtype), [f"{name}/low", f"{name}/high"]
            for end, limit in zip(ends, (info.min, info.max), strict=True):
                real = np.float32((limit - int(zero)) * float(scale))
                graph.initializer.append(numpy_helper.from_array(np.asarray(real), end))
            yield helper.make_node("Clip", [node.input[0], *ends], [f"{name}/clipped"])
            yield helper.make_node("Add", [f"{name}/clipped", error_name(name)], [f"{name}/wrong"])
            node.input[0] = f"{name}/wrong"
        yield node


class _Reader:
    """Where the MAC layers of a QDQ graph have their integers."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.value = {tensor.name: tensor for tensor in graph.initializer}
        self.maker = {name: node for node in graph.node for name in node.output}

    def parameters(self) -> Iterator[tuple[Weight, Bias | None]]:
        """Those of each MAC layer whose weight is a stored integer."""
        for node in self.graph.node:
            weight = self._weight_of(node)
            if weight is not None:
                yield weight, self._bias(node, weight)

    def activations(self, kept: set[str]) -> tuple[str, ...]:
        """Scales of tensors that are quantised at run time, but for those named."""
        scales = {
            node.input[1]: None
            for node in self.graph.node
            if node.op_type == "QuantizeLinear" and not {node.input[0], node.output[0]} & kept
        }
        return tuple(scales)

    def bias_of(self, node: onnx.NodeProto) -> tuple[str, str | None] | None:
        """(int32 initializer, that of its scale) of a MAC node."""
        if node.op_type not in _MACS or len(node.input) < 3:
            return None
        maker = self.maker.get(node.input[2])
        while maker is not None and maker.op_type in ("Mul", "Cast"):
            # QLinear form: (float) integers times a product of two scales.
            source, maker = maker.input[0], self.maker.get(maker.input[0])
            if self._stored(source, onnx.TensorProto.INT32):
                return source, None
        if maker is None or not self._stored(maker.input[0], onnx.TensorProto.INT32):
            return None
        return maker.input[0], maker.input[1]

    def _weight_of(self, node: onnx.NodeProto) -> Weight | None:
        maker = self.maker.get(node.input[1]) if node.op_type in _MACS else None
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        name, scale = maker.input[:2]
        if not self._stored(name, onnx.TensorProto.INT8, onnx.TensorProto.UINT8) or scale not in self.value:
            return None
        stored, factor = (numpy_helper.to_array(self.value[each]) for each in (name, scale))
        zero = np.zeros(factor.shape, stored.dtype)
        if len(maker.input) > 2:
            zero = numpy_helper.to_array(self.value[maker.input[2]])
        axis = next((a.i for a in maker.attribute if a.name == "axis"), 1)
        return Weight(name=name, scale=scale, zero_point=zero, axis=axis % stored.ndim)

    def _bias(self, node: onnx.NodeProto, weight: Weight) -> Bias | None:
        found, maker = self.bias_of(node), self.maker.get(node.input[0])
        while maker is not None and maker.op_type in _MOVES:
            maker = self.maker.get(maker.input[0])
        if found is None or maker is None or maker.op_type != "DequantizeLinear":
            return None
        return Bias(name=found[0], scale=found[1], activations=maker.input[1], weight=weight.scale)

    def _stored(self, name: str, *types: int) -> bool:
        return name in self.value and self.value[name].data_type in types
