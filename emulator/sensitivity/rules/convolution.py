"""Convolution and its transpose over any number of spatial axes, with groups, strides, dilations and uneven pads."""

from __future__ import annotations

from itertools import product

import onnx_ir as ir

from emulator.sensitivity.rules.registry import Arc, rule
from emulator.sensitivity.rules.tape import Tape
from emulator.sensitivity.rules.windows import Windows, transposed_windows, windows

_BEFORE_FIRST = -(2**31)  # as a Slice end with a negative step: include element 0


@rule("Conv")
def conv(tape: Tape, arc: Arc) -> ir.Value:
    view = windows(tape, arc, tape.fixed(arc.input(1), start=2))
    if arc.arg == 0:
        return _input_gradient(tape, arc, view)
    if arc.arg == 1:
        return _weight_gradient(tape, arc, view, tape.value(arc.input(0)), arc.grad)
    return _bias_gradient(tape, arc, view)


@rule("ConvTranspose")
def conv_transpose(tape: Tape, arc: Arc) -> ir.Value:
    """The adjoint of a convolution from its output to its input, so what is x there is the gradient here."""
    view = transposed_windows(tape, arc, tape.fixed(arc.input(1), start=2))
    if arc.arg == 1:
        return _weight_gradient(tape, arc, view, arc.grad, tape.value(arc.input(0)))
    if arc.arg == 2:
        return _bias_gradient(tape, arc, view)
    return tape.op(
        "Conv",
        arc.grad,
        tape.value(arc.input(1)),
        strides=list(view.strides),
        dilations=list(view.dilations),
        pads=view.pads,
        group=arc.node.attributes.get_int("group", 1),
        kernel_shape=list(view.kernel),
    )


def _bias_gradient(tape: Tape, arc: Arc, view: Windows) -> ir.Value:
    return tape.op("ReduceSum", arc.grad, tape.ints(0, *range(2, 2 + view.axes)), keepdims=0)


def _input_gradient(tape: Tape, arc: Arc, view: Windows) -> ir.Value:
    """A convolution with the flipped kernel at stride 1, where that is the fastest; else ConvTranspose."""
    group = arc.node.attributes.get_int("group", 1)
    kernel, dilations = list(view.kernel), list(view.dilations)
    begin = [r - b for r, b in zip(view.reach, view.begin, strict=True)]
    end = [r - e + u for r, e, u in zip(view.reach, view.end, view.unread, strict=True)]
    if max(view.strides) == 1 and min(begin + end) >= 0:
        weight = _flipped(tape, arc.input(1), group)
        pads = begin + end
        return tape.op(
            "Conv", arc.grad, weight, dilations=dilations, pads=pads, group=group, kernel_shape=kernel
        )
    return tape.op(
        "ConvTranspose",
        arc.grad,
        tape.value(arc.input(1)),
        strides=list(view.strides),
        dilations=dilations,
        pads=view.pads,
        output_padding=list(view.unread),  # never output_shape: it would choose its own pads
        group=group,
        kernel_shape=kernel,
    )


def _flipped(tape: Tape, weight: ir.Value, group: int) -> ir.Value:
    """(group * out, in, k...) -> (group * in, out, k...), the kernel reversed along every spatial axis."""
    rows, channels, *kernel = tape.fixed(weight)
    value = tape.value(weight)
    if group > 1:
        value = tape.op("Reshape", value, tape.ints(group, rows // group, channels, *kernel))
        value = tape.op("Transpose", value, perm=[0, 2, 1, *range(3, 3 + len(kernel))])
        value = tape.op("Reshape", value, tape.ints(group * channels, rows // group, *kernel))
    else:
        value = tape.op("Transpose", value, perm=[1, 0, *range(2, 2 + len(kernel))])
    axes = [axis for axis, size in enumerate(kernel, start=2) if size > 1]
    if not axes:
        return value
    back, last = [-1] * len(axes), [_BEFORE_FIRST] * len(axes)
    return tape.op("Slice", value, tape.ints(*back), tape.ints(*last), tape.ints(*axes), tape.ints(*back))


def _weight_gradient(tape: Tape, arc: Arc, view: Windows, image: ir.Value, grad: ir.Value) -> ir.Value:
    """image: what the windows read; grad: one value a window. One matrix product per kernel tap on a strided
    slice of the padded image: no patch tensor."""
    group = arc.node.attributes.get_int("group", 1)
    rows, channels = tape.fixed(arc.x)[:2]
    if any(view.pads):
        image = tape.op("Pad", image, tape.ints(0, 0, *view.begin, 0, 0, *view.end))
    grad = tape.op("Reshape", grad, tape.ints(0, group, rows // group, -1))
    taps = []
    for tap in product(*(range(size) for size in view.kernel)):
        seen = tape.op("Reshape", _seen_by(tape, image, view, tap), tape.ints(0, group, channels, -1))
        outer = tape.op("MatMul", grad, tape.op("Transpose", seen, perm=[0, 1, 3, 2]))
        taps.append(tape.op("ReduceSum", outer, tape.ints(0), keepdims=0))
    stacked = [tape.op("Unsqueeze", tap, tape.ints(3)) for tap in taps]
    return tape.reshape(tape.op("Concat", *stacked, axis=3), arc.x)


def _seen_by(tape: Tape, x: ir.Value, view: Windows, tap: tuple[int, ...]) -> ir.Value:
    """What one kernel tap multiplies: a strided slice of the padded input, in the shape of the output."""
    start = [t * d for t, d in zip(tap, view.dilations, strict=True)]
    stop = [b + s * (n - 1) + 1 for b, s, n in zip(start, view.strides, view.size_out, strict=True)]
    axes = tape.ints(*range(2, 2 + view.axes))
    return tape.op("Slice", x, tape.ints(*start), tape.ints(*stop), axes, tape.ints(*view.strides))
