"""What Tab offers, asked as bash, zsh and fish ask: by environment variables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.cli.main import app

BASH = {"_EMULATOR_COMPLETE": "complete_bash"}


def offered(line: str) -> list[str]:
    """The words that bash is told for the last one of a line, which may be empty."""
    words = line.split(" ")
    environment = BASH | {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return CliRunner().invoke(app, [], prog_name="emulator", env=environment).output.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("emulator che", ["check", "checksum"]),
        ("emulator run m.onnx --array gemmini-16", ["gemmini-16", "gemmini-16-ws-only"]),
        ("emulator run m.onnx --sampler s", ["sweep", "stratified"]),
        ("emulator train m.onnx --sampler e", []),  # exhaustive draws nothing
        ("emulator run m.onnx --sensitivity f", ["finite-difference"]),
        ("emulator run m.onnx --workers d", ["dask-local", "dask://"]),
        ("emulator checksum runs/a --check ", ["rows", "columns", "both"]),
        ("emulator protect runs/a --by register", ["register", "register-bit"]),
        ("emulator protect runs/a --only secded,p", ["secded,parity"]),
        ("emulator replay runs/a 12 --engine c", ["closed-form", "cycle"]),
        ("emulator quantize m.onnx --weight u", ["uint8", "uint4"]),
        ("emulator schema tr", ["train"]),
        ("emulator inspect --register", ["--registers"]),
    ],
)
def test_words_that_fit_are_offered(line: str, words: list[str]) -> None:
    assert sorted(offered(line)) == sorted(words)


def test_registers_are_those_of_the_array_named_before() -> None:
    both = {entry.name for entry in inventory(ArraySpec.preset("gemmini-16"))}
    narrow = {entry.name for entry in inventory(ArraySpec.preset("gemmini-16-ws-only"))}
    assert narrow < both
    kinds = {"flip-flop", "sram"}
    assert set(offered("emulator run m.onnx --registers ")) == both | kinds
    assert set(offered("emulator run m.onnx --array gemmini-16-ws-only --registers ")) == narrow | kinds
    assert offered("emulator run m.onnx --array nonsense --registers ") == []


def test_of_a_list_with_commas_the_last_word_is_completed_and_none_twice() -> None:
    assert offered("emulator rank m.onnx --registers pe_b,pe_c") == ["pe_b,pe_c1", "pe_b,pe_c2"]
    assert offered("emulator rank m.onnx --registers pe_c1,pe_c") == ["pe_c1,pe_c2"]


def completing() -> list[Any]:
    group: Any = get_command(app)
    return [
        pytest.param(name, parameter, id=f"{name} {parameter.opts[0]}")
        for name, command in group.commands.items()
        for parameter in command.params
        if parameter.shell_complete is not None and getattr(parameter, "_custom_shell_complete", None)
    ]


@pytest.mark.parametrize(("command", "parameter"), completing())
def test_every_completion_offers_something_and_the_default_is_of_it(command: str, parameter: Any) -> None:
    words = set(
        offered(
            f"emulator {command} {parameter.opts[0]} "
            if parameter.opts[0][0] == "-"
            else f"emulator {command} "
        )
    )
    assert words
    default = parameter.default
    assert default is None or set(str(default).split(",")) <= words


@pytest.mark.parametrize(
    ("shell", "variables"),
    [
        ("bash", {"COMP_WORDS": "emulator run --sampler swe", "COMP_CWORD": "3"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "emulator run --sampler swe"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "emulator run --sampler swe", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_the_installed_command_answers_a_shell(shell: str, variables: dict[str, str]) -> None:
    program = Path(sys.executable).with_name("emulator")
    environment = os.environ | variables | {"_EMULATOR_COMPLETE": f"complete_{shell}"}
    done = subprocess.run([program], env=environment, capture_output=True, text=True)
    assert "sweep" in done.stdout.split() or '"sweep"' in done.stdout
    assert "uniform" not in done.stdout


def test_the_script_for_a_shell_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise the shell above this process decides.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = CliRunner().invoke(app, ["--show-completion", "bash"], prog_name="emulator")
    assert "_EMULATOR_COMPLETE=complete_bash" in done.output
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output
