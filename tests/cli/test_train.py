"""train and compare as a user meets them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    options = (*data, "--limit", 15, "--trials", 300, "--workers", 1, "--registers", "accumulator")
    emulator("run", place / "model.onnx", *options, "-o", tmp_path / "a")
    emulator("run", found["model"], *options, "--seed", 5, "-o", tmp_path / "b")
    rates = emulator("compare", tmp_path / "a", tmp_path / "b", "--json").json
    assert rates["rates"].keys() == {"before", "after_same_faults", "after_fresh_faults", "mended", "broken"}
    assert rates["accuracy"].keys() == {"before", "after"}
    text = emulator("compare", tmp_path / "a", tmp_path / "b").out
    assert "after, the same faults" in text and "of the same faults, " in text and "of fresh faults" in text
    assert "by layer, of the same faults:" in text and "difference" in text
    itself = emulator("compare", tmp_path / "a", tmp_path / "a").out
    assert (
        "warning: both" in itself and "its own faults, not fresh" in itself and "fresh faults" not in itself
    )
    assert "not shown" in itself and " inf" not in itself and " nan" not in itself
    report = emulator("report", tmp_path / "b", "--compare", tmp_path / "a", "--json").json["report"]
    assert "campaign on model" in Path(report).read_text()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
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
