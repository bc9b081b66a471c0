"""`emulator checksum`: what a user reads, what a program reads, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.campaign.results import Results
from emulator.harden.checksum_coverage import coverage
from emulator.sampling.estimate import Estimate

Emulator = Callable[..., Any]


@pytest.mark.parametrize("check", ["rows", "columns", "both"])
def test_json_is_what_python_says(check: Any, place: Path, emulator: Emulator) -> None:
    answer = emulator("checksum", place / "runs/a", "--check", check, "--json")
    assert answer.code == 0
    found = answer.json
    cost = found.pop("cost")
    assert found == coverage(Results.open(place / "runs/a"), check).to_json()
    assert cost.keys() == {"rows", "columns", "both"}
    assert cost["both"].keys() == {"own", "own_wide", "same", "same_wide"}
    assert cost["both"]["own"]["macs"] == 8192
    assert cost["both"]["own"]["mac_share"] == cost["both"]["own"]["extra_macs"] / 8192


def test_text_has_each_register_class_all_of_them_and_the_cost(place: Path, emulator: Emulator) -> None:
    answer = emulator("checksum", place / "runs/a")
    found = emulator("checksum", place / "runs/a", "--json").json
    lines = answer.out.splitlines()
    asked = ("wrong", "detected", "corrected", "sdc1", "sdc1_with_detection", "sdc1_with_correction")
    few = " ".join(answer.out.split()).partition("too few trials to tell anything: ")[2]
    for name, rates in found["by_register"].items():
        known = any(rates[event]["high"] - rates[event]["low"] < 0.9 for event in asked)
        assert sum(line.startswith(f"{name} ") for line in lines) == 2 * known, name
        assert (f"{name} ({rates['sdc1']['n']})" in few) == (not known)
    for name in ("rows", "columns", "both"):
        assert sum(line.split()[:1] == [name] for line in lines) == 4
    rate = found["rates"]["sdc1_with_detection"]
    row = next(line for line in lines if line.startswith("of live sites: SDC-1 with detection"))
    value, low, high = Estimate(**rate).percent()
    assert [float(x) for x in re.findall(r"[\d.]+", row.split("detection")[1])[:3]] == [
        *map(float, (value, low, high))
    ]
    assert row.split()[-2] == f"{rate['n']:,}"
    assert max(map(len, lines)) <= 101
    assert answer.err == "defaults taken: --check both --model (as recorded) --inputs (as recorded)\n"


def test_a_wrong_check_and_a_campaign_that_counts_are_one_line(place: Path, emulator: Emulator) -> None:
    wrong = emulator("checksum", place / "runs/a", "--check", "diagonals")
    assert wrong.code == 2
    assert wrong.err == "error: check 'diagonals'; allowed: rows, columns, both. Choose one of them.\n"
    options = (
        "--limit",
        1,
        "--layers",
        "fc",
        "--registers",
        "pe_b",
        "--workers",
        1,
        "-o",
        place / "runs/all",
    )
    done = emulator(
        "run", place / "model.onnx", "--inputs", place / "test.npz", "--sampler", "exhaustive", *options
    )
    assert done.code == 0, done.err
    counted = emulator("checksum", place / "runs/all")
    assert counted.code == 2
    assert counted.err.startswith("error: checksums on a campaign with the sampler 'exhaustive'")
    assert counted.err.count("\n") == 1
