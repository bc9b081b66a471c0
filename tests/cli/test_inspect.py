"""What `inspect` tells of a network, an array, and the presets, with and without --json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.array.fit import RawFit
from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.cli.inspection import RAW_FIT

Emulator = Callable[..., Any]


def test_layers_and_network_have_both_conventions(place: Path, emulator: Emulator) -> None:
    found = emulator("inspect", place / "model.onnx", "--json").json
    for of in (*found["layers"], found):
        assert of["conventions"].keys() == {"gemmini", "scale-sim"}
        for cost in of["conventions"].values():
            assert cost.keys() == {"cycles", "utilisation", "milliseconds"}
            assert 0 < cost["utilisation"] < 1
        assert of["conventions"]["gemmini"]["cycles"] == of["cycles"]
    for key in ("cycles", "window_cycles"):
        assert found[key] == sum(layer[key] for layer in found["layers"])
    assert found["conventions"]["gemmini"]["milliseconds"] == pytest.approx(1e3 * found["seconds"])


def test_exposure_adds_up_to_the_fault_space(place: Path, emulator: Emulator) -> None:
    found = emulator("inspect", place / "model.onnx", "--json").json
    registers = found["registers"]
    assert [r["name"] for r in registers] == [e.name for e in inventory(ArraySpec.preset("gemmini-16"))]
    assert sum(r["bit_cycles"] for r in registers) == found["space_size"]
    assert sum(r["live"] for r in registers) == found["live"]
    for r in registers:
        assert r["bit_cycles"] == r["bits"] * found["window_cycles"]
        parts = [part for part in found["breakdown"] if part["register"] == r["name"]]
        assert sum(part["live"] for part in parts) == r["live"]
        assert r["raw_fit"] == pytest.approx(r["bits"] * 20e-6)
    assert found["campaigns_refused"] is None


def test_raw_fit_comes_from_a_file(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "fit.toml").write_text("flip-flop = 75\nsram = 10\naccumulator = 0\n", encoding="utf-8")
    options = ("--fit", tmp_path / "fit.toml", "--json")
    found = emulator("inspect", place / "model.onnx", *options).json
    rate = {r["name"]: r["raw_fit_per_mbit"] for r in found["registers"]}
    assert (rate["pe_a"], rate["act_buffer"], rate["accumulator"]) == (75.0, 10.0, 0.0)
    assert found["raw_fit"]["by_register"] == {"accumulator": 0.0}
    without_model = emulator("inspect", "--registers", *options).json
    assert {r["name"]: r["raw_fit_per_mbit"] for r in without_model["registers"]} == rate


@pytest.mark.parametrize("array", ["gemmini-16", "tpu-v1"])
def test_registers_need_no_model(array: str, emulator: Emulator) -> None:
    found = emulator("inspect", "--registers", "--array", array, "--json").json
    assert found["array"] == array
    assert sum(total["bits"] for total in found["storage"].values()) == sum(
        r["bits"] for r in found["registers"]
    )
    first = found["registers"][0]
    assert first["name"] == "pe_a"
    assert first["never_live"] is False
    assert "live_share" not in first
    text = emulator("inspect", "--registers", "--array", array).out
    for r in found["registers"]:
        assert f"\n{r['name']} " in text
        assert r["meaning"] in text
    assert "flip-flop: " in text
    assert "sram: " in text


def test_registers_of_a_model_have_a_live_share(place: Path, emulator: Emulator) -> None:
    answer = emulator("inspect", place / "model.onnx", "--registers")
    line = next(line for line in answer.out.splitlines() if line.startswith("seq_pc "))
    assert line.endswith("100.00 %")
    line = next(line for line in answer.out.splitlines() if line.startswith("transposer "))
    assert line.endswith(" 0.00 %")


def test_the_rates_that_are_announced_are_those_that_are_taken() -> None:
    raw = RawFit()
    assert raw.flip_flop_fit_per_mbit == raw.sram_fit_per_mbit
    assert f"{raw.sram_fit_per_mbit:g} for all" == RAW_FIT


def test_the_page_of_registers_is_the_one_in_docs(emulator: Emulator) -> None:
    page = Path(__file__).parents[2] / "docs/registers.md"
    assert emulator("inspect", "--registers", "--markdown").out == page.read_text(encoding="utf-8")


def test_arrays_lists_every_preset(emulator: Emulator) -> None:
    found = emulator("inspect", "--arrays", "--json").json
    assert {"gemmini-16", "tpu-v1", "edge-64"} <= {a["name"] for a in found["arrays"]}
    answer = emulator("inspect", "--arrays")
    assert all(f"\n{a['name']} " in answer.out for a in found["arrays"])
    assert max(len(line) for line in answer.out.splitlines()) <= 100


def test_an_array_without_campaigns_is_still_told_of(place: Path, emulator: Emulator) -> None:
    answer = emulator("inspect", place / "model.onnx", "--array", "tpu-v1", "--json")
    assert answer.code == 0
    assert "note: campaigns refuse this array" in answer.err
    assert "fixed-point" in answer.json["campaigns_refused"]
    assert answer.json["layers"][0]["folds"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["Usage: ", "MODEL", "--registers", "--arrays"]),
        (["--markdown"], ["MODEL"]),
        (["--registers", "--markdown", "--json"], ["--markdown"]),
        (["--registers", "--array", "tpu"], ["'tpu'", "allowed"]),
        (["--registers", "--fit", "absent.toml"], ["'absent.toml'", "can't be read"]),
    ],
)
def test_bad_usage_is_said_in_one_go(arguments: list[str], words: list[str], emulator: Emulator) -> None:
    answer = emulator("inspect", *arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert [word for word in words if word not in answer.err] == []


def test_a_bad_fit_file_names_all_its_mistakes(tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "fit.toml").write_text("pe_z = 3\nsram = -1\n", encoding="utf-8")
    answer = emulator("inspect", "--registers", "--fit", tmp_path / "fit.toml")
    assert answer.code == 2
    assert "'pe_z'" in answer.err
    assert "sram = -1" in answer.err
