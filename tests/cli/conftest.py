"""The command line as a user meets it: arguments in, exit code, stdout and stderr out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from emulator.cli.main import app
from emulator.cli.schemas.registry import answer_of

MODELS = Path(__file__).parents[2] / "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command left behind."""

    command: str
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """stdout, which must be one JSON object of the documented shape and nothing else."""
        value = json.loads(self.out, parse_constant=_no_number)
        assert isinstance(value, dict)
        assert self.out.count("\n") == 1
        answer_of(self.command).validate_json(self.out)
        return value


def _no_number(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


Emulator = Callable[..., Answer]


def call(*arguments: object) -> Answer:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    # Whatever is not an exit is what a user would see as a traceback.
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(command=str(arguments[0]), code=result.exit_code, out=result.stdout, err=result.stderr)


@pytest.fixture(scope="session")
def emulator() -> Emulator:
    return call


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.onnx and test.npz (digits), and the finished campaign `runs/a` of 1,000 trials."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copy(MODELS / "digits/digits_cnn_int8.onnx", folder / "model.onnx")
    shutil.copy(MODELS / "digits/test.npz", folder / "test.npz")
    options = ("--limit", 20, "--trials", 1000, "--workers", 1, "-o", folder / "runs/a")
    done = call("run", folder / "model.onnx", "--inputs", folder / "test.npz", *options)
    assert done.code == 0, done.err
    return folder
