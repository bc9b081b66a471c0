"""emulator protect: what it prints, what it refuses."""

from __future__ import annotations

import re
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
    assert "--fit-per-mbit 20" in answer.err
    assert found["raw_fit"] == {"flip_flop_fit_per_mbit": 20, "sram_fit_per_mbit": 20, "by_register": {}}
    assert found["max_fit"] is None


@pytest.mark.parametrize("by", ["register", "row-bit", "word", "pe", "layer"])
def test_protect_in_words(place: Path, emulator: Emulator, by: str) -> None:
    answer = emulator("protect", place / "runs/a", "--budget", "50%" if by == "layer" else "2%", "--by", by)
    assert answer.code == 0, answer.err
    parts = (
        "certified, 95 %",
        "too good on average",
        "for 90 % less SDC-FIT",
        "DUE",
        "SDC-FIT of it, as judged",
    )
    for part in (*parts, "trials that judge, as all below"):
        assert part in answer.out
    assert ("flip-flop areas" in answer.out) == (by != "layer")
    assert ("cost (cycles)" in answer.out) == (by == "layer")
    assert "raw rate, every upset counted: 20 FIT/Mbit" in answer.out
    assert "SDC-1 left, of the whole population: " in answer.out
    # FIT in one form: exponents, or 0.
    fit = re.findall(r"(\d\S*)(?: \[(\S+), (\S+)\])? FIT(?!/)", answer.out)
    assert len(fit) >= 5
    assert all(re.fullmatch(r"\d\.\d\de[-+]\d\d|0", number) for each in fit for number in each if number)
    assert max(map(len, answer.out.splitlines())) <= 110


def test_raw_rates_of_a_file(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    """Twice the rate is twice the FIT; where registers differ a site is weighed by its own."""
    once, twice = (
        emulator("protect", place / "runs/a", "--json", *more).json for more in ((), ("--fit-per-mbit", 40))
    )
    assert twice["protected"]["fit"]["value"] == pytest.approx(2 * once["protected"]["fit"]["value"])
    (tmp_path / "fit.toml").write_text("flip-flop = 40\naccumulator = 0\n", encoding="utf-8")
    answer = emulator("protect", place / "runs/a", "--fit", tmp_path / "fit.toml")
    assert "raw rate, every upset counted: flip-flops 40, SRAM 20, accumulator 0 FIT/Mbit" in answer.out
    assert "of the whole population, sites weighed by raw rate: " in answer.out
    assert "--fit-per-mbit" not in answer.err
    both = emulator("protect", place / "runs/a", "--fit", tmp_path / "fit.toml", "--fit-per-mbit", 3)
    assert both.code == 2 and "not with --fit-per-mbit" in both.err


def test_a_limit_in_fit(place: Path, emulator: Emulator) -> None:
    whole = emulator("protect", place / "runs/a", "--json").json["unprotected"]["at_most_fit"]
    found = emulator("protect", place / "runs/a", "--max-fit", whole / 2, "--json").json
    printed = re.search(
        r"the same units as for --budget (\S+)%",
        emulator("protect", place / "runs/a", "--max-fit", whole / 2).out,
    )
    assert printed is not None
    same = emulator("protect", place / "runs/a", "--budget", f"{printed[1]}%", "--json").json
    assert same["chosen"] == found["chosen"]
    assert found["max_fit"] == found["protected"]["at_most_fit"] == whole / 2
    assert 0 < found["protected"]["share"] == found["budget"]
    assert sum(unit["cost"] for unit in found["chosen"]) == pytest.approx(found["budget"] * found["size"])
    answer = emulator("protect", place / "runs/a", "--max-fit", whole / 2)
    assert f"certified to leave at most {whole / 2:.2e} FIT: " in answer.out
    assert re.search(
        r"SDC-FIT removed: .* n = \d+, ESS = \S+; n: trials that judge and change the answer\n", answer.out
    )
    assert "--budget" not in answer.err
    assert "nothing has to be protected" in emulator("protect", place / "runs/a", "--max-fit", 2 * whole).out
    short = emulator("protect", place / "runs/a", "--max-fit", 1e-12)
    assert (short.code, short.out) == (4, "")
    assert "at most 1e-12 FIT can't be certified" in short.err and " FIT at best" in short.err
    told = re.search(
        r"Protecting every unit, \S+ % of area, leaves nothing by construction: --budget (\S+)%", short.err
    )
    assert told is not None
    every = emulator("protect", place / "runs/a", "--budget", f"{told[1]}%").out
    assert "SDC-FIT left: 0, by construction: every unit is protected\n" in every
    assert "at most 0 FIT" not in every
    short = emulator("protect", place / "runs/a", "--max-fit", 1e-12, "--only", "hardened")
    assert short.code == 4 and "construction" not in short.err
    both = emulator("protect", place / "runs/a", "--max-fit", 1, "--budget", "1%")
    assert both.code == 2 and "not with --budget" in both.err


def test_where_nothing_fits_the_cheapest_unit_is_told(place: Path, emulator: Emulator) -> None:
    options = ("--by", "layer", "--budget", "0.1%")
    answer = emulator("protect", place / "runs/a", *options)
    least = emulator("protect", place / "runs/a", *options, "--json").json["cheapest"]
    told = f"the cheapest unit is layer {least['unit']['layer']} with repeat, {least['cost']:.4g} cycles"
    assert "nothing fits 0.1 % of cycles" in answer.out and told in answer.out


def test_checksums_leave_less_to_protect(place: Path, emulator: Emulator) -> None:
    alone = emulator("protect", place / "runs/a", "--json").json
    answer = emulator("protect", place / "runs/a", "--checksum", "rows", "--json")
    beside = answer.json["checksum"]
    assert beside["check"] == "rows" and alone["checksum"] is None
    checked = emulator("checksum", place / "runs/a", "--check", "rows", "--json").json
    assert beside["cost"] == checked["cost"]["rows"]["own"]
    assert beside["due_with_correction"] == checked["rates"]["due_with_correction"]
    assert beside["due"] == checked["rates"]["due"]
    words = emulator("protect", place / "runs/a", "--checksum", "rows").out
    assert (
        f"{beside['cost']['extra_macs']:,} more MACs" in words
        and "DUE of live sites, with checksums: " in words
    )
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
