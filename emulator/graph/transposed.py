"""ConvTranspose as the convolution it is: the input with zeros between its pixels, the kernel turned round (Dumoulin &
Visin, arXiv 1603.07285, sec. 4). An array that multiplies matrices runs it in this form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from emulator.graph.rewriting import Array, Rewriter, StaysFloat, array_of, attribute_of, dequantised


def to_convolution(r: Rewriter, node: ir.Node) -> None:
    """Replace a quantised ConvTranspose; raises StaysFloat where its padding is not that of a convolution."""
    act, wgt = dequantised(node.inputs[0]).per_tensor(), dequantised(node.inputs[1])
    weight, shape = array_of(wgt.value), act.value.shape
    if weight is None or shape is None or not all(isinstance(size, int) for size in shape):
        raise StaysFloat("its weights are computed or the shape of its input is not known")
    sizes = [int(size) for size in shape if isinstance(size, int)]
    rank = len(sizes) - 2
    stride, dilation, extra = (
        list(attribute_of(node, name, (default,) * rank))
        for name, default in (("strides", 1), ("dilations", 1), ("output_padding", 0))
    )
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    given = _pads(node, sizes[2:], stride, reach, extra)
    begin = [full - pad for full, pad in zip(reach, given[:rank], strict=True)]
    end = [full - pad + more for full, pad, more in zip(reach, given[rank:], extra, strict=True)]
    if min(begin + end) < 0:
        raise StaysFloat("it pads by more than its kernel")
    groups = int(attribute_of(node, "group", 1))
    name = node.outputs[0].name
    stuffed = _with_zeros_between(r, node, act.value, act.zero_point, sizes, stride)
    real = r.node(node, "DequantizeLinear", [stuffed, act.scale, act.zero_point], f"{name}/stuffed_real")
    turned = r.constant(f"{name}/weight", _turned(weight, groups))
    scale, zero = wgt.scale, wgt.zero_point
    if wgt.scales.size > 1:
        if wgt.axis != 1:
            raise StaysFloat(f"its weight scales run along axis {wgt.axis}")
        scale = r.constant(f"{name}/weight_scale", np.tile(wgt.scales, groups))
        zero = r.constant(f"{name}/weight_zero", np.tile(wgt.zero, groups))
    real_weight = r.node(node, "DequantizeLinear", [turned, scale, zero], f"{name}/weight_real", axis=0)
    attributes: dict[str, Any] = {"dilations": dilation, "group": groups, "pads": begin + end}
    conv = ir.Node(
        "",
        "Conv",
        [real, real_weight, *node.inputs[2:]],
        attributes=ir.convenience.convert_attributes(attributes),
        num_outputs=1,
        name=node.name,
    )
    r.replace(node, conv)


def _pads(
    node: ir.Node, sizes: Sequence[int], stride: Sequence[int], reach: Sequence[int], extra: Sequence[int]
) -> list[int]:
    """Padding at the start of each axis, then at the end; automatic padding makes the output what was asked for, or
    `stride` times the input."""
    auto, rank = attribute_of(node, "auto_pad", "NOTSET"), len(sizes)
    wanted = list(attribute_of(node, "output_shape", ()))[-rank:]
    if not wanted and auto in ("NOTSET", "VALID"):
        return list(attribute_of(node, "pads", (0,) * 2 * rank)) if auto == "NOTSET" else [0] * 2 * rank
    wanted = wanted or [size * step for size, step in zip(sizes, stride, strict=True)]
    total = [
        (size - 1) * step + more + full + 1 - out
        for size, step, more, full, out in zip(sizes, stride, extra, reach, wanted, strict=True)
    ]
    # What is larger than all that is computed is larger at its end.
    begin = [0 if t < 0 else t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
    return begin + [t - first for t, first in zip(total, begin, strict=True)]


def _turned(weight: Array, groups: int) -> Array:
    """(Cin, Cout / groups, *K) to (Cout, Cin / groups, *K), every kernel axis reversed."""
    cin, out, *kernel = weight.shape
    split = weight.reshape(groups, cin // groups, out, *kernel).swapaxes(1, 2)
    whole = split.reshape(groups * out, cin // groups, *kernel)
    return np.ascontiguousarray(np.flip(whole, tuple(range(2, whole.ndim))))


def _with_zeros_between(
    r: Rewriter, before: ir.Node, value: ir.Value, zero: ir.Value, sizes: Sequence[int], stride: Sequence[int]
) -> ir.Value:
    """stride - 1 zero points behind each pixel of every axis, those behind the last one cut off."""
    name = before.outputs[0].name
    sizes = list(sizes)
    for i, step in enumerate(stride):
        axis = 2 + i
        if step == 1:
            continue
        rank = len(sizes)

        def numbers(tag: str, values: Sequence[int], axis: int = axis) -> ir.Value:
            return r.constant(f"{name}/{tag}{axis}", np.array(values, np.int64))

        apart = r.node(before, "Unsqueeze", [value, numbers("axis", [axis + 1])], f"{name}/apart{axis}")
        pads = [0] * (2 * (rank + 1))
        pads[rank + 1 + axis + 1] = step - 1
        padded = r.node(before, "Pad", [apart, numbers("pads", pads), zero], f"{name}/padded{axis}")
        sizes[axis] *= step
        joined = r.node(before, "Reshape", [padded, numbers("shape", sizes)], f"{name}/joined{axis}")
        sizes[axis] -= step - 1
        bounds = [numbers(tag, [v]) for tag, v in (("from", 0), ("to", sizes[axis]), ("along", axis))]
        value = r.node(before, "Slice", [joined, *bounds], f"{name}/stuffed{axis}")
    return value
