"""Integer products in every form a file has for them: against ONNX Runtime, and their accumulators against 64-bit sums
of NumPy over the numbers in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from format_models import FORMATS, Format, attention, lopsided, raw, sixteen, transposed
from oracle import check_every_tensor, lsb_from_original, saved, session_of
from small_models import named, triple_of

from emulator.graph.golden import Golden
from emulator.graph.load import Network, load

Longs = npt.NDArray[np.int64]


def loaded(made: Format, folder: Path) -> Network:
    return load(saved(made.model, folder))


def arrays_of(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def as_rows(sums: Longs) -> Longs:
    """(1, channels, *spatial) to the accumulator matrix (pixels, channels)."""
    return np.moveaxis(sums[0], 0, -1).reshape(-1, sums.shape[1])


@pytest.mark.parametrize("name", FORMATS)
def test_every_value_of_every_format_equals_onnx_runtime(name: str, tmp_path: Path) -> None:
    made = FORMATS[name]()
    network = loaded(made, tmp_path)
    assert len(network.graph.layers) == made.layers and not network.graph.float_macs
    assert isinstance(made.sample, np.ndarray)
    samples = [made.sample, np.flip(made.sample, -1).copy(), made.sample * np.float32(0.3)]
    check_every_tensor(network, samples)


@pytest.mark.parametrize("name", FORMATS)
def test_every_accumulator_is_what_the_array_is_given_to_compute(name: str, tmp_path: Path) -> None:
    """bias + streamed x stationary modulo 2^32: the operands the array sees give the accumulators of the layer."""
    made = FORMATS[name]()
    golden = Golden(loaded(made, tmp_path).graph)
    run = golden.run(made.sample)
    for index, layer in enumerate(golden.graph.layers):
        act = golden.streamed(run, index).astype(np.int64)
        bias = golden.bias(run, index).astype(np.int64)
        sums = act @ golden.stationary(run, index).astype(np.int64)
        sums += bias if bias.ndim == 3 else bias[:, np.newaxis]
        want = sums.astype(np.int32).transpose(1, 0, 2).reshape(layer.shape.m, -1)
        np.testing.assert_array_equal(golden.accumulator(run, index), want)


# ---- accumulators from the numbers in the file


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_raw_sums_of_a_matrix_product(kind: Any, tmp_path: Path) -> None:
    made = raw("MatMulInteger", kind)
    golden = Golden(loaded(made, tmp_path).graph)
    run = golden.run(made.sample)
    arrays = arrays_of(made.model)
    session = session_of(made.model, ["xq", "xz"])
    x, zero = (v.astype(np.int64) for v in session.run(["xq", "xz"], {"input": made.sample[np.newaxis]}))
    node = named(made.model, "MatMulInteger")
    weight = arrays[node.input[1]].astype(np.int64) - arrays[node.input[3]]
    np.testing.assert_array_equal(golden.accumulator(run, 0), ((x - zero) @ weight)[0])


@pytest.mark.parametrize("op", ["Conv", "MatMul"])
@pytest.mark.parametrize(("kind", "zero"), [(np.int16, 0), (np.int16, -20000), (np.uint16, 30000)])
def test_sums_of_sixteen_bit_activations(op: str, kind: Any, zero: int, tmp_path: Path) -> None:
    made = sixteen(op, kind, zero)
    golden = Golden(loaded(made, tmp_path).graph)
    run = golden.run(made.sample)
    arrays = arrays_of(made.model)
    (x,) = session_of(made.model, ["xq"]).run(["xq"], {"input": made.sample[np.newaxis]})
    x = x.astype(np.int64) - zero
    weight = arrays["w"].astype(np.int64)
    if op == "MatMul":
        want = (x @ weight)[0]
    else:
        want = np.stack(
            [(x[0, :, i : i + 3, j : j + 3] * weight).sum(axis=(1, 2, 3)) for i in range(3) for j in range(3)]
        )
    assert np.abs(want).max() > 1 << 20
    np.testing.assert_array_equal(golden.accumulator(run, 0), want)


def test_the_answer_of_sixteen_bits_is_that_of_the_file(tmp_path: Path) -> None:
    """The file computes in float32, whose 24 bits round the sums: within one step of 16 bits."""
    for op in ("Conv", "MatMul"):
        made = sixteen(op)
        network = loaded(made, tmp_path)
        assert lsb_from_original(network, Golden(network.graph), made.sample, step=2e-4) <= 1.01


@pytest.mark.parametrize("groups", [1, 2])
def test_sums_of_a_transposed_convolution_are_scattered_products(groups: int, tmp_path: Path) -> None:
    """By the definition of ConvTranspose: every input pixel adds its kernel to the output."""
    made = transposed(groups)
    golden = Golden(loaded(made, tmp_path).graph)
    run = golden.run(made.sample)
    arrays = arrays_of(made.model)
    first = made.model.graph.node[0]
    (x,) = session_of(made.model, first.output).run(first.output, {"input": made.sample[np.newaxis]})
    x = x.astype(np.int64) - arrays[first.input[2]]
    weight = arrays[triple_of(made.model, named(made.model, "ConvTranspose").input[1])[0]].astype(np.int64)
    whole = np.zeros((1, 2 * groups, 2 * 2 + 3 + 1, 3 * 3 + 2), np.int64)
    for c in range(4):
        out = slice(2 * (c // (4 // groups)), 2 * (c // (4 // groups)) + 2)
        for i in range(3):
            for j in range(4):
                whole[0, out, 2 * i : 2 * i + 3, 3 * j : 3 * j + 2] += x[0, c, i, j] * weight[c]
    np.testing.assert_array_equal(golden.accumulator(run, 0), as_rows(whole[:, :, 1:, : whole.shape[3] - 1]))


@pytest.mark.parametrize("op", ["Conv", "Gemm", "MatMul"])
def test_sums_of_weights_with_a_zero_point(op: str, tmp_path: Path) -> None:
    made = lopsided(op)
    golden = Golden(loaded(made, tmp_path).graph)
    run = golden.run(made.sample)
    arrays = arrays_of(made.model)
    node = next(n for n in made.model.graph.node if n.op_type.startswith(("QLinear", "QGemm")))
    (x,) = session_of(made.model, [node.input[0]]).run([node.input[0]], {"input": made.sample[np.newaxis]})
    x = x.astype(np.int64) - arrays[node.input[2]]
    weight = arrays[node.input[3]].astype(np.int64) - 100
    want = as_rows(x) @ weight[:, :, 0, 0].T if op == "Conv" else x @ weight
    bias = {"Conv": 8, "Gemm": 6}.get(op)
    if bias is not None:
        want = want + arrays[node.input[bias]].astype(np.int64)
    np.testing.assert_array_equal(golden.accumulator(run, 0), want)


@pytest.mark.parametrize("form", ["qop", "qdq"])
def test_sums_of_two_computed_operands(form: str, tmp_path: Path) -> None:
    """Both products of attention from the int8 tensors ONNX Runtime has."""
    made = attention(form)
    network = loaded(made, tmp_path)
    golden = Golden(network.graph)
    run = golden.run(made.sample)
    arrays = arrays_of(network.reference)
    computed = [i for i, layer in enumerate(network.graph.layers) if layer.right is not None]
    nodes = [
        n for n in network.reference.graph.node if n.op_type == "QLinearMatMul" and n.input[3] not in arrays
    ]
    assert len(computed) == len(nodes) == 2
    for index, node in zip(computed, nodes, strict=True):
        names = [node.input[0], node.input[3]]
        values = session_of(network.reference, names).run(names, network.graph.feeds(made.sample))
        x, y = (
            v.astype(np.int64) - arrays[node.input[place]] for v, place in zip(values, (2, 5), strict=True)
        )
        want = (x @ y)[0].transpose(1, 0, 2).reshape(x.shape[2], -1)
        np.testing.assert_array_equal(golden.accumulator(run, index), want)
