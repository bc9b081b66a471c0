"""train and compare as a user meets them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import emulator as emu

Emulator = Callable[..., Any]

SHORT = ("--epochs", 2, "--steps", 3, "--batch", 16, "--faults", 40, "--images", 15, "--max-loss", 0.5)


def test_train_then_compare(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    data = ("--inputs", place / "test.npz")
    answer = emulator(
        "train", place / "model.onnx", *data, "--limit", 60, *SHORT, "-o", tmp_path / "h", "--json"
    )
    found = answer.json
    assert found.keys() == {"model", "kept", "epochs"}
    assert [epoch["epoch"] for epoch in found["epochs"]] == [0, 1, 2]
    assert {"accuracy", "sdc1_live", "loss", "struck", "kept"} <= found["kept"].keys()
    assert "--tighten 1.0" in answer.err and "epoch 2: accuracy" in answer.err
    again = emulator("train", place / "model.onnx", *data, "--limit", 60, *SHORT, "-o", tmp_path / "h")
    assert again.code == 0 and "wrote" in again.out
    assert "resumed after epoch 2 of 2" in again.err and "epoch 1: accuracy" not in again.err
    options = (*data, "--limit", 15, "--trials", 300, "--workers", 1, "--registers", "accumulator")
    emulator("run", place / "model.onnx", *options, "-o", tmp_path / "a")
    emulator("run", found["model"], *options, "--seed", 5, "-o", tmp_path / "b")
    rates = emulator("compare", tmp_path / "a", tmp_path / "b", "--json").json
    assert rates["rates"].keys() == {"before", "after_same_faults", "after_fresh_faults", "mended", "broken"}
    assert rates["accuracy"].keys() == {"before", "after"}
    text = emulator("compare", tmp_path / "a", tmp_path / "b").out
    assert "after, the same faults" in text and "of the same faults, " in text and "of fresh faults" in text
    assert "by layer, of the same faults," in text and "difference" in text
    alike = emulator("compare", tmp_path / "a", tmp_path / "a")
    itself = alike.out
    assert "warning: both" in alike.err
    assert "its own faults, not fresh" in itself and "fresh faults" not in itself
    assert "not proven" in itself and " inf" not in itself and " nan" not in itself
    report = emulator("report", tmp_path / "b", "--compare", tmp_path / "a", "--json").json["report"]
    assert "campaign on model" in Path(report).read_text()


def test_python_and_the_command_train_the_same(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    schedule = emu.TrainingSchedule(epochs=1, steps=3, batch=16, faults=40, images=15)
    network, array = emu.load(place / "model.onnx"), emu.ArraySpec.preset("gemmini-16")
    data, output = place / "test.npz", tmp_path / "h"
    found = emu.train(network, array, data, output, limit=60, schedule=schedule, max_loss=0.01)
    options = (*SHORT, "--epochs", 1, "--max-loss", "1%", "--limit", 60)
    answer = emulator("train", place / "model.onnx", "--inputs", data, *options, "-o", output, "--json")
    assert "resumed after epoch 1 of 1" in answer.err
    assert (answer.json["epochs"], answer.json["kept"]) == (found.history, found.kept)


def test_status_of_a_training(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    data = ("--inputs", place / "test.npz", "--limit", 60)
    done = emulator("train", place / "model.onnx", *data, *SHORT, "-o", tmp_path / "h", "--json").json
    found = emulator("status", tmp_path / "h", "--json").json
    assert found == {
        "training": "model",
        "epochs": 2,
        "done": 2,
        "finished": True,
        "model": done["model"],
        "first": done["epochs"][0],
        "kept": done["kept"],
        "last": done["epochs"][-1],
    }
    assert f"finished: {done['model']}" in emulator("status", tmp_path / "h").out
    (tmp_path / "h/hardened.onnx").unlink()
    text = emulator("status", tmp_path / "h").out
    assert "training of model: 2 of 2 epochs" in text and "not finished" in text
    assert re.search(r"^kept +\d +[\d.]+ % \[.*n = 12.*n = 6 000", text, re.MULTILINE)
    (tmp_path / "h/checkpoint.npz").unlink()
    begun = emulator("status", tmp_path / "h", "--json").json
    assert (begun["done"], begun["first"], begun["last"]) == (0, None, None)
    report = emulator("report", tmp_path / "h")
    assert report.code == 2 and "is a training, not a campaign" in report.err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--max-loss", "much"), "--max-loss much; allowed: a share of 0, up to 100%"),
        (("--tighten", 0), "tighten above 0"),
        (("--sampler", "sweep"), "'sweep'; allowed: importance, uniform"),
        (("--sampler", "nothing"), "'nothing'; allowed: importance, uniform"),
        (("--registers", "pe_z"), "pe_z"),
        (("--limit", 1), "some to train and some to judge"),
    ],
)
def test_bad_settings_are_one_clear_error(
    place: Path, tmp_path: Path, emulator: Emulator, wrong: tuple[Any, ...], words: str
) -> None:
    limit = () if "--limit" in wrong else ("--limit", 20)
    options = ("--inputs", place / "test.npz", *limit, *SHORT, *wrong, "-o", tmp_path / "h")
    answer = emulator("train", place / "model.onnx", *options)
    assert answer.code == 2 or (wrong[0] == "--limit" and answer.code == 4)
    assert words in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.slow
def test_a_killed_training_carries_on_to_the_same_file(place: Path, tmp_path: Path) -> None:
    def started(output: Path) -> subprocess.Popen[bytes]:
        program = Path(sys.executable).with_name("emulator")
        options = ["--limit", "60", *map(str, SHORT), "--epochs", "4", "-o", str(output)]
        command = [program, "train", place / "model.onnx", "--inputs", place / "test.npz", *options]
        return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert started(tmp_path / "whole").wait() == 0
    process = started(tmp_path / "killed")
    while not (tmp_path / "killed/checkpoint.npz").exists():
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/hardened.onnx").exists()
    assert started(tmp_path / "killed").wait() == 0
    files = [(tmp_path / name / "hardened.onnx").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]
