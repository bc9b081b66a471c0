"""`emulator ber`: curves, file, figure and voltages as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.campaign.error_rates import ErrorRates, Point

Emulator = Callable[..., Any]

OPTIONS = ("--limit", 10, "--trials", 20, "--workers", 1)
ESTIMATE = {"value", "low", "high", "confidence", "n", "ess", "method"}


def ber(place: Path, emulator: Emulator, *more: object) -> Any:
    return emulator("ber", place / "model.onnx", "--inputs", place / "test.npz", *OPTIONS, *more)


def test_json_has_a_curve_for_each_array_and_group(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    groups = ("--registers", "accumulator", "--registers", "pe_a,pe_b", "--rates", "1e-9,1e-7")
    arrays = ("--array", "gemmini-16", "--array", "gemmini-8")
    answer = ber(place, emulator, *groups, *arrays, "--figure", tmp_path / "ber.svg", "--json")
    curves = answer.json["curves"]
    assert list(curves) == [
        *("gemmini-16 accumulator", "gemmini-16 pe_a,pe_b"),
        *("gemmini-8 accumulator", "gemmini-8 pe_a,pe_b"),
    ]
    assert curves["gemmini-8 pe_a,pe_b"]["sites"]["registers"] == ["pe_a", "pe_b"]
    assert curves["gemmini-8 pe_a,pe_b"]["sites"]["array"]["rows"] == 8
    for curve in curves.values():
        assert [point["bit_error_rate"] for point in curve["points"]] == [1e-9, 1e-7]
        for point in curve["points"]:
            assert point["upsets"] == pytest.approx(point["bit_error_rate"] * curve["sites"]["size"])
            assert point["accuracy"].keys() == point["sdc1"].keys() == point["due"].keys() == ESTIMATE
            assert point["accuracy"]["n"] == 20
    assert answer.json["against"] == "labels" and answer.json["inferences"] == 20
    assert "2 on each of the 10 images" in answer.err
    assert (tmp_path / "ber.svg").read_text().startswith("<?xml")


def test_rates_are_chosen_that_span_the_curve(place: Path, emulator: Emulator) -> None:
    found = ber(place, emulator, "--registers", "pe_b", "--json").json["curves"]["pe_b"]["points"]
    live = [point["live_upsets"] for point in found]
    assert 0.1 <= live[0] < 0.4 and 250 < live[-1] <= 1000 and len(live) == 8
    assert found[0]["accuracy"]["value"] > 0.8 > found[-1]["accuracy"]["value"]
    assert all(f"{point['bit_error_rate']:.1e}"[:3] in ("1.0", "3.0") for point in found)


def test_without_labels_answers_are_compared(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    with np.load(place / "test.npz") as data:
        np.savez(tmp_path / "bare.npz", inputs=data["inputs"])
    options = (*OPTIONS, "--registers", "pe_b", "--rates", "1e-300", "--json")
    found = emulator("ber", place / "model.onnx", "--inputs", tmp_path / "bare.npz", *options).json
    assert found["against"] == "fault-free answers" and found["without_upsets"]["value"] == 1
    assert found["curves"]["pe_b"]["points"][0]["accuracy"]["low"] == 1


def test_voltages_take_the_place_of_rates(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "v.csv").write_text("supply_v,bit_error_rate\n0.7,1e-9\n0.61,1e-6\n")
    options = ("--voltage", tmp_path / "v.csv", "--registers", "pe_b")
    text = ber(place, emulator, *options, "--figure", tmp_path / "v.pdf").out
    assert "supply (V)" in text and "\n0.7 " in text and "\n0.61 " in text
    assert (tmp_path / "v.pdf").read_bytes().startswith(b"%PDF")
    found = ber(place, emulator, *options, "--json").json
    assert found["voltages"][0] == {"bit_error_rate": 1e-9, "supply_v": 0.7}
    both = ber(place, emulator, *options, "--rates", "1e-9")
    assert both.code == 2 and "one of them" in both.err


def test_ctrl_c_keeps_what_is_done_and_a_rerun_goes_on(
    place: Path, tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--registers", "pe_b", "--rates", "1e-8,1e-7,1e-6")
    whole = ber(place, emulator, *options, "-o", tmp_path / "whole.json", "--json").json["curves"]
    every = ErrorRates.points

    def interrupted(*given: Any, **named: Any) -> Iterator[tuple[Any, Point]]:
        yield next(every(*given, **named))
        raise KeyboardInterrupt

    file = ("-o", tmp_path / "ber.json")
    with monkeypatch.context() as patch:
        patch.setattr(ErrorRates, "points", interrupted)
        stopped = ber(place, emulator, *options, *file)
    assert stopped.code == 130 and "\n1e-08 " in stopped.out and "\n1e-07 " not in stopped.out
    assert len(json.loads((tmp_path / "ber.json").read_text())["curves"]["pe_b"]["points"]) == 1
    resumed = ber(place, emulator, *options, *file, "--json")
    assert "1 points are there already" in resumed.err
    assert resumed.json["curves"] == whole
    assert (tmp_path / "ber.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    other = ber(place, emulator, *options, *file, "--seed", 5)
    assert other.code == 2 and "seed: stored 0, new 5" in other.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rates", "1e-9,much"), "--rates 1e-9,much"),
        (("--rates", "0"), "allowed: above 0, up to"),
        (("--rates", ","), "no bit-error rates"),
        (("--registers", "pe_q"), "'pe_q' is not in the array"),
        (("--registers", "pe_b", "--registers", "pe_b"), "different ones"),
        (("--figure", "ber.txt"), "ber.txt"),
        (("--limit", "1"), "2 images or more"),
    ],
)
def test_bad_options_are_refused(
    place: Path, emulator: Emulator, options: tuple[object, ...], said: str
) -> None:
    answer = ber(place, emulator, *options)
    assert answer.code == 2 and said in answer.err and answer.out == ""
