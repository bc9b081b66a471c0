"""`inject` beyond a flip that a closed form answers: engines, kinds, hangs, the waveform and the figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Emulator = Callable[..., Any]

FAULT = "layer=conv1 register=pe_b row=3 col=2 cycle=40 bit=7"
HANG = "layer=conv1 register=seq_active row=0 col=0 cycle=20 bit=0"


@pytest.fixture
def inject(place: Path, emulator: Emulator) -> Emulator:
    return lambda *options: emulator("inject", place / "model.onnx", "--inputs", place / "test.npz", *options)


@pytest.mark.parametrize(
    ("fault", "engine"),
    [
        (FAULT, "closed-form"),
        (f"{FAULT},9", "cycle"),
        (f"{FAULT} kind=stuck-at-1 until_cycle=43", "cycle"),
        (f"{FAULT} kind=stuck-at-0", "cycle"),
        (HANG, "cycle"),
    ],
)
def test_auto_takes_the_closed_form_where_there_is_one(fault: str, engine: str, inject: Emulator) -> None:
    answer = inject("--fault", fault, "--json")
    assert answer.json["engine"] == engine
    assert "--engine auto" in answer.err


def test_several_bits_are_all_struck(inject: Emulator) -> None:
    found = inject("--fault", f"{FAULT},9", "--json").json
    assert found["site"]["bits"] == [7, 9]
    # Flips of two bits of a partial sum: +-2^7 and +-2^9.
    assert abs(found["accumulator_error"][0]["delta"]) in (512 + 128, 512 - 128)


def test_a_hang_is_a_due(inject: Emulator) -> None:
    assert inject("--fault", HANG, "--json").json["due"] is True
    assert "DUE: the layer never completes" in inject("--fault", HANG).out


def test_a_waveform_and_a_figure_are_written_where_asked_for(tmp_path: Path, inject: Emulator) -> None:
    vcd, figure = tmp_path / "a.vcd", tmp_path / "a.svg"
    options = ("--vcd", vcd, "--vcd-before", 5, "--vcd-after", 10, "--figure", figure, "--json")
    answer = inject("--fault", FAULT, *options)
    assert answer.json["vcd"] == {"path": str(vcd), "first_cycle": 35, "last_cycle": 50}
    assert answer.json["figure"] == str(figure)
    text = vcd.read_text(encoding="ascii")
    assert "$enddefinitions $end\n#35\n" in text
    assert "layer=0 register=pe_b row=3 col=2 cycle=40 bit=7" in text
    assert text.endswith("#51\n")
    assert "pe_b[3, 2]" in figure.read_text(encoding="utf-8")
    assert f"waveform: {vcd}, cycles 35 to 50, by the cycle engine" in answer.err


def test_without_the_options_no_file_is_named(inject: Emulator) -> None:
    assert not {"vcd", "figure"} & inject("--fault", FAULT, "--json").json.keys()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--figure", "a.bmp"], ["'a.bmp'", ".png, .svg, .pdf"]),
        (["--figure", "absent/a.png"], ["'absent' is not a folder"]),
        (["--vcd", "absent/a.vcd"], ["'absent' is not a folder"]),
        (["--vcd-before", "-1", "--vcd", "a.vcd"], ["'--vcd-before'", "0"]),
    ],
)
def test_a_bad_file_is_refused_before_anything_is_run(
    options: list[str], words: list[str], inject: Emulator
) -> None:
    answer = inject("--fault", FAULT, *options)
    assert answer.code == 2
    assert answer.out == ""
    assert "with --array" not in answer.err
    assert [word for word in words if word not in answer.err] == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (f"{FAULT} kind=stuck", ["'stuck'", "flip, stuck-at-0, stuck-at-1"]),
        (f"{FAULT} until_cycle=50", ["until_cycle=50", "flip"]),
        (f"{FAULT} kind=stuck-at-1 until_cycle=3", ["until_cycle=3", "40"]),
        (f"{FAULT},7", ["(7, 7)", "distinct"]),
        (f"{FAULT},x", ["whole numbers"]),
        (f"{FAULT} engine=cycle", ["engine", "kind and until_cycle"]),
    ],
)
def test_a_fault_that_makes_no_sense_is_one_clear_line(
    fault: str, words: list[str], inject: Emulator
) -> None:
    answer = inject("--fault", fault)
    assert answer.code == 2
    assert answer.err.count("error: ") == 1
    assert [word for word in words if word not in answer.err] == []


def test_a_closed_form_that_does_not_exist_is_refused_with_a_way_out(inject: Emulator) -> None:
    answer = inject("--fault", f"{FAULT},9", "--engine", "closed-form")
    assert answer.code == 2
    assert "--engine auto or cycle" in answer.err
