"""Conv, Gemm and MatMul as matrix products over a sliding window (im2col, channels last)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.errors import UnsupportedModel
from emulator.gemm import GemmShape, Requantisation
from emulator.graph.qgraph import MacLayer, QTensor, Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MacNode:
    """A QLinearConv, QGemm or QLinearMatMul, decoded: int8 weight with zero point 0, per-channel scale."""

    name: str
    op: str
    source: int
    target: int
    weight: npt.NDArray[np.int8]
    weight_scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32] | None
    attributes: Mapping[str, Any]


def window_of(
    attributes: Mapping[str, Any], source: tuple[int, ...], target: tuple[int, ...], where: str
) -> Window:
    """The window of a 2-D Conv or pool from its attributes and the ONNX (N, C, H, W) shapes."""
    if len(source) != 4 or len(target) != 4:
        raise UnsupportedModel(
            f"{where}: rank {len(source)}; allowed: 4 (N, C, H, W). Add a unit dimension before exporting."
        )
    spatial, out = source[2:], target[2:]
    kernel = tuple(attributes.get("kernel_shape", (1, 1)))
    stride = tuple(attributes.get("strides", (1, 1)))
    dilation = tuple(attributes.get("dilations", (1, 1)))
    pads = _pads(attributes, spatial, out, kernel, stride, dilation)
    return Window(
        height=spatial[0],
        width=spatial[1],
        channels=source[1],
        out_height=out[0],
        out_width=out[1],
        kernel=(kernel[0], kernel[1]),
        stride=(stride[0], stride[1]),
        dilation=(dilation[0], dilation[1]),
        pad_top=pads[0],
        pad_left=pads[1],
    )


def _pads(
    attributes: Mapping[str, Any],
    spatial: Sequence[int],
    out: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, int]:
    """Padding at the top and left; what is missing at the bottom and right follows from the output size."""
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = attributes.get("pads", (0, 0, 0, 0))
        return pads[0], pads[1]
    if auto == "VALID":
        return 0, 0
    total = [
        max(0, (o - 1) * s + d * (k - 1) + 1 - i)
        for o, s, d, k, i in zip(out, stride, dilation, kernel, spatial, strict=True)
    ]
    low = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
    return low[0], low[1]


def lower(node: MacNode, source: QTensor, target: QTensor) -> MacLayer:
    """The MAC layer of a node: weight matrix, folded bias, requantisation."""
    if node.op == "QLinearConv":
        groups = int(node.attributes.get("group", 1))
        weight = _conv_matrix(node.weight, groups)
        attributes = {"kernel_shape": node.weight.shape[2:], **node.attributes}
        window = window_of(attributes, source.shape, target.shape, f"{node.op} (node {node.name!r})")
        m = window.out_height * window.out_width
    else:
        if source.channels_last or node.weight.ndim != 2:
            raise UnsupportedModel(
                f"{node.op} (node {node.name!r}): operands of rank {len(source.shape)} and {node.weight.ndim}; "
                "allowed: rank 2 or 3 times a matrix. Reshape before the product."
            )
        groups, weight = 1, _dense_matrix(node)[np.newaxis]
        m = source.size // weight.shape[1]
        window = Window(height=m, width=1, channels=weight.shape[1], out_height=m, out_width=1)
    _, k, n = weight.shape
    scale = np.float32(source.scale) * node.weight_scale.astype(np.float32) / np.float32(target.scale)
    return MacLayer(
        name=node.name,
        op=node.op.removeprefix("QLinear").removeprefix("Q"),
        source=node.source,
        target=node.target,
        window=window,
        shape=GemmShape(m=m, k=k, n=n, groups=groups),
        weight=weight,
        bias=_folded_bias(node.bias, weight, source.zero_point),
        requantisation=Requantisation(
            scale=np.ascontiguousarray(np.broadcast_to(scale, groups * n)), zero_point=target.zero_point
        ),
    )


def _conv_matrix(weight: npt.NDArray[np.int8], groups: int) -> npt.NDArray[np.int8]:
    """(Cout, Cin / groups, KH, KW) to (groups, KH * KW * Cin / groups, Cout / groups)."""
    out, cin, height, width = weight.shape
    grouped = weight.reshape(groups, out // groups, cin, height, width)
    return np.ascontiguousarray(grouped.transpose(0, 3, 4, 2, 1).reshape(groups, -1, out // groups))


def _dense_matrix(node: MacNode) -> npt.NDArray[np.int8]:
    if node.attributes.get("transA", 0) or float(node.attributes.get("alpha", 1.0)) != 1.0:
        raise UnsupportedModel(
            f"{node.op} (node {node.name!r}) has transA={node.attributes.get('transA', 0)}, "
            f"alpha={node.attributes.get('alpha', 1.0)}; allowed: transA=0, alpha=1. Fold them before quantising."
        )
    weight = node.weight.T if node.attributes.get("transB", 0) else node.weight
    return np.ascontiguousarray(weight)


def _folded_bias(
    bias: npt.NDArray[np.int32] | None, weight: npt.NDArray[np.int8], zero_point: int
) -> npt.NDArray[np.int32]:
    """bias - zero_point * sum of weights, modulo 2^32, (groups, n)."""
    correction = -zero_point * weight.astype(np.int64).sum(axis=1)
    total = correction if bias is None else correction + bias.astype(np.int64).reshape(correction.shape)
    folded: npt.NDArray[np.int32] = total.astype(np.int32)
    return folded
