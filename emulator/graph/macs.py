"""Conv, Gemm and MatMul in integers, as matrix products the array can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from emulator.gemm import GemmShape, Requantisation
from emulator.graph.builder import GraphBuilder, HostOnly
from emulator.graph.qgraph import Int8, Int32, MacLayer
from emulator.graph.rewriting import attribute_of, attributes_of
from emulator.graph.sixteen_bits import CONV16, MATMUL16
from emulator.graph.taps import row_taps, taps_of
from emulator.graph.wide import OFFSETS, signed, signed_zero

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where an integer operator keeps its inputs; None: it has none. scale, out: of an operand and of the output;
    zero points follow the scales."""

    act: int
    act_zero: int
    wgt: int
    wgt_zero: int
    act_scale: int | None = None
    wgt_scale: int | None = None
    bias: int | None = None
    out: int | None = None


PLACES = {
    "QLinearConv": Places(act=0, act_scale=1, act_zero=2, wgt=3, wgt_scale=4, wgt_zero=5, out=6, bias=8),
    "QLinearMatMul": Places(act=0, act_scale=1, act_zero=2, wgt=3, wgt_scale=4, wgt_zero=5, out=6),
    "QGemm": Places(act=0, act_scale=1, act_zero=2, wgt=3, wgt_scale=4, wgt_zero=5, bias=6, out=7),
    "ConvInteger": Places(act=0, wgt=1, act_zero=2, wgt_zero=3),
    "MatMulInteger": Places(act=0, wgt=1, act_zero=2, wgt_zero=3),
    CONV16: Places(act=0, wgt=1, act_zero=2, wgt_zero=3),
    MATMUL16: Places(act=0, wgt=1, act_zero=2, wgt_zero=3),
}


