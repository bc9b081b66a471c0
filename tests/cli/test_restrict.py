"""`emulator restrict` as a user meets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import emulator as emu

Emulator = Callable[..., Any]
USAGE, MODEL, DATA = 2, 3, 4


def test_restrict_writes_a_file_and_says_what_is_left(
    place: Path, emulator: Emulator, tmp_path: Path
) -> None:
    output = tmp_path / "restricted.onnx"
    given = (place / "model.onnx", "--inputs", place / "test.npz", "--limit", 100, "-o", output)
    found = emulator("restrict", *given, "--json").json
    assert found.keys() == {"output", "per", "samples", "changed", "layers", "unbounded", "accuracy"}
    assert (found["samples"], found["per"], found["unbounded"]) == (100, "channel", [])
    assert [layer["layer"] for layer in found["layers"]] == ["conv1", "conv2", "fc"]
    for layer in found["layers"]:
        width = np.array(layer["high"]) - np.array(layer["low"]) + 1
        assert layer["share"] == pytest.approx(width.mean() / 256) and layer["share"] < 0.9
        assert layer["stored_bytes"] == 2 * len(width)
    again = emu.restrict(place / "model.onnx", place / "test.npz", tmp_path / "again.onnx", limit=100)
    assert again.to_json() | {"output": found["output"]} == found and found["changed"]
    assert again.model.read_bytes() == output.read_bytes()
    before, after = found["accuracy"]["before"], found["accuracy"]["after"]
    assert before == after and before["n"] == 100 and before["low"] < before["value"] < before["high"]
    checked = emulator("check", output, "--inputs", place / "test.npz", "--limit", 10, "--json")
    assert checked.code == 0 and checked.json["ok"]


def test_options_do_what_they_say(place: Path, emulator: Emulator, tmp_path: Path) -> None:
    def restricted(*options: object) -> Any:
        given = (place / "model.onnx", "--inputs", place / "test.npz", "-o", tmp_path / "r.onnx", "--json")
        return emulator("restrict", *given, *options).json

    tight, layer = restricted("--limit", 50), restricted("--limit", 50, "--per", "layer")
    wide, inner = restricted("--limit", 50, "--margin", "5%"), restricted("--percentile", 90)
    shares = [sum(each["share"] for each in run["layers"]) for run in (inner, tight, wide, layer)]
    assert shares == sorted(shares) and len(set(shares)) == 4
    assert all(len(each["low"]) == 1 for each in layer["layers"])
    judged = restricted("--limit", 50, "--percentile", 50, "--test", place / "test.npz")["accuracy"]
    assert judged["before"]["n"] > 50 and judged["after"]["value"] < judged["before"]["value"]


def test_restrict_speaks_to_people_too(place: Path, emulator: Emulator, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", inputs=np.load(place / "test.npz")["inputs"][:20])
    output = tmp_path / "r.onnx"
    answer = emulator("restrict", place / "model.onnx", "--inputs", tmp_path / "bare.npz", "-o", output)
    assert (
        answer.code == 0
        and "of 256 int8 values left, mean over channels" in answer.out
        and "accuracy" not in answer.out
    )
    assert "--per channel --margin 0" in answer.err and output.exists()


def test_bounds_that_do_nothing_are_told(place: Path, emulator: Emulator, tmp_path: Path) -> None:
    given = (
        place / "model.onnx",
        "--inputs",
        place / "test.npz",
        "-o",
        tmp_path / "r.onnx",
        "--per",
        "layer",
    )
    answer = emulator("restrict", *given, "--json")
    assert not answer.json["changed"] and {each["stored_bytes"] for each in answer.json["layers"]} == {0}
    assert "r.onnx is the model as it was" in answer.err and "--per channel" in answer.err
    nodes = [len(onnx.load(file).graph.node) for file in (place / "model.onnx", tmp_path / "r.onnx")]
    assert nodes[0] == nodes[1]


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("--per", "pixel"), USAGE, "layer, channel"),
        (("--margin", "wide"), USAGE, "5%"),
        (("--percentile", "0"), USAGE, "percentile"),
        (("--inputs", "missing.npz"), DATA, "missing.npz"),
        (("-o", "nowhere/r.onnx"), USAGE, "nowhere"),
    ],
)
def test_what_is_wrong_is_one_error(
    options: tuple[str, str], code: int, word: str, place: Path, emulator: Emulator, tmp_path: Path
) -> None:
    given = {"--inputs": str(place / "test.npz"), "--limit": "5", "-o": str(tmp_path / "r.onnx")}
    given[options[0]] = options[1]
    answer = emulator("restrict", place / "model.onnx", *(part for pair in given.items() for part in pair))
    assert answer.code == code and answer.out == "" and answer.err.count("error: ") == 1
    assert word in answer.err and not (tmp_path / "r.onnx").exists()


def test_a_model_of_old_operators_is_refused(place: Path, emulator: Emulator, tmp_path: Path) -> None:
    model = onnx.load(place / "model.onnx")
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", 10))
    for node in model.graph.node:
        for attribute in [a for a in node.attribute if a.name == "axis" and "Linear" in node.op_type]:
            node.attribute.remove(attribute)
    onnx.save(model, tmp_path / "old.onnx")
    answer = emulator(
        "restrict", tmp_path / "old.onnx", "--inputs", place / "test.npz", "-o", tmp_path / "r.onnx"
    )
    assert answer.code == MODEL and answer.err.count("error: ") == 1
