"""The network as a function of its weights, against the file it came from, ONNX Runtime and the propagation engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from emulator.errors import UnsupportedModel
from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.graph.load import load, network_of
from emulator.graph.quantize import QuantizeOptions, quantize
from emulator.graph.session import open_session
from emulator.harden.injection import injections
from emulator.harden.trainable import State, Trainable, error_name, trained_name
from emulator.propagate.propagator import Propagator
from emulator.sampling.uniform import Uniform
from emulator.sampling.workbench import Workbench


@pytest.fixture(scope="module", params=["digits", "fashion", "qoperator"])
def network(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The bundled ones, and digits in QLinear form with uint8 activations."""
    if request.param != "qoperator":
        return request.getfixturevalue(request.param).network
    digits = request.getfixturevalue("digits")
    float_model = onnx.load(digits.path.with_name("digits_cnn_float.onnx"))
    options = QuantizeOptions(format="qoperator", activation="uint8")
    path = tmp_path_factory.mktemp("q") / "qoperator.onnx"
    onnx.save(quantize(float_model, digits.inputs[:100], options=options), path)
    return load(path)


def feeds(trainable: Trainable, state: State, images: Any) -> dict[str, Any]:
    tensors = {tensor.name: tensor for tensor in trainable.network.graph.tensors}
    errors = {
        error_name(name): np.zeros((len(images), *tensors[name].shape[1:]), np.float32)
        for name in trainable.stored
    }
    real = {trained_name(name): array for name, array in state.real.items()}
    return {trainable.network.graph.inputs[0].name: images, **real, **errors}


def initializers(model: onnx.ModelProto) -> dict[str, Any]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def check_alike(network: Any, found: Any, expected: Any) -> None:
    """Float convolutions add in another order, so a value may be rounded the other way now and then."""
    lsb = network.graph.answer.scale
    assert np.abs(expected).max() > 20 * lsb
    assert np.abs(found - expected).max() < 3 * lsb
    assert np.mean(np.abs(found - expected) > 0.5 * lsb) < 0.2


def images_of(network: Any, count: int) -> Any:
    shape = network.graph.inputs[0].sample_shape
    return np.random.default_rng(0).random((count, *shape)).astype(np.float32)


def test_a_state_that_nobody_trained_is_the_file(network: Any) -> None:
    trainable = Trainable.of(network)
    written = trainable.file(trainable.state())
    before, after = initializers(network.original), initializers(written)
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert after[name].dtype == array.dtype and after[name].shape == array.shape
        np.testing.assert_array_equal(after[name], array, name)
    assert [node.SerializeToString() for node in written.graph.node] == [
        node.SerializeToString() for node in network.original.graph.node
    ]
    layers = len(network.graph.layers)
    assert (len(trainable.weights), len(trainable.biases), len(trainable.stored)) == (layers,) * 3


def test_the_forward_graph_computes_what_onnx_runtime_computes_of_the_file(network: Any) -> None:
    trainable, images = Trainable.of(network), images_of(network, 20)
    forward, _ = trainable.sessions(trainable.state())
    found = forward.run(None, feeds(trainable, trainable.state(), images))[0]
    name = network.graph.inputs[0].name
    expected = np.concatenate(
        [open_session(network.original).run(None, {name: image[np.newaxis]})[0] for image in images]
    )
    check_alike(network, found, expected)


