"""emulator protect: what it prints, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Emulator = Callable[..., Any]


def test_protect(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    figure = tmp_path / "curve.svg"
    answer = emulator("protect", place / "runs/a", "--budget", "5%", "--figure", figure, "--json")
    found = answer.json
    assert answer.code == 0
    assert found["share_of_array_storage"] == 1.0
    assert 0 < found["protected"]["share"] <= 0.05
    assert found["protected"]["at_most_fit"] >= found["protected"]["fit"]["value"]
    assert [point["budget"] for point in found["pareto"]] == [0.01, 0.05, 0.1, 0.25]
    assert list(found["smallest"]) == ["50 %", "90 %", "99 %"]
    cost = sum(unit["cost"] for unit in found["chosen"])
    assert cost == pytest.approx(found["protected"]["share"] * found["size"])
    assert figure.read_text(encoding="utf-8").startswith("<?xml")
    assert "--by register-bit --techniques (the built-in one) --only parity,secded,tmr,hardened" in answer.err


@pytest.mark.parametrize("by", ["register", "row-bit", "word", "pe", "layer"])
def test_protect_in_words(place: Path, emulator: Emulator, by: str) -> None:
    answer = emulator("protect", place / "runs/a", "--budget", "0.2", "--by", by)
    assert answer.code == 0, answer.err
    for part in ("certified, 95 %", "too good, they chose", "for 90 % less SDC-FIT", "DUE"):
        assert part in answer.out
    assert ("flip-flop areas" in answer.out) == (by != "layer")


def test_checksums_leave_less_to_protect(place: Path, emulator: Emulator) -> None:
    alone = emulator("protect", place / "runs/a", "--json").json
    answer = emulator("protect", place / "runs/a", "--checksum", "rows", "--json")
    assert answer.json["checksum"] == "rows" and alone["checksum"] is None
    left, whole = (run["unprotected"]["residual"]["value"] for run in (answer.json, alone))
    assert 0 < left < whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", "much"), "allowed: a share above 0, up to 100%, such as 5% or 0.05"),
        (("--budget", "-1%"), "allowed: a share above 0"),
        (("--budget", "5"), "allowed: a share above 0, up to 100%"),
        (("--by", "nibble"), "allowed: register, register-bit"),
        (("--only", "partiy"), "did you mean 'parity'?"),
        (("--techniques", "none.toml"), "can't be read"),
        (("--figure", "curve.txt"), "Change the ending"),
        (("--checksum", "diagonals"), "allowed: rows, columns, both"),
    ],
)
def test_bad_options_are_one_line(
    place: Path, emulator: Emulator, options: tuple[str, str], message: str
) -> None:
    answer = emulator("protect", place / "runs/a", *options)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ") and message in answer.err


def test_a_sweep_is_sent_back(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    options = ("--limit", 1, "--sampler", "sweep", "--trials", 200, "--registers", "pe_b", "--workers", 1)
    run = emulator(
        "run", place / "model.onnx", "--inputs", place / "test.npz", *options, "-o", tmp_path / "s"
    )
    assert run.code == 0, run.err
    for by, message in (("register", "has judged some"), ("bit", "allowed here: register, layer")):
        answer = emulator("protect", tmp_path / "s", "--by", by)
        assert answer.code == 2 and message in answer.err
