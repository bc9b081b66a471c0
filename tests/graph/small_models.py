"""Pieces of small hand-made models that several tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx_models import Builder, Tensor


def fresh(form: str = "qdq", **settings: Any) -> Builder:
    return Builder(np.random.default_rng(0), form=form, **settings)


def conv_of(b: Builder, x: Tensor, **attributes: Any) -> Tensor:
    """1x1, to two channels."""
    out = (1, 2, x.shape[2], x.shape[3])
    return b.mac(
        "Conv", x, (2, x.shape[1], 1, 1), out, k=x.shape[1], channels=2, per_channel=False, with_bias=True,
        attributes=attributes,
    )  # fmt: skip


def matmul_of(b: Builder, x: Tensor, n: int = 3) -> Tensor:
    """Its last axis to `n`."""
    return b.mac(
        "MatMul", x, (x.shape[-1], n), (*x.shape[:-1], n), k=x.shape[-1], channels=n, per_channel=False,
        with_bias=False, axis=1, attributes={},
    )  # fmt: skip


def named(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    """The only node of this type."""
    (node,) = [node for node in model.graph.node if node.op_type == op]
    return node


def constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def triple_of(model: onnx.ModelProto, real: str) -> list[str]:
    """Inputs of the DequantizeLinear that makes `real`."""
    return list(next(n for n in model.graph.node if real in n.output).input)


def replace_constant(model: onnx.ModelProto, name: str, value: Any) -> None:
    constant(model, name).CopyFrom(numpy_helper.from_array(np.asarray(value), name))
