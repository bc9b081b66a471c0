"""`emulator search`: what it prints and writes, and that a found fault does what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Emulator = Callable[..., Any]

IMAGES = 12
OPTIONS = ("--limit", IMAGES, "--registers", "pe_c1,accumulator", "--seed", 3)
ESTIMATE = {"value", "low", "high", "confidence", "n", "ess", "method"}


def search(place: Path, emulator: Emulator, *more: object) -> Any:
    return emulator("search", place / "model.onnx", "--inputs", place / "test.npz", *OPTIONS, *more)


def test_each_found_fault_costs_what_it_says_by_the_cycle_engine(place: Path, emulator: Emulator) -> None:
    answer = search(place, emulator, "--drop", 0.25, "--trials", 40, "--json")
    found = answer.json
    assert found["needed"] == 3
    with np.load(place / "test.npz") as data:
        labels = data["labels"][:IMAGES].tolist()
    assert found["faults"]
    for fault in found["faults"][:2]:
        options = ("--inputs", place / "test.npz", "--fault", fault["fault"], "--engine", "cycle", "--json")
        top1 = [
            emulator("inject", place / "model.onnx", *options, "--index", image).json["top1"]
            for image in range(IMAGES)
        ]
        clean = sum(one["golden"] == label for one, label in zip(top1, labels, strict=True))
        faulty = sum(one["faulty"] == label for one, label in zip(top1, labels, strict=True))
        assert clean == round(IMAGES * found["accuracy"])
        assert fault["lost"] == clean - faulty >= 3
        assert fault["drop"] == pytest.approx((clean - faulty) / IMAGES)


def test_json_has_the_faults_and_the_cost(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    answer = search(place, emulator, "--drop", 0.1, "--trials", 60, "-o", tmp_path / "f.json", "--json")
    found = answer.json
    assert found.keys() >= {
        "drop",
        "needed",
        "images",
        "accuracy",
        "draws",
        "found",
        "seconds",
        "predictions",
    }
    assert found["rate"].keys() == found["rate_live"].keys() == found["hits"].keys() == ESTIMATE
    assert found["rate"]["value"] < found["rate_live"]["value"]
    assert found["draws"] == 60
    assert found["found"] == len(found["faults"])
    assert 60 <= found["injections"] <= 60 * IMAGES
    per_fault = found["draws_per_fault"]
    assert per_fault["value"] == pytest.approx(60 / sum(fault["draws"] for fault in found["faults"]))
    assert per_fault["low"] < per_fault["value"] < per_fault["high"]
    assert json.loads((tmp_path / "f.json").read_text(encoding="utf-8")) == found
    assert "--sampler importance" in answer.err and "stop: 60 trials" in answer.err


def test_the_text_names_faults_and_injections(place: Path, emulator: Emulator) -> None:
    text = search(place, emulator, "--drop", 0.1, "--trials", 50, "--sampler", "bit-only").out
    assert "layer=" in text and " injections, 0 predictions, " in text
    assert "such faults among" in text


def test_each_line_of_the_list_is_a_fault_that_inject_takes(place: Path, emulator: Emulator) -> None:
    options = ("--drop", "10%", "--trials", 60)
    faults = search(place, emulator, *options, "--json").json["faults"]
    text = search(place, emulator, *options).out
    lines = re.findall(r"^(\d+) +(\d+)(?:-(\d+))? +([\d.]+) % +(layer=.*)$", text, re.MULTILINE)
    assert sum(int(count) for count, *_ in lines) == len(faults) > len(lines) > 1
    for count, low, high, drop, fault in lines:
        like = re.sub(r"row=\d+ (col=\d+) .*", r"row=\\d+ \1 cycle=\\d+ bit=(\\d+)", fault)
        group = {one["fault"]: one["drop"] for one in faults if re.fullmatch(like, one["fault"])}
        bits = [int(one.rpartition("=")[2]) for one in group]
        assert (int(count), int(low), int(high or low)) == (len(group), min(bits), max(bits))
        assert group[fault] == max(group.values()) == pytest.approx(float(drop) / 100, abs=5e-5)
    for *_, fault in lines[:3]:
        given = ("--inputs", place / "test.npz", "--fault", fault, "--json")
        assert emulator("inject", place / "model.onnx", *given).json["fault"] == fault


def test_it_stops_when_enough_faults_are_found(place: Path, emulator: Emulator) -> None:
    found = search(place, emulator, "--drop", 0.1, "--found", 5, "--sampler", "uniform", "--json").json
    assert found["found"] >= 5
    assert found["hits"]["method"] == "betting"


def test_ctrl_c_keeps_what_was_found(
    place: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emulator.harden.search import Search

    steps = Search.steps

    def interrupted(*arguments: Any) -> Any:
        yield next(steps(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "steps", interrupted)
    answer = search(place, emulator, "--drop", 0.1, "--trials", 30, "--json")
    assert (answer.code, answer.json["draws"]) == (130, 30)


def test_without_labels_the_fault_free_answers_count(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    with np.load(place / "test.npz") as data:
        np.savez(tmp_path / "plain.npz", inputs=data["inputs"])
    options = ("--drop", 0.1, "--trials", 20, "--sampler", "uniform", "--json")
    answer = emulator("search", place / "model.onnx", "--inputs", tmp_path / "plain.npz", *OPTIONS, *options)
    assert answer.json["accuracy"] == 1
    assert "against the fault-free answers" in answer.err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--drop", 1.5), "--drop 1.5; allowed: a share above 0, up to 100%"),
        (("--drop", "0%"), "--drop 0%; allowed: a share above 0"),
        (("--drop", "100%", "--limit", 20), "0.95 on 20 images. Choose a smaller one"),
        (("--drop", 0.1, "--sampler", "sweep"), "importance, uniform"),
        (("--drop", 0.1, "--found", 0), "allowed: 1 or more"),
        (("--drop", 0.1, "--max-time", 0), "above 0"),
        (("--drop", 0.1, "-o", "/no/such/folder/f.json"), "is not a folder"),
    ],
    ids=str,
)
def test_bad_settings_are_one_error(
    place: Path, emulator: Emulator, wrong: tuple[object, ...], words: str
) -> None:
    answer = search(place, emulator, *wrong)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err.splitlines()[-1]
