"""Reverse-mode differentiation of an ONNX model into an ONNX model, run by stock ONNX Runtime.

The forward nodes stay as they are, so that their results stay bit for bit what they were; the backward nodes
are appended. This file holds preparation, losses and the sweep; what one operator does is in rules/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import InlinePass, ShapeInferencePass

from emulator.errors import BadConfig, UnsupportedModel
from emulator.sensitivity import rules as _rules  # noqa: F401 - registers every rule
from emulator.sensitivity.qdq import OPSET, on_reals, upgraded
from emulator.sensitivity.rules.quantisation import constant_array
from emulator.sensitivity.rules.registry import Arc, gradient_of, has_body, is_integer, rule_of
from emulator.sensitivity.rules.straight_through import StraightThrough
from emulator.sensitivity.rules.tape import Tape

__all__ = ["StraightThrough", "gradient_model"]

Loss = Literal["margin", "ce", "seed"]
Reduction = Literal["sum", "mean"]

Array = npt.NDArray[np.generic]

_SHAPE_TYPES = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})
_SHAPE_LIMIT = 1 << 12  # elements; what is larger is no shape

# Their outputs do not depend on the values of their inputs at all, or count as constants: a scale and a zero point
# that follow the values (straight-through).
_CONSTANT = frozenset({"Shape", "Size", "DynamicQuantizeLinear"})


def gradient_model(
    model: onnx.ModelProto,
    wrt: Sequence[str],
    *,
    loss: Loss = "margin",
    reduction: Reduction = "sum",
    output: str | None = None,
    straight_through: StraightThrough = StraightThrough(),
) -> onnx.ModelProto:
    """A model that also returns d loss / d value for every tensor named in `wrt`, for stock ONNX Runtime to run.

    Inputs: those of `model`, and "label", int64 (N,), or for loss="seed" "seed", shaped like the logits.
    Outputs: those of `model`, equal bit for bit at the same optimisation level (a model in QLinear or dynamic
    form becomes QDQ first, and may then differ by an LSB); "loss", scalar (not for "seed"); "grad:<name>" for
    each name, in the shape of that tensor.

    The logits, (N, classes) except for "seed", are the tensor `output` (default: the model's first output).
    "margin" is logits[label] minus the largest other logit, "ce" the cross entropy of the softmax, "seed" the
    sum of seed * logits. reduction="sum" adds the samples up, so that a gradient with a batch axis is per
    sample; "mean" divides by N. A name may be an input, an activation or an initializer.

    A name may be an integer tensor of a quantised model: its gradient is that with respect to its dequantised
    real value, float, summed over all that read it; with respect to its integers where its scale is computed at
    run time (DynamicQuantizeLinear, whose scale and zero point count as constants). Rounding and clipping
    follow `straight_through`.

    Only the batch may be dynamic. docs/gradients.md lists the operators. Raises UnsupportedModel for an operator
    without a rule on the way (If, Loop, Scan, recurrent ones, training mode), for a tensor the logits do not
    depend on, or for a model that cannot be read; BadConfig for an unknown name. Never returns zeros for want of
    a rule.

    >>> import numpy as np, onnx, onnxruntime
    >>> import emulator as emu
    >>> text = "<ir_version: 8, opset_import: ['' : 18]> g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"
    >>> model = emu.gradient_model(onnx.parser.parse_model(text.replace("'", chr(34))), ["x"], loss="seed")
    >>> session = onnxruntime.InferenceSession(model.SerializeToString())
    >>> x = np.float32([[-1, 2, 3]])
    >>> session.run(["grad:x"], {"x": x, "seed": np.ones_like(x)})[0].tolist()
    [[0.0, 1.0, 1.0]]
    """
    if not isinstance(model, onnx.ModelProto):
        raise BadConfig(
            f"gradient_model of a {type(model).__name__}; allowed: an onnx.ModelProto. Use onnx.load(PATH)."
        )
    prepared = _prepare(model, keep=frozenset(wrt))
    graph = prepared.graph
    values = _named_values(graph)
    logits = _find(values, output or graph.outputs[0].name or "")
    targets = {name: _find(values, name) for name in wrt}
    for name in ("loss", *(f"grad:{name}" for name in wrt)):
        _check_free(values, name)
    float_type = ir.DataType.FLOAT if logits.dtype is None or is_integer(logits) else logits.dtype
    forward = list(graph)
    tape = Tape(graph, straight_through=straight_through, float_type=float_type)
    seed, total = _seed(tape, graph, values, logits, loss, reduction)
    gradients = _sweep(tape, forward, logits, seed, list(targets.values()))
    if total is not None:
        graph.outputs.append(_named(tape, total, "loss", float_type, ir.Shape([])))
    for name, value in targets.items():
        if value not in gradients:
            raise UnsupportedModel(
                f"{logits.name!r} does not depend on {name!r} through operators with a derivative; "
                "leave it out of wrt or choose another output"
            )
        graph.outputs.append(
            _named(tape, gradients[value], f"grad:{name}", tape.float_type(value), value.shape)
        )
    return ir.to_proto(prepared)


# -- the sweep


def _sweep(
    tape: Tape, forward: Sequence[ir.Node], logits: ir.Value, seed: ir.Value, targets: Sequence[ir.Value]
) -> dict[ir.Value, ir.Value]:
    """Walk the nodes backwards; returns the gradient of every value on a way from a target to the logits."""
    needed = _descendants(forward, targets)
    _refuse_bodies(forward, needed, logits)
    parts: dict[ir.Value, list[ir.Value]] = {logits: [seed]} if logits in needed else {}
    gradients: dict[ir.Value, ir.Value] = {}

    def settle(value: ir.Value) -> None:
        if value in parts:
            terms = parts.pop(value)
            gradients[value] = terms[0] if len(terms) == 1 else tape.op("Sum", *terms)

    for node in reversed(forward):
        for out, y in enumerate(node.outputs):
            settle(y)
            if y not in gradients:
                continue
            for arg, x in enumerate(node.inputs):
                if x is None or x not in needed:
                    continue
                part = gradient_of(tape, Arc(node=node, out=out, arg=arg, grad=gradients[y]))
                if part is not None:
                    parts.setdefault(x, []).append(part)
    for value in targets:
        settle(value)  # graph inputs and initializers, which no node produces
    return gradients


def _descendants(forward: Iterable[ir.Node], targets: Iterable[ir.Value]) -> set[ir.Value]:
    """The targets and all values computed from them."""
    found = set(targets)
    for node in forward:
        if node.op_type not in _CONSTANT and any(value in found for value in _read_by(node)):
            found.update(node.outputs)
    return found


def _refuse_bodies(forward: Sequence[ir.Node], needed: set[ir.Value], logits: ir.Value) -> None:
    """If, Loop or Scan on a way from a target to the logits: named before anything behind them is found strange."""
    above = {logits}
    for node in reversed(forward):
        if any(value in above for value in node.outputs):
            read = _read_by(node)
            above.update(read)
            if has_body(node) and any(value in needed for value in read):
                rule_of(node)  # there is none


def _read_by(node: ir.Node) -> list[ir.Value]:
    return [*(value for value in node.inputs if value is not None), *_captured(node)]


def _captured(node: ir.Node) -> list[ir.Value]:
    """What the bodies of If, Loop and Scan read (their own values among it)."""
    bodies = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    inner = [each for body in bodies for each in body.all_nodes()]
    found = [value for each in inner for value in each.inputs if value is not None]
    return found + [value for body in bodies for value in body.outputs]


# -- losses


def _seed(
    tape: Tape,
    graph: ir.Graph,
    values: Mapping[str, ir.Value],
    logits: ir.Value,
    loss: Loss,
    reduction: Reduction,
) -> tuple[ir.Value, ir.Value | None]:
    """d loss / d logits, and the loss itself where there is one."""
    if loss not in ("margin", "ce", "seed"):
        raise BadConfig(f"loss {loss!r}: use 'margin', 'ce' or 'seed'")
    if reduction not in ("sum", "mean"):
        raise BadConfig(f"reduction {reduction!r}: use 'sum' or 'mean'")
    total: ir.Value | None = None
    if loss == "seed":
        given = seed = _add_input(graph, values, "seed", tape.float_type(logits), logits.shape)
    else:
        if tape.rank(logits) != 2:
            raise UnsupportedModel(
                f"loss {loss!r} needs logits of shape (N, classes); {logits.name!r} has {tape.dims(logits)}. "
                "Name the logits with output=, or use loss='seed'"
            )
        batch = ir.Shape(list(logits.shape or [])[:1])
        given = label = _add_input(graph, values, "label", ir.DataType.INT64, batch)
        read = _readable(tape, graph, logits)
        seed, total = (_margin if loss == "margin" else _cross_entropy)(tape, read, logits, label)
    if reduction == "mean":
        samples = tape.op("Gather", tape.op("Shape", given), tape.constant(np.array(0)))
        batch_size = tape.op("Cast", samples, to=int(tape.float_type(logits)))
        seed = tape.op("Div", seed, batch_size)
        total = None if total is None else tape.op("Div", total, batch_size)
    return seed, total


def _readable(tape: Tape, graph: ir.Graph, logits: ir.Value) -> ir.Value:
    """The logits for the loss to read.

    Dequantised logits may have one reader only (see replica.py). Where that is the caller, a copy takes over
    the name and both read the copy. Max of one tensor is a copy that ONNX Runtime does not optimise away.
    """
    free = tape.value_is_free(logits) or is_integer(logits)
    if free or logits.uses() or not logits.is_graph_output():
        return tape.value(logits)
    copy = tape.op("Max", logits)
    copy.name, logits.name = logits.name, copy.name
    copy.type, copy.shape = logits.type, logits.shape
    graph.outputs[list(graph.outputs).index(logits)] = copy
    return copy


def _one_hot(tape: Tape, logits: ir.Value, classes: ir.Value) -> ir.Value:
    depth = tape.constant(np.array(tape.fixed(logits, start=1)[0]))
    return tape.op("OneHot", classes, depth, tape.floats([0, 1], logits), axis=-1)


def _margin(tape: Tape, read: ir.Value, logits: ir.Value, label: ir.Value) -> tuple[ir.Value, ir.Value]:
    chosen = _one_hot(tape, logits, label)
    lowest = tape.floats(np.finfo(tape.float_type(logits).numpy()).min, logits)
    others = tape.op("Where", tape.op("Cast", chosen, to=int(ir.DataType.BOOL)), lowest, read)
    rival = _one_hot(tape, logits, tape.op("ArgMax", others, axis=1, keepdims=0))
    seed = tape.op("Sub", chosen, rival)
    return seed, tape.op("ReduceSum", tape.op("Mul", seed, read), keepdims=0)


def _cross_entropy(
    tape: Tape, read: ir.Value, logits: ir.Value, label: ir.Value
) -> tuple[ir.Value, ir.Value]:
    chosen = _one_hot(tape, logits, label)
    log_softmax = tape.op("LogSoftmax", read, axis=1)
    seed = tape.op("Sub", tape.op("Exp", log_softmax), chosen)
    return seed, tape.op("Neg", tape.op("ReduceSum", tape.op("Mul", chosen, log_softmax), keepdims=0))


# -- names


def _named_values(graph: ir.Graph) -> dict[str, ir.Value]:
    values = [*graph.inputs, *graph.initializers.values()]
    values += [value for node in graph for value in node.outputs]
    return {value.name: value for value in values if value.name}


def _find(values: Mapping[str, ir.Value], name: str) -> ir.Value:
    if name not in values:
        close = get_close_matches(name, values, n=3, cutoff=0.3)
        raise BadConfig(f"the model has no tensor {name!r}; close names: {', '.join(close) or 'none'}")
    return values[name]


def _add_input(
    graph: ir.Graph, values: Mapping[str, ir.Value], name: str, dtype: ir.DataType, shape: ir.Shape | None
) -> ir.Value:
    _check_free(values, name)
    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=shape)
    graph.inputs.append(value)
    return value


def _check_free(values: Mapping[str, ir.Value], name: str) -> None:
    if name in values:
        raise UnsupportedModel(f"the model already has a tensor {name!r}, needed for a new one; rename it")


def _named(tape: Tape, value: ir.Value, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
    """The value under its public name, or a copy where it already has one or comes from outside."""
    result = tape.op("Identity", value) if value.is_graph_output() or value.is_graph_input() else value
    result.name, result.type, result.shape = name, ir.TensorType(dtype), shape
    return result


# -- preparation


def _prepare(model: onnx.ModelProto, keep: frozenset[str]) -> ir.Model:
    """Reach opset 18, compute on reals, inline functions, infer shapes and fold the arithmetic on shapes."""
    prepared = ir.from_proto(upgraded(model))
    try:
        on_reals(prepared)
        if prepared.functions:
            prepared = InlinePass()(prepared).model
            on_reals(prepared)
        prepared = ShapeInferencePass()(prepared).model
        while _fold_shapes(prepared, keep):
            prepared = ShapeInferencePass()(prepared).model
    except ir.passes.PassError as error:
        raise UnsupportedModel(
            f"the model cannot be prepared: {error}; check it with onnx.checker"
        ) from error
    return prepared


def _fold_shapes(model: ir.Model, keep: frozenset[str]) -> int:
    """Replace integer nodes that can be computed now by initializers; returns how many there were.

    Float nodes stay: folded here they might round otherwise than in ONNX Runtime.
    """
    graph, folded = model.graph, 0
    for node in list(graph):
        result = _static_result(node, model.opset_imports.get("", OPSET), keep)
        if result is None or node.outputs[0].is_graph_output():
            continue
        (output,) = node.outputs
        name = output.name or ""
        output.name = f"{name}/computed"
        tensor = ir.tensor(result, name=name)
        constant = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(result.shape), const_value=tensor
        )
        graph.register_initializer(constant)
        ir.convenience.replace_all_uses_with(output, constant)
        graph.remove(node, safe=True)
        folded += 1
    return folded


def _static_result(node: ir.Node, opset: int, keep: frozenset[str]) -> Array | None:
    """What an integer node returns in every run, or None where that depends on the run."""
    output, source = node.outputs[0], node.inputs[0] if node.inputs else None
    if len(node.outputs) != 1 or node.domain or output.dtype not in _SHAPE_TYPES or source is None:
        return None
    if node.op_type == "Shape":
        span = slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", None))
        return _static_dims(source, span)
    if node.op_type == "Gather" and (picked := constant_array(node.inputs[1])) is not None:
        maker = source.producer()
        if (
            maker is not None
            and maker.op_type == "Shape"
            and not maker.attributes
            and maker.inputs[0] is not None
        ):
            return _static_dims(maker.inputs[0], picked)
    arrays = {value.name or "": constant_array(value) for value in node.inputs if value is not None}
    known = {
        name: array for name, array in arrays.items() if array is not None and array.size <= _SHAPE_LIMIT
    }
    return None if len(known) < len(arrays) or keep & set(known) else _evaluated(node, opset, known)


def _static_dims(value: ir.Value, which: slice | Array) -> Array | None:
    """Some entries of a shape, where all of them are known."""
    if value.shape is None:
        return None
    dims = np.array([dim if isinstance(dim, int) else -1 for dim in value.shape], np.int64)[which]
    return None if (dims < 0).any() else np.asarray(dims)


def _evaluated(node: ir.Node, opset: int, arrays: Mapping[str, Array]) -> Array | None:
    """The result of one node on constants by ONNX's reference, or None where it has no implementation."""
    names = [value.name or "" for value in node.outputs]
    function = onnx.helper.make_function(
        "fold", "fold", list(arrays), names, [ir.to_proto(node)], [onnx.helper.make_opsetid("", opset)]
    )
    try:
        (result,) = ReferenceEvaluator(function).run(names, dict(arrays), attributes={})
    except (NotImplementedError, RuntimeError, ValueError):
        return None  # the node stays: folding is help, not duty
    return np.asarray(result)
