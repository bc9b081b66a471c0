"""Normalisations: by the statistics of a sample, and by fixed ones."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from emulator.sensitivity.rules.local import Local
from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape
from emulator.sensitivity.rules.term import Term


def _only_first(arc: Arc) -> None:
    if arc.out != 0:
        raise arc.refuse(f"output {arc.out} needs a gradient", "use the normalised output alone")


def _standardised(x: Term, axes: list[int], epsilon: float, *, centred: bool = True) -> tuple[Term, Term]:
    """(x - mean) / deviation, and 1 / deviation, over `axes`."""
    if centred:
        x = x - x.mean(*axes)
    inverse = 1 / ((x * x).mean(*axes) + epsilon).op("Sqrt")
    return x * inverse, inverse


def _through(grad: Term, unit: Term, inverse: Term, axes: list[int], *, centred: bool = True) -> Term:
    """The gradient at x from that at the standardised values `unit`: what x does to mean and deviation taken off."""
    left = grad - unit * (grad * unit).mean(*axes)
    if centred:
        left = left - grad.mean(*axes)
    return left * inverse


@rule("LayerNormalization", "RMSNormalization")
def layer_normalization(tape: Tape, arc: Arc) -> ir.Value:
    _only_first(arc)
    at, rank = Local(tape=tape, arc=arc), tape.rank(arc.input(0))
    axes = list(range(arc.node.attributes.get_int("axis", -1) % rank, rank))
    centred = arc.node.op_type == "LayerNormalization"
    if arc.arg == 2:
        return tape.unbroadcast(arc.grad, arc.x, tape.dims(arc.y))
    unit, inverse = _standardised(at.input(0), axes, at.number("epsilon", 1e-5), centred=centred)
    if arc.arg == 1:
        return tape.unbroadcast((at.grad * unit).value, arc.x, tape.dims(arc.y))
    return _through(at.grad * at.input(1), unit, inverse, axes, centred=centred).value


@rule("InstanceNormalization")
def instance_normalization(tape: Tape, arc: Arc) -> ir.Value:
    at, rank = Local(tape=tape, arc=arc), tape.rank(arc.input(0))
    axes = list(range(2, rank))
    if arc.arg == 2:
        return _per_channel(tape, at.grad, rank)
    unit, inverse = _standardised(at.input(0), axes, at.number("epsilon", 1e-5))
    if arc.arg == 1:
        return _per_channel(tape, at.grad * unit, rank)
    return _through(at.grad * _along_channels(tape, at.input(1), rank), unit, inverse, axes).value


@rule("GroupNormalization")
def group_normalization(tape: Tape, arc: Arc) -> ir.Value:
    """Scale and bias are one a channel, or one a group up to opset 20."""
    at = Local(tape=tape, arc=arc)
    groups, channels = arc.node.attributes.get_int("num_groups"), tape.fixed(arc.input(0), start=1)[0]
    split = tape.ints(0, groups, channels // groups, -1)
    unit, inverse = _standardised(_reshaped(at.input(0), split), [2, 3], at.number("epsilon", 1e-5))
    grad = _reshaped(at.grad, split)
    by_channel = tape.fixed(arc.input(1)) == [channels]
    if arc.arg == 0:
        scale = tape.ints(1, groups, channels // groups if by_channel else 1, 1)
        grad = grad * _reshaped(at.input(1), scale)
        return tape.reshape(_through(grad, unit, inverse, [2, 3]).value, arc.x)
    grad = grad * unit if arc.arg == 1 else grad
    return tape.reshape(grad.total(*((0, 3) if by_channel else (0, 2, 3))).value, arc.x)


def _reshaped(term: Term, shape: ir.Value) -> Term:
    return Term(tape=term.tape, value=term.tape.op("Reshape", term.value, shape), like=term.like)


@rule("BatchNormalization")
def batch_normalization(tape: Tape, arc: Arc) -> ir.Value:
    """y = (x - mean) / sqrt(var + epsilon) * scale + bias, with fixed statistics."""
    if arc.node.attributes.get_int("training_mode", 0) or len(arc.node.outputs) > 1:
        raise arc.refuse("it is in training mode", "export the model in inference mode")
    at, rank = Local(tape=tape, arc=arc), tape.rank(arc.input(0))
    if arc.arg == 2:
        return _per_channel(tape, at.grad, rank)
    inverse = 1 / (at.input(4) + at.number("epsilon", 1e-5)).op("Sqrt")
    gain = _along_channels(tape, at.input(1) * inverse, rank)
    if arc.arg == 0:
        return (at.grad * gain).value
    if arc.arg == 3:
        return _per_channel(tape, -(at.grad * gain), rank)
    inverse = _along_channels(tape, inverse, rank)
    unit = (at.input(0) - _along_channels(tape, at.input(3), rank)) * inverse
    if arc.arg == 1:
        return _per_channel(tape, at.grad * unit, rank)
    return _per_channel(tape, -0.5 * (at.grad * gain * unit * inverse), rank)


def _along_channels(tape: Tape, vector: Term, rank: int) -> Term:
    """(C,) shaped to go with axis 1."""
    return _reshaped(vector, tape.ints(-1, *[1] * (rank - 2))) if rank > 2 else vector


def _per_channel(tape: Tape, grad: Term, rank: int) -> ir.Value:
    axes = [axis for axis in range(rank) if axis != 1]
    return tape.op("ReduceSum", grad.value, tape.ints(*axes), keepdims=0)


@rule("LRN")
def local_response_normalization(tape: Tape, arc: Arc) -> ir.Value:
    """y = x / d ** beta, d = bias + alpha / size * the sum of squares over `size` channels around."""
    at = Local(tape=tape, arc=arc)
    size, channels = arc.node.attributes.get_int("size"), tape.fixed(arc.x, start=1)[0]
    alpha, beta = at.number("alpha", 1e-4) / size, at.number("beta", 0.75)
    distance = np.arange(channels) - np.arange(channels)[:, None]
    window = ((distance >= -((size - 1) // 2)) & (distance <= size // 2)).astype(float)

    def summed(term: Term, weights: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Term:
        return at.term(tape.along(term.value, arc.x, 1, weights))

    x = at.x
    d = at.number("bias", 1.0) + alpha * summed(x * x, window.T)
    back = summed(at.grad * x * d.op("Pow", -beta - 1), window)
    return (at.grad * d.op("Pow", -beta) - (2 * alpha * beta) * (x * back)).value
