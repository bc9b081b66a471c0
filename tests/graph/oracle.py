"""The oracle of the graph room: every integer of the emulator against ONNX Runtime on the QLinear form, and a model
cut at a tensor to see what ONNX Runtime makes of a corrupted one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from emulator.graph.golden import Golden, Inference
from emulator.graph.load import Network
from emulator.graph.qgraph import Sample

Arrays = dict[str, npt.NDArray[Any]]


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def session_of(model: onnx.ModelProto, names: Iterable[str]) -> ort.InferenceSession:
    """ONNX Runtime with every optimisation off, these tensors as outputs."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])


def emulated(golden: Golden, run: Inference) -> Arrays:
    """Every tensor and host value of one inference, as ONNX Runtime has it."""
    return {name: golden.value(run, name) for name in (*golden.graph.index, *run.host)}


def produced(model: onnx.ModelProto) -> set[str]:
    return {name for node in model.graph.node for name in node.output if name}


def compared_names(network: Network, golden: Golden, run: Inference) -> list[str]:
    return sorted(emulated(golden, run).keys() & produced(network.reference))


def check_every_tensor(network: Network, samples: Iterable[Sample]) -> Golden:
    """Every int8 tensor, accumulator that is a result and host value equals ONNX Runtime's, type and bits; the
    outputs of all integer operators are among them."""
    golden = Golden(network.graph)
    session = None
    for sample in samples:
        run = golden.run(sample)
        found = emulated(golden, run)
        if session is None:
            names = compared_names(network, golden, run)
            assert names
            session = session_of(network.reference, names)
        want = dict(zip(names, session.run(names, network.graph.feeds(sample)), strict=True))
        for name in names:
            assert found[name].dtype == want[name].dtype, name
            np.testing.assert_array_equal(found[name], want[name], err_msg=name)
    assert session is not None
    return golden


def cut_at(network: Network, name: str) -> onnx.ModelProto:
    """`network.reference` with the value `name` as one more input, in place of the node that computes it."""
    model = onnx.ModelProto()
    model.CopyFrom(network.reference)
    (node,) = [node for node in model.graph.node if name in node.output]
    model.graph.node.remove(node)
    index = network.graph.index.get(name)
    if index is None:
        kind, shape = onnx.TensorProto.INT32, None
    else:
        tensor = network.graph.tensors[index]
        kind = onnx.TensorProto.UINT8 if tensor.offset else onnx.TensorProto.INT8
        shape = tensor.shape
    model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    return model


def lsb_from_original(network: Network, golden: Golden, sample: Sample, *, step: float = 1.0) -> float:
    """How far the model's answer is from what ONNX Runtime makes of the file as it was: in LSB of an int8 answer, in
    `step` for a float one."""
    run = golden.run(sample)
    name = network.graph.output_name
    (want,) = session_of(network.original, [name]).run([name], network.graph.feeds(sample))
    answer, found = network.graph.answer, golden.logits(run)
    if answer is None:
        real = found.astype(np.float64)
    elif np.issubdtype(want.dtype, np.integer):
        real, step = (found.astype(np.int64) + answer.offset).astype(np.float64), 1.0
        want = answer.to_storage(want[np.newaxis])
    else:
        real, step = answer.real(found).astype(np.float64), answer.scale
        want = answer.to_storage(want.reshape(1, *answer.shape))
    return float(np.abs(real - want.reshape(-1).astype(np.float64)).max() / step)
