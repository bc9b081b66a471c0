"""The examples of every --help work, announce what they take for the user, and answer --json as documented."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from emulator.campaign.results import Results
from emulator.cli.main import app
from emulator.cli.schemas.registry import ANSWERS, answer_of

Emulator = Callable[..., Any]

GROUP: Any = get_command(app)
MODELS = Path(__file__).parents[2] / "models/digits"

# What an example would spend on a real study.
CHEAPER = {
    "demo": "--trials 100 --limit 2 --workers 1",
    "run": "--trials 300 --limit 5 --workers 1",
    "train": "--epochs 1 --steps 5 --faults 50 --images 10 --limit 100",
    "rank": "--limit 5 --candidates 300",
    "search": "--limit 20 --trials 300",
    "check": "--limit 10",
    "ber": "--limit 4 --trials 8 --rates 1e-9",
}
# Options with a default that plays no part in an example.
QUIET = {
    "inspect": {"--answer"},
    "check": {"--seed"},
    "inject": {"--vcd-before", "--vcd-after"},
    "replay": {"--vcd-before", "--vcd-after"},
    "protect": {"--model", "--inputs"},
    "run": {"--workers"},
    "report": {"--every"},
}


def examples(command: str) -> list[list[str]]:
    """The arguments of each example in the help of a command, without `emulator`; what a shell does is left out."""
    text = inspect.cleandoc(GROUP.commands[command].help)
    found = [
        " ".join(block.split())
        for block in re.findall(r"Example: emulator (.*?)(?:\n\n|\Z)", text, re.DOTALL)
    ]
    return [shlex.split(line.split(" > ")[0]) for line in found]


ALL = [
    pytest.param(arguments, id=" ".join(arguments)[:60])
    for name in GROUP.commands
    for arguments in examples(name)
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, emulator: Emulator) -> Path:
    """What the examples name, of the bundled digits: models, data, campaigns."""
    folder = tmp_path_factory.mktemp("files")
    for name, source in {
        "model_int8.onnx": "digits_cnn_int8.onnx",
        "model.onnx": "digits_cnn_float.onnx",
        "test.npz": "test.npz",
        "train.npz": "test.npz",
    }.items():
        shutil.copy(MODELS / source, folder / name)
    options = ("--limit", 10, "--trials", 1000, "--workers", 1, "-o", folder / "runs/a")
    done = emulator("run", folder / "model_int8.onnx", "--inputs", folder / "test.npz", *options)
    assert done.code == 0, done.err
    for name in ("before", "after"):
        shutil.copytree(folder / "runs/a", folder / "runs" / name)
    return folder


@pytest.fixture
def place(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a copy of `files`, to write into."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_has_an_example_and_a_documented_answer() -> None:
    assert all(examples(name) for name in GROUP.commands)
    assert ANSWERS.keys() == GROUP.commands.keys()


@pytest.mark.parametrize("arguments", ALL)
def test_an_example_parses(arguments: list[str]) -> None:
    name, *rest = arguments
    context = GROUP.commands[name].make_context(name, rest)
    assert context.args == []


@pytest.mark.parametrize("arguments", ALL)
def test_an_example_runs_announces_its_defaults_and_answers_json(
    arguments: list[str], place: Path, emulator: Emulator
) -> None:
    name, *rest = arguments
    if name == "run":
        shutil.rmtree(place / "runs/a")
    if name == "replay":
        rest[1] = str(Results.open(place / "runs/a").trials["fault_id"].iloc[0])
    rest = [*(word for word in rest if word != "--json"), *CHEAPER.get(name, "").split()]
    answer = emulator(name, *rest)
    assert answer.code == 0, answer.err
    assert answer.out
    taken = "".join(line for line in answer.err.splitlines() if line.startswith("defaults taken: "))
    silent = [
        flags
        for flags in defaults(name, emulator)
        if not {*rest, *taken.split(), *QUIET.get(name, ())} & flags
    ]
    assert silent == []
    assert emulator(name, *rest, "--json").json is not None


def defaults(command: str, emulator: Emulator) -> list[set[str]]:
    """The flags of each option that its help gives a default."""
    blocks = re.split(r"\n  (?=-)", emulator(command, "--help").out)[1:]
    shown = [" ".join(block.split()) for block in blocks]
    return [
        set(re.findall(r"(?<=[ ,/])--?[a-z-]+", f" {text}"))
        for text in shown
        if re.search(r"\[default: (?!\(none\))", text)
    ]


# ---- the schemas


def test_the_page_is_made_of_the_schemas(emulator: Emulator) -> None:
    page = Path(__file__).parents[2] / "docs/json.md"
    assert emulator("schema").out == page.read_text(encoding="utf-8")


def test_headings_are_names_of_one_word(emulator: Emulator) -> None:
    """pydantic puts the module before the name of a class that another has too."""
    headings = re.findall(r"^### (.*)$", emulator("schema").out, re.MULTILINE)
    assert [name for name in headings if not name.isalnum()] == []


def test_every_key_is_explained(emulator: Emulator) -> None:
    rows = [line for line in emulator("schema").out.splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    assert [row for row in rows if row.split(" | ")[-1].strip(" |") == ""] == []


@pytest.mark.parametrize("command", list(ANSWERS))
def test_a_schema_refuses_what_is_not_documented(command: str) -> None:
    if command != "schema":  # any JSON Schema
        with pytest.raises(ValueError, match="Extra inputs are not permitted"):
            answer_of(command).validate_json('{"nonsense": 1}')


def test_a_schema_is_json_schema(emulator: Emulator) -> None:
    found = emulator("schema", "search", "--json").json["search"]
    assert found["properties"]["rate"] == {
        "$ref": "#/$defs/Estimate",
        "description": found["properties"]["rate"]["description"],
    }
    assert set(found["$defs"]["Estimate"]["required"]) == {
        "value",
        "low",
        "high",
        "confidence",
        "n",
        "ess",
        "method",
    }
    assert found["additionalProperties"] is False


def test_an_unknown_command_has_no_schema(emulator: Emulator) -> None:
    answer = emulator("schema", "chek")
    assert answer.code == 2
    assert "did you mean 'check'?" in answer.err
