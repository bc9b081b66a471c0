"""`inject` beyond a flip that a closed form answers: engines, kinds, hangs, the waveform and the figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
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
    assert "--array gemmini" not in answer.err
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


# ---- faults of every layer, and several at once

STUCK = "register=pe_a row=1 col=2 bit=7 kind=stuck-at-1"


def test_a_stuck_bit_without_a_layer_acts_in_all_of_them(inject: Emulator) -> None:
    found = inject("--fault", STUCK, "--json").json
    assert [layer["engine"] for layer in found["layers"]] == ["closed-form"] * len(found["layers"])
    assert found["layers"][0]["layer_name"] == "conv1" and len(found["layers"]) > 1
    assert all(layer["wrong_accumulators"] > 0 for layer in found["layers"])
    assert found["faults"][0]["layer"] is None and found["faults"][0]["sites"][0]["cycle"] == 0
    assert inject("--fault", f"layer=all {STUCK}", "--json").json["layers"] == found["layers"]
    by_cycles = inject("--fault", STUCK, "--engine", "cycle", "--json").json
    assert {layer.pop("engine") for layer in by_cycles["layers"]} == {"cycle"}
    assert {layer.pop("engine") for layer in found["layers"]} == {"closed-form"}
    assert by_cycles["layers"] == found["layers"] and by_cycles["logits"] == found["logits"]


@pytest.mark.parametrize(
    ("fault", "registers"), [("dead-pe row=3 col=4", 4), ("dead-row row=3", 64), ("dead-column col=4", 64)]
)
def test_dead_parts_are_named_by_a_short_word(fault: str, registers: int, inject: Emulator) -> None:
    found = inject("--fault", fault, "--json").json
    assert len(found["faults"][0]["sites"]) == registers
    assert f"every layer: {fault}, {registers} registers" in inject("--fault", fault).out
    one = inject("--fault", f"{fault} layer=conv1", "--json").json
    assert [layer["engine"] for layer in one["layers"]] == ["closed-form"] + ["fault-free"] * (
        len(one["layers"]) - 1
    )
    assert one["layers"][0] == found["layers"][0]


def test_two_flips_at_once_are_both_struck(inject: Emulator) -> None:
    """In one layer, and in two."""
    first, second = (f"layer=conv1 register=pe_b row=3 col={col} cycle=40 bit=7" for col in (2, 3))
    both = inject("--fault", first, "--fault", second, "--json").json
    alone = [inject("--fault", fault, "--json").json for fault in (first, second)]
    wrong = [len(one["accumulator_error"]) for one in alone]
    assert both["layers"][0]["wrong_accumulators"] == sum(wrong) > 0
    last = inject(
        "--fault", first, "--fault", "layer=fc register=pe_b row=3 col=2 cycle=40 bit=7", "--json"
    ).json
    assert [layer["engine"] for layer in last["layers"]].count("closed-form") == 2


def test_a_lasting_hang_is_a_due(inject: Emulator) -> None:
    stuck = "register=pe_valid row=15 col=0 bit=0 kind=stuck-at-0"
    found = inject("--fault", stuck, "--json").json
    assert found["due"] is True and found["hang"] == 0 and found["top1"]["faulty"] is None
    text = inject("--fault", stuck).out
    assert "layer 0 (conv1): never completes  (engine: cycle)" in text and "DUE" in text


def test_a_lasting_fault_ends_with_what_became_of_the_answer(inject: Emulator) -> None:
    text = inject("--fault", "dead-column col=1").out
    assert "answer: class" in text and "accumulators wrong, largest error" in text
    # Bit 31 of a weight bank is never read.
    assert "masked in the array" in inject("--fault", "register=pe_c1 row=0 col=0 bit=31 kind=stuck-at-1").out


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("register=pe_b row=3 col=2 cycle=40 bit=7", ["a flip of every layer", "Add layer="]),
        ("layer=all register=pe_b row=3 col=2 cycle=40 bit=7", ["a flip of every layer"]),
        ("layer=conv1 register=pe_b row=3 col=2 bit=7", ["without cycle"]),
        ("layer=conv1 register=pe_b row=3 col=2 bit=7 kind=stuck-at-2", ["'stuck-at-2' (did you mean"]),
        ("dead-line row=3", ["'dead-line'", "dead-pe, dead-row, dead-column"]),
        ("dead-row row=3 cycle=5", ["allowed for dead-row: exactly row"]),
        ("dead-row row=16", ["row 16", "0 to 15"]),
        ("dead-row row=x", ["whole numbers"]),
        ("dead-row row=1 row=2", ["'row=2'", "each key once"]),
        (f"{STUCK} cycle=999999", ["cycle 999999", "start"]),
        (f"layer=conv1 {STUCK} cycle=999999", ["cycle 999999"]),
        (f"layer=conv9 {STUCK}", ["'conv9'", "0=conv1"]),
        ("", ["without bit, col, cycle, register, row"]),
    ],
)
def test_a_lasting_fault_that_makes_no_sense_is_one_clear_line(
    fault: str, words: list[str], inject: Emulator
) -> None:
    answer = inject("--fault", fault)
    assert answer.code == 2
    assert answer.err.count("error: ") == 1
    assert [word for word in words if word not in answer.err] == []


@pytest.mark.parametrize("option", ["--vcd", "--figure"])
def test_a_waveform_or_a_figure_shows_one_fault(option: str, tmp_path: Path, inject: Emulator) -> None:
    answer = inject("--fault", STUCK, option, tmp_path / "a.svg")
    assert answer.code == 2 and "allowed: one fault in one word" in answer.err


def test_no_closed_form_together_is_refused(inject: Emulator) -> None:
    valid = "register=pe_valid row=1 col=1 bit=0 kind=stuck-at-0"
    answer = inject("--fault", STUCK, "--fault", valid, "--engine", "closed-form")
    assert answer.code == 2 and "no closed form together" in answer.err
    assert {one["engine"] for one in inject("--fault", STUCK, "--fault", valid, "--json").json["layers"]} == {
        "cycle"
    }


# ---- a file of faults


def test_a_file_of_one_fault_has_its_waveform_and_one_of_two_is_refused(
    place: Path, tmp_path: Path, inject: Emulator
) -> None:
    trials = pq.read_table(place / "runs/a/trials/part-000000.parquet")
    for count in (1, 2):
        pq.write_table(trials.slice(0, count), tmp_path / f"{count}.parquet")
    vcd = tmp_path / "a.vcd"
    (found,) = inject("--faults", tmp_path / "1.parquet", "--vcd", vcd, "--json").json["explanations"]
    assert found["vcd"]["path"] == str(vcd)
    assert found["fault"] in vcd.read_text(encoding="ascii")
    refused = inject("--faults", tmp_path / "2.parquet", "--vcd", vcd)
    assert refused.code == 2
    assert "the 2 faults of" in refused.err and "Keep one row" in refused.err
