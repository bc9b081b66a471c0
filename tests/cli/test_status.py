"""status: is a campaign finished, what ended it, and its groups in AVF and FIT."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.campaign.one_writer import only_writer

Emulator = Callable[..., Any]

NOT_MET = r"stopped by 500 trials: half-width [\d.]+ %, not the 0\.01 % asked for"
ANY_TIME = "it may stop on what it finds: the interval holds at any time"


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    """The finished campaign, to be changed."""
    return Path(shutil.copytree(place / "runs/a", tmp_path / "copy"))


def changed(directory: Path, **values: Any) -> None:
    path = directory / "manifest.json"
    manifest = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in manifest.items() if value is not None}))


def test_it_says_whether_a_campaign_is_finished_running_or_interrupted(
    copy: Path, emulator: Emulator
) -> None:
    assert "\nfinished: 1,000 trials; stop: 1,000 trials\n" in emulator("status", copy).out
    found = emulator("status", copy, "--json").json
    rule = {"max_trials": 1000}
    assert (found["state"], found["stop"], found["stopped_by"]) == ("finished", rule, rule)
    with only_writer(copy):
        assert "\nrunning now; stop: 1,000 trials\n" in emulator("status", copy).out
        assert emulator("status", copy, "--json").json["state"] == "running"
    changed(copy, finished_trials=None, stopped_by=None)
    assert f"\ninterrupted: `emulator run {copy}` carries on\n" in emulator("status", copy).out
    found = emulator("status", copy, "--json").json
    assert (found["state"], found["stopped_by"]) == ("interrupted", None)


def test_a_finished_campaign_that_has_lost_trials_is_not_called_finished(
    copy: Path, emulator: Emulator
) -> None:
    next((copy / "trials").iterdir()).unlink()
    assert emulator("status", copy, "--json").json["state"] == "interrupted"


def test_a_run_that_has_just_begun_is_not_advised_to_begin(copy: Path, emulator: Emulator) -> None:
    shutil.rmtree(copy / "trials")
    with only_writer(copy):
        answer = emulator("status", copy)
    assert (answer.code, "a run is at work here and has no trials yet" in answer.err) == (4, True)
    assert "Run the campaign" in emulator("status", copy).err


def test_run_and_status_say_that_a_width_was_not_reached(
    place: Path, tmp_path: Path, emulator: Emulator
) -> None:
    options = ("--limit", 2, "--workers", 1, "-o", tmp_path / "short", "--inputs", place / "test.npz")
    ran = emulator("run", place / "model.onnx", *options, "--until-ci", "0.01%", "--trials", 500)
    asked = emulator("status", tmp_path / "short")
    for answer in (ran, asked):
        assert re.search(NOT_MET, answer.out) and ANY_TIME in answer.out
    found = emulator("status", tmp_path / "short", "--json").json
    assert found["stopped_by"] == {"max_trials": 500}
    assert found["stop"] == {"any": [{"max_trials": 500}, {"ci_half_width": 0.0001}]}
    wide = emulator("run", place / "model.onnx", *options, "-o", tmp_path / "w", "--until-ci", "40%")
    assert "stopped by" not in wide.out
    assert emulator("status", tmp_path / "w", "--json").json["stopped_by"] == {"ci_half_width": 0.4}


def test_it_has_the_sdc_in_fit_at_these_raw_rates(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    answer = emulator("status", place / "runs/a")
    assert "they need not add up to 100 %" in answer.out
    assert "defaults taken: --fit-per-mbit 20.0" in answer.err
    assert re.search(r"SDC in FIT, at 20 FIT/Mbit raw: \S+ \[\S+, \S+\] FIT", answer.out)
    default = emulator("status", place / "runs/a", "--json").json
    double = emulator("status", place / "runs/a", "--fit-per-mbit", 40, "--json").json
    assert double["fit"] == {end: pytest.approx(2 * value) for end, value in default["fit"].items()}
    rates = tmp_path / "raw.toml"
    rates.write_text("sram = 3\naccumulator = 0\n")
    found = emulator("status", place / "runs/a", "--fit", rates, "--json").json
    assert found["raw_fit"]["by_register"] == {"accumulator": 0}
    assert found["fit"]["value"] < default["fit"]["value"]


@pytest.mark.parametrize("key", ["register", "layer", "bit"])
def test_groups_come_with_avf_and_fit_those_first_that_prove_most(
    place: Path, tmp_path: Path, emulator: Emulator, key: str
) -> None:
    found = emulator("status", place / "runs/a", "--by", key, "--json").json
    groups = found["by"].values()
    assert sum(group["share"] for group in groups) == pytest.approx(1)
    fits = [group["fit"]["value"] for group in groups if group["fit"]["value"] is not None]
    assert sum(fits) == pytest.approx(found["fit"]["value"], rel=0.3)
    told = emulator("status", place / "runs/a", "--by", key).out.split("\n\n")[1].splitlines()
    assert re.split("  +", told[0].strip()) == [key, "part of SDC-1", "AVF", "SDC-FIT", "n"]
    assert len(told) <= 13 and told[2].split()[0] == next(iter(found["by"]))
    rates = tmp_path / "raw.toml"
    rates.write_text("accumulator = 0\n")
    weighed = emulator("status", place / "runs/a", "--by", key, "--fit", rates)
    assert "part of SDC-FIT" in weighed.out and "\naccumulator " not in weighed.out


def test_of_groups_only_these(place: Path, emulator: Emulator) -> None:
    answer = emulator("status", place / "runs/a", "--by", "registr")
    assert (answer.code, "did you mean 'register'?" in answer.err) == (2, True)


# ---- what was silent


def test_a_damaged_part_is_set_aside_with_a_word(copy: Path, emulator: Emulator) -> None:
    part = sorted((copy / "trials").iterdir())[0]
    part.write_bytes(part.read_bytes()[:-100])
    answer = emulator("run", copy, "--workers", 1)
    assert answer.code == 0
    assert answer.err.count(f"set aside as {part.name}.corrupt") == 1


def test_a_limit_above_what_the_file_has_is_told(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    options = ("--inputs", place / "test.npz", "--dry-run", "-o", tmp_path / "x")
    told = emulator("run", place / "model.onnx", *options, "--limit", 20_000).err
    assert re.search(r"warning: limit 20,000: \S+test\.npz has [\d,]+ samples, all are taken", told)
    assert "limit 20" not in emulator("run", place / "model.onnx", *options, "--limit", 20).err.split("\n")[0]


def test_trials_without_manifest_are_not_to_be_emptied(copy: Path, place: Path, emulator: Emulator) -> None:
    (copy / "manifest.json").unlink()
    options = ("--inputs", place / "test.npz", "-o", copy)
    for answer in (emulator("run", place / "model.onnx", *options), emulator("status", copy)):
        assert answer.code == 2 and "empty it" not in answer.err
        assert re.search("has trials and no manifest.json.*nothing was written. Restore it", answer.err)
    assert list((copy / "trials").iterdir())


def test_two_campaigns_of_one_network_are_told(place: Path, emulator: Emulator) -> None:
    answer = emulator("compare", place / "runs/a", place / "runs/a")
    assert "warning: both campaigns are of one network: what differs is the luck of the draw" in answer.err
    assert not re.search(r"% \[[\d.]+e-|\d\.\d{5,} %", answer.out)


def test_inspect_ends_with_all_raw_rates(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    rates = tmp_path / "raw.toml"
    rates.write_text("flip-flop = 15\nsram = 3\naccumulator = 0\n")
    told = emulator("inspect", place / "model.onnx", "--fit", rates).out
    assert "every upset counted, flip-flops 15, SRAM 3, accumulator 0 FIT/Mbit; times" in told


def test_misspelt_names_are_hinted_at_without_all_of_them(
    place: Path, tmp_path: Path, emulator: Emulator
) -> None:
    rates = tmp_path / "raw.toml"
    rates.write_text("acumulator = 0\n")
    wrong = emulator("status", place / "runs/a", "--fit", rates)
    assert wrong.code == 2
    assert "did you mean 'accumulator'?); allowed: flip-flop, sram, pe_" in wrong.err
    assert "... (all: `emulator inspect --registers`)" in wrong.err
    options = ("--inputs", place / "test.npz", "-o", tmp_path / "x")
    register = emulator("run", place / "model.onnx", *options, "--registers", "acumulator")
    assert (register.code, len(register.err) < 400) == (2, True)
    sampler = emulator("run", place / "model.onnx", *options, "--sampler", "importnce")
    assert (sampler.code, "'importnce' (did you mean 'importance'?)" in sampler.err) == (2, True)