def test_weights_are_quantised_as_the_file_will_store_them(network: Any) -> None:
    """Moved weights and shrunk ranges: the graph at its state against the file written from it."""
    trainable, images, rng = Trainable.of(network), images_of(network, 20), np.random.default_rng(1)
    state = trainable.state()
    real = {
        name: (array * rng.uniform(0.7, 1.3, array.shape)).astype(np.float32)
        for name, array in state.real.items()
    }
    state = trainable.rescaled(replace(state, real=real), 0.6)
    for weight in trainable.weights:
        stored = weight.integers(state.real[weight.name], state.scale[weight.scale])
        assert np.abs(stored.astype(int)).max() == 127 or np.any(weight.zero_point)
    forward, _ = trainable.sessions(state)
    found = forward.run(None, feeds(trainable, state, images))[0]
    loaded = network_of(trainable.file(state), Path("moved.onnx"))
    name = network.graph.inputs[0].name
    expected = np.concatenate(
        [open_session(loaded.original).run(None, {name: image[np.newaxis]})[0] for image in images]
    )
    check_alike(loaded, found, expected)
    assert loaded.graph.tensors[1].scale == pytest.approx(0.6 * network.graph.tensors[1].scale)
    assert loaded.graph.tensors[0].scale == network.graph.tensors[0].scale


def test_a_channel_is_trained_in_its_own_unit(fashion: Any) -> None:
    """The channels of the first depthwise layer differ by a factor of 200."""
    trainable = Trainable.of(fashion.network)
    real, sizes = trainable.state().real, trainable.sizes()
    for weight in trainable.weights:
        size = sizes[weight.name]
        assert size.shape == (len(real[weight.name]), *[1] * (real[weight.name].ndim - 1))
        for channel, unit in zip(real[weight.name], size.ravel(), strict=True):
            assert np.sqrt(np.mean((channel / unit) ** 2)) == pytest.approx(1, rel=1e-5)
    depthwise = sizes["block1_dw.weight_quantized"]
    assert depthwise.max() > 200 * depthwise.min()
    assert sizes["fc.bias_quantized"].shape == ()


def test_a_channel_of_zeros_is_trained_in_a_tenth_of_the_others_unit(fashion: Any) -> None:
    weight = next(w for w in Trainable.of(fashion.network).weights if w.zero_point.size > 1)
    real = np.zeros((weight.zero_point.size, 1, 3, 3), np.float32)
    real[1:] = 0.5
    assert weight.axis == 0
    np.testing.assert_allclose(weight.size(real).ravel(), [0.05, *[0.5] * (len(real) - 1)])


def test_errors_of_a_fault_lead_to_the_logits_that_the_propagation_engine_finds(digits: Any) -> None:
    trainable = Trainable.of(digits.network)
    state, graph = trainable.state(), digits.network.graph
    space = FaultSpace(digits.network, digits.array, registers=["accumulator", "pe_b", "pe_a"])
    bench = Workbench(digits.network, digits.array, space, list(digits.inputs[:4]))
    found = injections(bench, Uniform(), np.random.default_rng(2), 300)
    drawn = Uniform().draw(bench, np.random.default_rng(2), 300, None)  # type: ignore[arg-type]  # never looked at
    assert len(found) > 50
    forward, _ = trainable.sessions(state)
    logits = []
    for fault in range(len(found)):
        given = feeds(trainable, state, bench.inputs[int(found.image[fault])][np.newaxis])
        row = given[error_name(graph.tensors[found.tensor[fault]].name)].reshape(-1)
        found.write(fault, row)
        logits.append(forward.run(None, given)[0][0])
    expected = []
    for image in range(4):
        of = np.flatnonzero(drawn.image == image)
        strikes = strike(bench.golden, bench.inference(image), bench.array, drawn.faults[of], by_cycles=False)
        effects = Propagator(bench.golden).run(bench.inference(image), drawn.faults.layer[of], strikes.errors)
        stored = [bool(c) for c in effects.corrupted]
        expected += [row for row, wrong in zip(effects.logits, stored, strict=True) if wrong]
    assert len(expected) == len(logits)
    check_alike(digits.network, np.array(logits), graph.answer.real(np.array(expected)))


def test_a_float_model_has_nothing_to_train(digits: Any, tmp_path: Path) -> None:
    network = load(digits.path.with_name("digits_cnn_float.onnx"), calibrate=digits.inputs[:20])
    float_network = replace(network, original=onnx.load(digits.path.with_name("digits_cnn_float.onnx")))
    with pytest.raises(UnsupportedModel, match="Quantise it first"):
        Trainable.of(float_network)
