"""The model files of tests/data/models, written by many exporters and quantisers: every integer of each equals ONNX
Runtime's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from oracle import check_every_tensor

from emulator.campaign.inputs import random_samples
from emulator.errors import BadConfig, UnsupportedModel
from emulator.graph.load import load
from emulator.graph.overwriting import refuse_to_overwrite
from emulator.graph.qgraph import QuantGraph, Sample

FOLDER = Path(__file__).parents[1] / "data/models"
FILES = sorted(FOLDER.glob("*.onnx"))
# Float, or integers only as storage: ONNX Runtime multiplies in float32.
FLOAT = [file for file in FILES if "_float" in file.stem or file.stem.startswith("weight_only")]


def samples_of(graph: QuantGraph, count: int) -> list[Sample]:
    """Digits where the model was trained on them, else noise."""
    with np.load(FOLDER / "inputs.npz") as stored:
        names = [spec.name for spec in graph.inputs]
        if (
            len(names) == 1
            and names[0] in stored.files
            and stored[names[0]].shape[1:] == graph.inputs[0].sample_shape
        ):
            return list(stored[names[0]][:count])
    return list(random_samples(graph, count, seed=3).inputs)


@pytest.mark.parametrize("file", [f for f in FILES if f not in FLOAT], ids=lambda file: file.stem)
def test_every_integer_of_a_model_file_equals_onnx_runtime(file: Path) -> None:
    network = load(file)
    assert network.graph.layers
    check_every_tensor(network, samples_of(network.graph, 2))


@pytest.mark.parametrize("file", FLOAT, ids=lambda file: file.stem)
def test_a_file_without_an_integer_product_is_refused_with_the_way_to_quantise_it(file: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"no integer MAC layer.*emulator quantize"):
        load(file)


def test_the_folder_is_not_empty() -> None:
    assert len(FILES) >= 45 and len(FLOAT) >= 7


def test_what_a_model_is_read_from_is_not_written_over(tmp_path: Path) -> None:
    model, data = (tmp_path / name for name in ("m.onnx", "m.data"))
    source = onnx.load(FOLDER / "external_data_qdq_u8s8.onnx")
    onnx.save(source, model, save_as_external_data=True, location="m.data", size_threshold=0)
    link = tmp_path / "link.bin"
    link.symlink_to(data)
    for output in (model, data, link):
        with pytest.raises(BadConfig, match="that is read"):
            refuse_to_overwrite(output, [str(model), None])
    (tmp_path / "other.data").touch()
    for output in (tmp_path / "other.data", tmp_path / "new.onnx"):
        refuse_to_overwrite(output, [model])
