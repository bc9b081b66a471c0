"""`emulator quantize` and `emulator check` as a user meets them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from emulator.array.spec import ArraySpec
from emulator.campaign.validation import report

Emulator = Callable[..., Any]
MODELS = Path(__file__).parents[2] / "models"
FLOAT = MODELS / "digits/digits_cnn_float.onnx"

KEYS = set(
    """ok warnings samples tensors mismatched_tensors mismatches engine_mismatches top1_agreement
    top1_agreement_float accuracy accuracy_original accuracy_float classes_at_maximum tied_share dead_outputs
    original_operators original_end_to_end original_optimised original_optimised_differs_first
    original_optimised_float_layers inputs layers""".split()
)
LAYER_KEYS = set(
    """name accumulator_min accumulator_max accumulator_bits_needed accumulator_bits accumulator_overflowed
    partial_sum_min partial_sum_max partial_sum_bits_needed partial_sum_bits partial_sum_overflowed
    saturated_high_share saturated_low_share saturated_relu_share bias_clipped bias_wrapped sqnr_db sqnr_worst_channel
    sqnr_worst_channel_db sqnr_low_channels cycles engine_mismatches""".split()
)


def matmul(weight: Any, *, stored: bool, free: bool = False) -> onnx.ModelProto:
    """x @ weight in float; stored: the weight is int8, dequantised first; free: any number of rows."""
    constants = {"w": weight}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    if stored:
        constants |= {"s": np.float32(0.1), "z": np.int8(0)}
        nodes[0].input[1] = "wf"
        nodes.insert(0, helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"]))
    dims: list[Any] = ["N", "rows"] if free else ["N"]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*dims, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*dims, 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_check_returns_what_it_documents(place: Path, emulator: Emulator) -> None:
    options = ("--inputs", place / "test.npz", "--limit", 20, "--float", FLOAT, "--json")
    answer = emulator("check", place / "model.onnx", *options)
    assert answer.code == 0, answer.err
    assert answer.json.keys() == KEYS
    assert all(layer.keys() == LAYER_KEYS for layer in answer.json["layers"])
    assert answer.json["warnings"] == []
    assert answer.json["top1_agreement_float"] == 1
    assert all(layer["sqnr_db"] > 30 for layer in answer.json["layers"])


def test_the_answer_comes_first(place: Path, emulator: Emulator) -> None:
    answer = emulator("check", place / "model.onnx", "--inputs", place / "test.npz", "--limit", 10)
    assert answer.out.startswith("ok: 6 of 6 tensors equal ONNX Runtime bit for bit over 10 samples\n")


def test_warnings_leave_exit_code_0(place: Path, emulator: Emulator, tmp_path: Path) -> None:
    """An array with columns too narrow for these sums: a warning, no mismatch, as long as no cycle is replayed."""
    narrow = tmp_path / "narrow.toml"
    narrow.write_text("rows = 16\ncols = 16\npsum_bits = 14\n")
    options = ("--array", narrow, "--inputs", place / "test.npz", "--limit", 2, "--json")
    answer = emulator("check", place / "model.onnx", *options, "--cycle-images", 0)
    assert answer.code == 0
    assert any("partial sums overflow" in warning for warning in answer.json["warnings"])
    assert emulator("check", place / "model.onnx", *options).code == 1


def test_a_float_model_is_quantised_first(emulator: Emulator) -> None:
    answer = emulator("check", FLOAT, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["samples"] == 8
    assert answer.json["top1_agreement_float"] is not None
    assert all(layer["sqnr_db"] > 10 for layer in answer.json["layers"])
    assert "8 random samples, standard normal, --seed 0" in answer.err
    assert "quantised first" in answer.err


def test_a_weight_only_model_has_nothing_to_check(emulator: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "weight_only.onnx"
    onnx.save(matmul(np.arange(-6, 6, dtype=np.int8).reshape(4, 3), stored=True), file)
    answer = emulator("check", file, "--json")
    assert answer.code == 0
    assert answer.json["ok"] is True
    assert answer.json["layers"] == []
    assert "multiplies in float" in answer.json["warnings"][0]
    assert emulator("check", file).out.startswith("nothing to check: weight_only.onnx")


def test_free_dimensions_need_a_shape(emulator: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "free.onnx"
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    onnx.save(matmul(weight, stored=False, free=True), file)
    refused = emulator("check", file)
    assert refused.code == 2
    assert "--shape x=1," in refused.err
    answer = emulator("check", file, "--shape", "x=1,5,4", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["samples"] == 8
    assert emulator("check", file, "--shape", "x=1,five,4").code == 2


def test_dead_outputs_and_ties_are_reported(
    place: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real deployment was seen whose logits are all 1e-9; here the threshold is moved instead of the model."""
    monkeypatch.setattr("emulator.campaign.validation.answers.NEGLIGIBLE", 1e6)
    answer = emulator("check", place / "model.onnx", "--inputs", place / "test.npz", "--limit", 4, "--json")
    assert answer.code == 0
    assert "below 1e+06" in answer.json["dead_outputs"][0]
    assert any(warning.startswith("dead output: ") for warning in answer.json["warnings"])
    tied = replace_answers(answer.json)
    assert tied == ["ties in the top-1: 100.00 % of samples have several classes at the maximum; the first of them "
                    "counts, break ties the same way in deployment, or, where they are too many, keep more bits of the "
                    "answer (--activation int16)"]  # fmt: skip


