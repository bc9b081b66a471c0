"""Files whose writers and readers disagree: refused, because the answer would be silently wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from emulator.errors import UnsupportedModel
from emulator.graph.load import load

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

    def save(self, path: Path, output: str) -> Path:
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 4, 4, 4]),)]
        graph = helper.make_graph(
            self.nodes,
            "g",
            infos,
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 4, 4, 4])],
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


def test_weight_scales_along_the_input_channels(tmp_path: Path) -> None:
    m = Model()
    path = m.save(tmp_path / "m.onnx", finish(m, m.conv(quantised_input(m), "w4", "w4z", axis=1)))
    with pytest.raises(UnsupportedModel, match="axis 1"):
        load(path)


@pytest.mark.parametrize(("scale", "zero"), [("s2", "z"), ("s", "z2")])
def test_a_reader_with_another_scale_or_zero_point(tmp_path: Path, scale: str, zero: str) -> None:
    m = Model()
    m.add("QuantizeLinear", ["x", "s", "z"], "q")
    m.add("DequantizeLinear", ["q", scale, zero], "qr")
    with pytest.raises(UnsupportedModel, match="written with"):
        load(m.save(tmp_path / "m.onnx", finish(m, m.conv("qr"))))


def test_an_answer_read_with_another_scale(tmp_path: Path) -> None:
    m = Model()
    real = m.conv(quantised_input(m))
    m.add("QuantizeLinear", [real, "s", "z"], "yq")
    m.add("DequantizeLinear", ["yq", "s2", "z"], "y")
    with pytest.raises(UnsupportedModel, match="written with"):
        load(m.save(tmp_path / "m.onnx", "y"))


def test_two_equal_quantisations_of_the_input_are_one_tensor(tmp_path: Path) -> None:
    m = Model()
    real = m.conv(quantised_input(m))
    m.add("QuantizeLinear", [real, "s", "z"], "cq")
    m.add("DequantizeLinear", ["cq", "s", "z"], "cr")
    second = quantised_input(m, "second")
    both = m.add("Add", ["cr", second], "sum")
    graph = load(m.save(tmp_path / "m.onnx", finish(m, both))).graph
    assert sum(tensor.name in ("q", "second") for tensor in graph.tensors) == 1


def test_two_different_quantisations_of_the_input(tmp_path: Path) -> None:
    m = Model()
    real = m.conv(quantised_input(m))
    m.add("QuantizeLinear", ["x", "s2", "z"], "second")
    m.add("DequantizeLinear", ["second", "s2", "z"], "sr")
    m.add("QuantizeLinear", [real, "s", "z"], "cq")
    m.add("DequantizeLinear", ["cq", "s", "z"], "cr")
    both = m.add("Add", ["cr", "sr"], "sum")
    with pytest.raises(UnsupportedModel, match="again, differently"):
        load(m.save(tmp_path / "m.onnx", finish(m, both)))


def test_a_batch_that_moves_inside_the_network(tmp_path: Path) -> None:
    m = Model()
    m.constants["shape"] = np.array([4, 1, 4, 4])
    moved = m.add("Reshape", [quantised_input(m), "shape"], "moved")
    m.add("QuantizeLinear", [moved, "s", "z"], "mq")
    m.add("DequantizeLinear", ["mq", "s", "z"], "mr")
    m.constants["w"] = m.constants["w"][:, :1]
    with pytest.raises(UnsupportedModel, match="leading dimension"):
        load(m.save(tmp_path / "m.onnx", finish(m, m.conv("mr"))))


@pytest.mark.parametrize("value", [0.0, -0.02, np.nan])
def test_a_scale_that_is_not_positive(tmp_path: Path, value: float) -> None:
    m = Model()
    m.constants["s2"] = np.array(value, np.float32)
    m.add("QuantizeLinear", [m.conv(quantised_input(m)), "s2", "z"], "yq")
    m.add("DequantizeLinear", ["yq", "s2", "z"], "y")
    with pytest.raises(UnsupportedModel, match="scale"):
        load(m.save(tmp_path / "m.onnx", "y"))
