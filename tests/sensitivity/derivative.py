"""A gradient graph against directional finite differences in float64, and float32 in ONNX Runtime against that.

Both float64 models run in onnx's reference evaluator, as ONNX Runtime has no float64 convolution; where that is wrong
itself (Indices of a padded MaxPool) in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from emulator.sensitivity.backward import gradient_model

Arrays = dict[str, np.ndarray]
Float = type[np.floating[Any]]
Nodes = Sequence[tuple[str, str, str, dict[str, Any]]]

STEP = 1e-6


def network(
    nodes: Nodes, inputs: Arrays, constants: Arrays, dtype: Float, *, opset: int = 18, output: str = "y"
) -> onnx.ModelProto:
    """A model of (type, inputs, outputs, attributes), names separated by spaces ("_" for one left out); the float
    inputs and constants in `dtype`. A type may begin with its domain and a dot."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    cast = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in constants.items()}
    made = []
    for op_type, reads, writes, attributes in nodes:
        domain, _, name = op_type.rpartition(".")
        given = ["" if read == "_" else read for read in reads.split()]
        label = f"node{len(made) or ''}"
        made.append(helper.make_node(name, given, writes.split(), name=label, domain=domain, **attributes))
    graph = helper.make_graph(
        made,
        "network",
        [helper.make_tensor_value_info(name, kind, value.shape) for name, value in inputs.items()],
        [helper.make_tensor_value_info(output, kind, None)],
        [numpy_helper.from_array(value, name) for name, value in cast.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def run_ort(model: onnx.ModelProto, feeds: Arrays) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def run_reference(model: onnx.ModelProto, feeds: Arrays) -> list[np.ndarray]:
    return list(
        ReferenceEvaluator(model, new_ops=[ConvTranspose, Erf, Gelu, GlobalMaxPool, LRN]).run(None, feeds)
    )


class ConvTranspose(OpRun):
    """By the definition, one kernel tap at a time; the reference evaluator's own is wrong for groups."""

    op_domain = ""

    def _run(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, **attributes: Any
    ) -> tuple[np.ndarray]:
        axes = w.ndim - 2
        strides, dilations = (attributes[name] or [1] * axes for name in ("strides", "dilations"))
        extra = attributes["output_padding"] or [0] * axes
        group = attributes["group"]
        spans = list(zip(x.shape[2:], w.shape[2:], strides, dilations, extra, strict=True))
        full = [s * (size - 1) + d * (k - 1) + 1 + more for size, k, s, d, more in spans]
        pads = self._pads(full, x.shape[2:], strides, attributes)
        y = np.zeros((len(x), group, w.shape[1], *full))
        parts = x.reshape(len(x), group, -1, *x.shape[2:])
        for tap in np.ndindex(*w.shape[2:]):
            weight = w[(..., *tap)].reshape(group, -1, w.shape[1])
            places = zip(tap, dilations, strides, x.shape[2:], strict=True)
            at = [slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in places]
            y[(..., *at)] += np.einsum("ngc...,gco->ngo...", parts, weight)
        kept = [slice(pads[axis], full[axis] - pads[axes + axis]) for axis in range(axes)]
        y = y.reshape(len(x), -1, *full)[(..., *kept)]
        return (y if b is None else y + b.reshape(-1, *[1] * axes),)

    @staticmethod
    def _pads(full: list[int], sizes: Any, strides: Any, attributes: dict[str, Any]) -> list[int]:
        """As ONNX's text has it: automatic padding makes the output `stride` times the input."""
        auto = attributes["auto_pad"]
        if not auto.startswith("SAME"):
            return list(attributes["pads"] or [0] * 2 * len(full))
        total = [f - n * s for f, n, s in zip(full, sizes, strides, strict=True)]
        begin = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
        return begin + [t - b for t, b in zip(total, begin, strict=True)]


class Erf(OpRun):
    """In float64; the reference evaluator's own returns float32."""

    op_domain = ""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        from scipy.special import erf

        return (np.asarray(erf(x), x.dtype),)


class Gelu(OpRun):
    """By the definition in float64, for the same reason."""

    op_domain = ""

    def _run(self, x: np.ndarray, approximate: str = "none") -> tuple[np.ndarray]:
        from scipy.special import erf

        if approximate == "tanh":
            return (x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,)
        return (np.asarray(x * (1 + erf(x / np.sqrt(2))) / 2, x.dtype),)


class GlobalMaxPool(OpRun):
    """For any rank; the reference evaluator's own keeps the axes of images alone."""

    op_domain = ""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class LRN(OpRun):
    """By the definition, channel by channel, for any rank; the reference evaluator's own knows images alone."""

    op_domain = ""

    def _run(self, x: np.ndarray, **attributes: Any) -> tuple[np.ndarray]:
        size, channels = attributes["size"], x.shape[1]
        d = np.empty_like(x)
        for c in range(channels):
            around = x[:, max(0, c - (size - 1) // 2) : min(channels, c + size // 2 + 1)]
            d[:, c] = attributes["bias"] + attributes["alpha"] / size * (around**2).sum(axis=1)
        return (x / d ** attributes["beta"],)


def check(
    op_type: str,
    inputs: Arrays,
    constants: Arrays | None = None,
    *,
    in_ort: bool = False,
    opset: int = 18,
    **attributes: Any,
) -> None:
    """The gradients of one node with respect to all of `inputs`, in a random direction."""
    reads = " ".join(name or "_" for name in [*inputs, *(constants or {})])
    kept = {name: value for name, value in (constants or {}).items() if name}
    check_network([(op_type, reads, "y", attributes)], inputs, kept, in_ort=in_ort, opset=opset)


def check_network(
    nodes: Nodes, inputs: Arrays, constants: Arrays, *, in_ort: bool = False, opset: int = 18
) -> None:
    """The same for several nodes, the last of which returns "y"."""
    run = run_ort if in_ort else run_reference
    exact = network(nodes, inputs, constants, np.float64, opset=opset)
    rng = np.random.default_rng(7)
    (y,) = run(exact, inputs)
    seed = rng.standard_normal(y.shape)
    same, *gradients = run(gradient_model(exact, list(inputs), loss="seed"), {**inputs, "seed": seed})
    assert np.array_equal(same, y)
    _check_direction(lambda feeds: float((run(exact, feeds)[0] * seed).sum()), inputs, gradients, rng)

    single = gradient_model(
        network(nodes, inputs, constants, np.float32, opset=opset), list(inputs), loss="seed"
    )
    feeds = {name: np.asarray(value, np.float32) for name, value in {**inputs, "seed": seed}.items()}
    for name, rough, fine in zip(inputs, run_ort(single, feeds)[1:], gradients, strict=True):
        assert rough.shape == inputs[name].shape
        assert np.allclose(rough, fine, rtol=1e-4, atol=1e-4 * max(1, np.abs(fine).max(initial=0)))


def _check_direction(
    loss: Callable[[Arrays], float], inputs: Arrays, gradients: list[np.ndarray], rng: np.random.Generator
) -> None:
    way = {name: rng.standard_normal(value.shape) for name, value in inputs.items()}
    ahead, behind = (loss({k: v + sign * STEP * way[k] for k, v in inputs.items()}) for sign in (1, -1))
    expected = (ahead - behind) / (2 * STEP)
    parts = [grad * way[name] for name, grad in zip(inputs, gradients, strict=True)]
    found, scale = sum(part.sum() for part in parts), sum(np.abs(part).sum() for part in parts)
    assert abs(found - expected) <= 1e-7 * scale + 1e-7


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Distinct values from about -2 to 2, well apart: no ties and no kinks within a finite-difference step."""
    count = int(np.prod(shape))
    order = np.random.default_rng(seed).permutation(count).reshape(shape)
    return (order - count / 2 + 0.3) * 4.1 / max(count, 1)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