def import_mac(b: GraphBuilder, node: ir.Node) -> None:
    """Append the MAC layer of a node; raises HostOnly where its integers are not those of the array."""
    at = PLACES[node.op_type]
    target = str(node.outputs[0].name)
    if 0 in b.shape(target):
        raise HostOnly("its result is empty")
    lowered = _conv(b, node, at) if "Conv" in node.op_type else _product(b, node, at)
    groups, n = lowered.shape.groups, lowered.shape.n
    if at.out is None:
        written: int | str = target
    else:
        written = b.written(b.tensor(target), channels_last="Conv" in node.op_type)
    b.ops.append(
        MacLayer(
            name=str(node.name or target),
            op={"C": "Conv", "M": "MatMul", "G": "Gemm"}[node.op_type.removeprefix("QLinear").lstrip("Q")[0]],
            source=lowered.source,
            right=lowered.right,
            target=written,
            target_shape=b.shape(target),
            channels=lowered.channels,
            taps=lowered.taps,
            batch=lowered.batch,
            shape=lowered.shape,
            weight=lowered.weight,
            act_bits=8 if isinstance(lowered.source, int) else 16,
            zero_point=_zero_point(b, node, at.act_zero),
            weight_zero_point=_weight_zero_point(b, node, at.wgt_zero, groups, n),
            bias=_bias(b, node, at, groups, n),
            requantisation=None if at.out is None else _requantisation(b, node, at, at.out, groups * n),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lowered:
    """Operands as the layer reads them (see MacLayer)."""

    source: int | str
    right: int | str | None
    channels: int
    taps: Int32 | None
    batch: tuple[int, ...]
    shape: GemmShape
    weight: Int8 | None


def _conv(b: GraphBuilder, node: ir.Node, at: Places) -> _Lowered:
    weight = _bytes(b.constant(node, at.wgt))
    name, out = b.name(node, at.act), b.shape(str(node.outputs[0].name))
    attributes = attributes_of(node)
    if attributes.get("channels_last", 0):
        raise HostOnly("it is channels last")
    groups = int(attributes.get("group", 1))
    columns, width, *kernel = weight.shape
    matrix = weight.reshape(groups, columns // groups, width, -1).transpose(0, 3, 2, 1)
    matrix = np.ascontiguousarray(matrix.reshape(groups, -1, columns // groups))
    taps = taps_of(attributes, kernel, b.shape(name), out)
    shape = GemmShape(m=len(taps), k=matrix.shape[1], n=matrix.shape[2], groups=groups)
    source = _operand(b, name, channels_last=True)
    return _Lowered(
        source=source, right=None, channels=width * groups, taps=taps, batch=(), shape=shape, weight=matrix
    )


def _product(b: GraphBuilder, node: ir.Node, at: Places) -> _Lowered:
    name, other = b.name(node, at.act), b.name(node, at.wgt)
    left, right = b.shape(name), b.shape(other)
    if attribute_of(node, "transA", 0):
        raise HostOnly("its left operand is transposed")
    weight = _bytes(b.probe.constants[other]) if other in b.probe.constants else None
    if attribute_of(node, "transB", 0):
        if weight is None:
            raise HostOnly("its right operand is computed and transposed")
        weight = np.ascontiguousarray(weight.T)
    # A vector on the left is a row, on the right a column.
    right = weight.shape if weight is not None else right
    right = right if len(right) > 1 else (*right, 1)
    left = left if len(left) > 1 else (1, *left)
    weight = None if weight is None else weight.reshape(right)
    k, n = right[-2:]
    if weight is not None and weight.ndim == 2:
        rows = int(np.prod(left[:-1], dtype=np.int64))
        return _Lowered(
            source=_operand(b, name), right=None, channels=k, taps=row_taps(rows), batch=(),
            shape=GemmShape(m=rows, k=k, n=n), weight=weight[np.newaxis],
        )  # fmt: skip
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    groups = int(np.prod(batch, dtype=np.int64))
    stack = None
    if weight is not None:
        stack = np.ascontiguousarray(np.broadcast_to(weight, (*batch, k, n))).reshape(groups, k, n)
    return _Lowered(
        source=_operand(b, name), right=None if stack is not None else _operand(b, other), channels=k, taps=None,
        batch=batch, shape=GemmShape(m=left[-2], k=k, n=n, groups=groups), weight=stack,
    )  # fmt: skip


def _operand(b: GraphBuilder, name: str, *, channels_last: bool = False) -> int | str:
    """A tensor in the order in which the layer reads it; 16-bit integers stay host values."""
    if b.probe.dtypes[name] in (np.dtype(np.int16), np.dtype(np.uint16)):
        return name
    return b.in_order(b.tensor(name), channels_last=channels_last)


def _bytes(weight: Array) -> Int8:
    """8-bit weights as stored."""
    if weight.dtype not in (np.int8, np.uint8):
        raise HostOnly(f"its weights are {weight.dtype}, not 8-bit integers")
    return signed(weight).astype(np.int8, copy=False)


def _zero_point(b: GraphBuilder, node: ir.Node, at: int) -> int | str:
    """As stored; the name of one only known at run time."""
    name = b.name(node, at)
    if not name:
        return -OFFSETS.get(b.probe.dtypes[b.name(node, 0)], 0)
    if int(np.prod(b.shape(name), dtype=np.int64)) != 1:
        raise HostOnly("its activations have several zero points")
    if name not in b.probe.constants:
        return name
    return int(signed_zero(b.probe.constants[name])[0])


def _weight_zero_point(b: GraphBuilder, node: ir.Node, at: int, groups: int, n: int) -> Int32 | str:
    name = b.name(node, at)
    if not name:
        values = np.zeros(1, b.probe.dtypes[b.name(node, PLACES[node.op_type].wgt)])
    elif name in b.probe.constants:
        values = b.probe.constants[name]
    else:
        return name
    return _per_column(signed_zero(values), groups, n, "zero points of its weights").astype(np.int32)


def _bias(b: GraphBuilder, node: ir.Node, at: Places, groups: int, n: int) -> Int32:
    values = None if at.bias is None else b.optional(node, at.bias)
    if values is None:
        return np.zeros((groups, n), np.int32)
    if values.dtype != np.int32 or (values.ndim > 1 and values.shape[-1] != values.size):
        raise HostOnly(f"its bias is {values.dtype} {values.shape}, not int32 and one an output column")
    return _per_column(values.reshape(-1), groups, n, "bias").astype(np.int32)


def _requantisation(b: GraphBuilder, node: ir.Node, at: Places, out: int, columns: int) -> Requantisation:
    """Scales in float32, in the order of ONNX Runtime: (alpha *) x * w / y."""
    assert at.act_scale is not None and at.wgt_scale is not None
    factor = np.float32(attribute_of(node, "alpha", 1.0))
    w_scale = b.constant(node, at.wgt_scale).astype(np.float32).reshape(-1)
    x_scale, y_scale = (np.float32(b.scalar(node, place)) for place in (at.act_scale, out))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = factor * x_scale * w_scale / y_scale
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise HostOnly("a scale of it is not finite and above 0")
    return Requantisation(
        scale=_per_column(scale, 1, columns, "scales").reshape(-1).astype(np.float32),
        zero_point=b.zero_point(node, out + 1),
    )


def _per_column(values: Array, groups: int, n: int, what: str) -> Array:
    """(groups, n) of one value, one a column of a stack, or one a column."""
    if values.size == groups * n:
        return np.ascontiguousarray(values.reshape(groups, n))
    if values.size in (1, n):
        return np.ascontiguousarray(np.broadcast_to(values.reshape(-1), (groups, n)))
    raise HostOnly(f"it has {values.size} {what}, for {groups} x {n} columns")