def test_inputs_of_another_scale_are_said_to_be_clipped(
    place: Path, emulator: Emulator, tmp_path: Path
) -> None:
    with np.load(place / "test.npz") as data:
        np.savez(
            tmp_path / "bytes.npz", inputs=data["inputs"][:20] * np.float32(255), labels=data["labels"][:20]
        )
    answer = emulator("check", place / "model.onnx", "--inputs", tmp_path / "bytes.npz")
    assert answer.code == 0
    assert "warning: input 'input': " in answer.out and "scale these as in calibration" in answer.out
    assert "\ninput input " in answer.out
    assert f"; warnings: {answer.out.count('warning: ')}, see above" in answer.err


def test_an_array_too_narrow_is_no_bug(place: Path, emulator: Emulator, tmp_path: Path) -> None:
    """The same words as those that refuse a campaign on it."""
    narrow = tmp_path / "narrow.toml"
    narrow.write_text('name = "narrow"\npsum_bits = 17\n')
    given = (place / "model.onnx", "--array", narrow, "--inputs", place / "test.npz", "--limit", 20)
    answer = emulator("check", *given)
    refused = emulator("run", *given, "-o", tmp_path / "run").err.split("error: ")[1]
    assert answer.code == 1
    assert "but the array narrow gives" in answer.out
    assert "needs 18 bits for its partial sums, the array has 17" in answer.err
    assert "psum_bits from 20" in refused and refused.strip() in answer.err
    assert "report it" not in answer.err


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(30) % 10 + 100, "labels 100 to 109; allowed: 0 to 9"),
        (np.arange(30) % 10 - 1, "labels -1 to 8; allowed: 0 to 9"),
        (np.arange(5), "of shape (5,); allowed: integers of shape (30,)"),
    ],
)
def test_labels_of_other_classes_or_samples_are_refused(
    labels: Any, words: str, place: Path, emulator: Emulator, tmp_path: Path
) -> None:
    with np.load(place / "test.npz") as data:
        np.savez(tmp_path / "odd.npz", inputs=data["inputs"][:30], labels=labels)
    answer = emulator("check", place / "model.onnx", "--inputs", tmp_path / "odd.npz", "--limit", 5)
    assert (answer.code, answer.out) == (4, "")
    assert words in answer.err


def test_an_int8_file_is_no_float_model(place: Path, emulator: Emulator) -> None:
    model = place / "model.onnx"
    answer = emulator("check", model, "--inputs", place / "test.npz", "--limit", 5, "--float", model)
    assert (answer.code, answer.out) == (2, "")
    assert "the float model is quantised" in answer.err


def replace_answers(facts: dict[str, Any]) -> list[str]:
    """The warnings of a report whose only fault is a tie in every answer."""
    from emulator.campaign.validation.answers import Answers
    from emulator.graph.deployment import Deployment

    logits = np.array([[1, 7, 7], [9, 9, 2]], np.int8)
    answers = Answers(logits=logits, real=logits.astype(np.float32) * np.float32(1e6))
    deployment = Deployment(model=onnx.ModelProto(), tensors=(), float_macs=(), session=None)
    original = report.OriginalFile(
        operators={}, whole={}, deployed={}, begins={}, deployment=deployment, answers=answers
    )
    made = report.CheckReport(
        samples=2, labels=None, tensors=1, mismatches={}, answers=answers, original=original,
        float_answers=None, array=ArraySpec.preset("gemmini-16"), inputs=facts["inputs"], layers=facts["layers"],
    )  # fmt: skip
    return replace(made).warnings


