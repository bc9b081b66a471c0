"""Files whose writers and readers disagree: the answer is that of ONNX Runtime, never silently another."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from oracle import check_every_tensor, lsb_from_original

from emulator.errors import UnsupportedModel
from emulator.graph.load import Network, load

Nodes = list[onnx.NodeProto]


class Model:
    """input -> Q -> DQ -> ... nodes given by the test -> Q -> DQ -> output, on (1, 4, 4, 4)."""

    def __init__(self) -> None:
        self.constants: dict[str, npt.NDArray[Any]] = {
            "s": np.array(0.02, np.float32),
            "s2": np.array(0.05, np.float32),
            "z": np.array(3, np.int8),
            "z2": np.array(-7, np.int8),
            "w": np.arange(-8, 8, dtype=np.int8).reshape(4, 4, 1, 1),
            "w1": np.array(0.01, np.float32),
            "w4": np.array([0.01, 0.02, 0.03, 0.04], np.float32),
            "w4z": np.zeros(4, np.int8),
            "w0": np.array(0, np.int8),
        }
        self.nodes: Nodes = []

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"n_{output}", **attributes))
        return output

    def conv(self, x: str, scale: str = "w1", zero: str = "w0", axis: int = 0) -> str:
        weight = self.add("DequantizeLinear", ["w", scale, zero], "wr", axis=axis)
        return self.add("Conv", [x, weight], "conv")

    def save(self, path: Path, output: str, *, free_output: bool = False) -> Path:
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 4, 4, 4]),)]
        graph = helper.make_graph(
            self.nodes,
            "g",
            infos,
            [
                helper.make_tensor_value_info(
                    output, TensorProto.FLOAT, [None] * 4 if free_output else [1, 4, 4, 4]
                )
            ],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, path)
        return path


def quantised_input(m: Model, name: str = "q") -> str:
    m.add("QuantizeLinear", ["x", "s", "z"], name)
    return m.add("DequantizeLinear", [name, "s", "z"], f"{name}r")


def finish(m: Model, real: str) -> str:
    m.add("QuantizeLinear", [real, "s", "z"], "yq")
    return m.add("DequantizeLinear", ["yq", "s", "z"], "y")


def test_the_model_of_these_tests_loads_when_it_agrees(tmp_path: Path) -> None:
    m = Model()
    load(m.save(tmp_path / "m.onnx", finish(m, m.conv(quantised_input(m), "w4", "w4z"))))


# The file computes in float32 between its integers: a tie may round the other way there.
ONE_LSB = 1.0001


def exact(path: Path, *, step: float = 1.0) -> Network:
    """Every value equals the QLinear form, and the answer is within one LSB of that of the file, on a few images."""
    network = load(path)
    samples = list(np.random.default_rng(5).normal(0, 2, (6, 4, 4, 4)).astype(np.float32))
    golden = check_every_tensor(network, samples)
    away = max(lsb_from_original(network, golden, sample, step=step) for sample in samples)
    assert away <= ONE_LSB
    return network


def test_weight_scales_along_the_input_channels(tmp_path: Path) -> None:
    """No scale of a column: the product stays float, and nothing else is there."""
    m = Model()
    path = m.save(tmp_path / "m.onnx", finish(m, m.conv(quantised_input(m), "w4", "w4z", axis=1)))
    with pytest.raises(UnsupportedModel, match=r"no integer MAC layer.*Conv 'n_conv'"):
        load(path)


def test_weight_scales_along_the_input_channels_beside_a_layer_that_agrees(tmp_path: Path) -> None:
    m = Model()
    m.add("QuantizeLinear", [m.conv(quantised_input(m)), "s", "z"], "cq")
    m.add("DequantizeLinear", ["cq", "s", "z"], "cr")
    weight = m.add("DequantizeLinear", ["w", "w4", "w4z"], "other_w", axis=1)
    graph = exact(m.save(tmp_path / "m.onnx", finish(m, m.add("Conv", ["cr", weight], "odd")))).graph
    assert len(graph.layers) == 1
    assert [text.split(":")[0] for text in graph.float_macs] == ["Conv 'n_odd'"]


@pytest.mark.parametrize(("scale", "zero"), [("s2", "z"), ("s", "z2")])
def test_a_reader_with_another_scale_or_zero_point(tmp_path: Path, scale: str, zero: str) -> None:
    """It reads the same integers as other reals: the layer takes what its own reader says."""
    m = Model()
    m.add("QuantizeLinear", ["x", "s", "z"], "q")
    m.add("DequantizeLinear", ["q", scale, zero], "qr")
    (layer,) = exact(m.save(tmp_path / "m.onnx", finish(m, m.conv("qr")))).graph.layers
    assert layer.zero_point == m.constants[zero]


@pytest.mark.parametrize(("scale", "zero"), [("s2", "z"), ("s", "z2")])
def test_a_table_behind_a_reader_with_another_scale(tmp_path: Path, scale: str, zero: str) -> None:
    m = Model()
    m.add("QuantizeLinear", [m.conv(quantised_input(m)), "s", "z"], "cq")
    m.add("DequantizeLinear", ["cq", scale, zero], "cr")
    exact(m.save(tmp_path / "m.onnx", finish(m, m.add("Sigmoid", ["cr"], "sigmoid"))))


@pytest.mark.parametrize(("scale", "zero"), [("s2", "z"), ("s", "z2")])
def test_an_answer_read_otherwise_than_written(tmp_path: Path, scale: str, zero: str) -> None:
    m = Model()
    real = m.conv(quantised_input(m))
    m.add("QuantizeLinear", [real, "s", "z"], "yq")
    m.add("DequantizeLinear", ["yq", scale, zero], "y")
    graph = exact(m.save(tmp_path / "m.onnx", "y"), step=float(m.constants[scale])).graph
    assert graph.answer is None and graph.output == "y"


def test_two_equal_quantisations_of_the_input(tmp_path: Path) -> None:
    m = Model()
    real = m.conv(quantised_input(m))
    m.add("QuantizeLinear", [real, "s", "z"], "cq")
    m.add("DequantizeLinear", ["cq", "s", "z"], "cr")
    second = quantised_input(m, "second")
    exact(m.save(tmp_path / "m.onnx", finish(m, m.add("Add", ["cr", second], "sum"))))


def test_two_different_quantisations_of_the_input(tmp_path: Path) -> None:
    m = Model()
    real = m.conv(quantised_input(m))
    m.add("QuantizeLinear", ["x", "s2", "z"], "second")
    m.add("DequantizeLinear", ["second", "s2", "z"], "sr")
    m.add("QuantizeLinear", [real, "s", "z"], "cq")
    m.add("DequantizeLinear", ["cq", "s", "z"], "cr")
    graph = exact(m.save(tmp_path / "m.onnx", finish(m, m.add("Add", ["cr", "sr"], "sum")))).graph
    assert {"q", "second"} <= graph.index.keys()


def test_a_batch_that_moves_inside_the_network(tmp_path: Path) -> None:
    """Channels become a batch of four: four times as many rows, one layer."""
    m = Model()
    m.constants["shape"] = np.array([4, 1, 4, 4])
    moved = m.add("Reshape", [quantised_input(m), "shape"], "moved")
    m.add("QuantizeLinear", [moved, "s", "z"], "mq")
    m.add("DequantizeLinear", ["mq", "s", "z"], "mr")
    m.constants["w"] = m.constants["w"][:, :1]
    (layer,) = exact(m.save(tmp_path / "m.onnx", finish(m, m.conv("mr")), free_output=True)).graph.layers
    assert layer.shape.m == 4 * 16


@pytest.mark.parametrize("value", [0.0, -0.02, np.nan])
def test_a_scale_that_is_not_positive(tmp_path: Path, value: float) -> None:
    m = Model()
    m.constants["s2"] = np.array(value, np.float32)
    m.add("QuantizeLinear", [m.conv(quantised_input(m)), "s2", "z"], "yq")
    m.add("DequantizeLinear", ["yq", "s2", "z"], "y")
    with pytest.raises(UnsupportedModel, match=r"QLinearConv 'n_conv': a scale .* above 0"):
        load(m.save(tmp_path / "m.onnx", "y"))
