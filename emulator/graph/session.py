"""ONNX Runtime as the project uses it: one thread, deterministic, chosen outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from emulator.errors import UnsupportedModel

Arrays = Mapping[str, npt.NDArray[Any]]


def open_session(model: onnx.ModelProto, *, optimised: bool = False, threads: int = 1) -> Any:
    """An onnxruntime.InferenceSession; raises UnsupportedModel with ONNX Runtime's reason."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    options.log_severity_level = 4  # errors come as exceptions; a second copy on stderr helps nobody
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises a dozen unrelated classes for a model it can't load
        reason = " ".join(str(error).split())[:400]
        raise UnsupportedModel(f"ONNX Runtime can't load the model: {reason}. Re-export it.") from error


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of `model` whose outputs are exactly these tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return copy


def run_nodes(
    nodes: Sequence[onnx.NodeProto],
    feeds: Arrays,
    output: str,
    constants: Arrays,
    opsets: Sequence[onnx.OperatorSetIdProto],
) -> npt.NDArray[Any]:
    """What ONNX Runtime computes for a few nodes cut out of a model; raises its own errors."""
    graph = onnx.helper.make_graph(
        list(nodes),
        "cut",
        [_value_info(name, array) for name, array in feeds.items()],
        [onnx.ValueInfoProto(name=output)],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=list(opsets), ir_version=10)
    result: npt.NDArray[Any] = open_session(model).run([output], dict(feeds))[0]
    return result


def _value_info(name: str, array: npt.NDArray[Any]) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, array.shape)