# ---- quantize


def test_quantize_then_check(place: Path, emulator: Emulator, tmp_path: Path) -> None:
    made = tmp_path / "made.onnx"
    options = ("--calibration", place / "test.npz", "--limit", 50, "--json")
    answer = emulator("quantize", FLOAT, "-o", made, *options)
    assert answer.code == 0, answer.err
    assert answer.json["output"] == str(made)
    assert answer.json["bytes"] == made.stat().st_size
    assert answer.json["operators"]["Conv"] == 2
    for flag in ("--format qdq", "--activation int8", "--weight int8", "--method minmax", "--per-channel"):
        assert flag in answer.err
    assert "--per-channel --asymmetric" in answer.err
    assert "emulator check" in answer.err
    checked = emulator(
        "check", made, "--inputs", place / "test.npz", "--limit", 20, "--float", FLOAT, "--json"
    )
    assert checked.code == 0
    assert checked.json["accuracy"] >= 0.9


def test_quantize_takes_the_other_choices(place: Path, emulator: Emulator, tmp_path: Path) -> None:
    made = tmp_path / "made.onnx"
    data = ("--calibration", place / "test.npz", "--limit", 10, "--json")
    choices = ("--format", "QOperator", "--activation", "uint8", "--per-tensor", "--method", "percentile")
    answer = emulator("quantize", FLOAT, "-o", made, *data, *choices)
    assert answer.json["operators"]["QLinearConv"] == 2
    dynamic = emulator("quantize", FLOAT, "-o", made, "--dynamic", "--json")
    assert dynamic.json["operators"]["ConvInteger"] == 2
    assert "--weight int8 --per-channel" in dynamic.err


@pytest.mark.parametrize(
    ("code", "word", "arguments"),
    [
        (2, "allowed: minmax, entropy, percentile", ("--method", "guess")),
        (2, "--calibration", ()),
        (2, "Use format='qdq'", ("--format", "qoperator", "--weight", "int4")),
        (4, "absent.npz", ("--calibration", "absent.npz")),
        (2, "NAME=1,3,224,224", ("--shape", "input")),
    ],
)
def test_quantize_refuses(
    code: int, word: str, arguments: tuple[str, ...], emulator: Emulator, tmp_path: Path
) -> None:
    answer = emulator("quantize", FLOAT, "-o", tmp_path / "made.onnx", *arguments)
    assert answer.code == code
    assert word in answer.err
    assert answer.out == ""
    assert not (tmp_path / "made.onnx").exists()


def test_no_command_writes_over_what_it_is_given(place: Path, emulator: Emulator, tmp_path: Path) -> None:
    """Under whatever name: here a link. Any other file is replaced, as everywhere."""
    files = {"float.onnx": FLOAT, "model.onnx": place / "model.onnx", "test.npz": place / "test.npz"}
    for name, source in files.items():
        shutil.copy(source, tmp_path / name)
    link = tmp_path / "link.onnx"
    link.symlink_to(tmp_path / "float.onnx")
    model, data = tmp_path / "model.onnx", tmp_path / "test.npz"
    quantize = ("quantize", tmp_path / "float.onnx", "--calibration", data, "--limit", 5, "-o")
    restrict = ("restrict", model, "--inputs", data, "--limit", 5, "-o")
    inject = (
        "inject",
        model,
        "--inputs",
        data,
        "--fault",
        "layer=0 register=pe_b row=3 col=2 cycle=40 bit=7",
    )
    attempts = [
        (*quantize, tmp_path / "float.onnx"),
        (*quantize, link),
        (*quantize, data),
        (*restrict, model),
    ]
    attempts += [(*restrict, data), (*inject, "--vcd", model)]
    attempts += [("search", model, "--inputs", data, "--drop", 0.1, "--trials", 10, "-o", data)]
    for attempt in attempts:
        answer = emulator(*attempt)
        assert (answer.code, answer.out, answer.err.count("error: ")) == (2, "", 1), attempt
        assert "Choose another name" in answer.err
    assert {name: (tmp_path / name).read_bytes() for name in files} == {
        name: source.read_bytes() for name, source in files.items()
    }
    other = tmp_path / "other.onnx"
    other.write_text("before")
    assert emulator(*quantize, other).code == 0
    assert other.stat().st_size > 1000
