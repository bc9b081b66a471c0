"""What every command has from `terminal`: one JSON object, and defaults as flags."""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from emulator.cli.terminal import announce, show_json


def test_json_has_no_word_for_nan_and_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {"a": [np.float32(0.5), np.nan, -np.inf], "b": np.arange(2), "c": "é", "d": {3: np.int64(4)}}
    show_json(shown)
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": [0.5, None, None], "b": [0, 1], "c": "é", "d": {"3": 4}}
    assert out.count("\n") == 1


def said(*arguments: str, quiet: tuple[str, ...] = (), **known: Any) -> str:
    app = typer.Typer()

    @app.command()
    def command(
        context: typer.Context,
        number: Annotated[int, typer.Option("--number", "-n")] = 3,
        words: Annotated[str | None, typer.Option(show_default="all of them")] = None,
        file: Annotated[str | None, typer.Option()] = None,
        several: Annotated[list[str] | None, typer.Option()] = None,
        two_ways: Annotated[bool, typer.Option("--this/--that")] = False,
        switch: Annotated[bool, typer.Option("--switch")] = False,
    ) -> None:
        announce(context, *quiet, **known)

    return CliRunner().invoke(app, list(arguments)).stderr.strip()


def test_defaults_are_flags_and_those_that_choose_nothing_are_not_told() -> None:
    assert said() == "defaults taken: --number 3 --words (all of them) --that"


def test_what_was_given_is_no_default_even_if_it_is_the_same() -> None:
    assert said("-n", "3", "--words", "a") == "defaults taken: --that"
    assert said("-n", "3", "--words", "a", "--this") == ""


def test_a_command_knows_better_what_plays_a_part() -> None:
    assert said(quiet=("number", "two_ways"), words="a", file="b") == "defaults taken: --words a --file b"


def test_a_long_table_of_groups_is_cut_and_says_so() -> None:
    from emulator.cli.comparison import _groups
    from emulator.harden.comparison import Group
    from emulator.sampling.estimators import proportion
    from emulator.sampling.ratio_of_rates import ratio_of_rates

    some, fewer = proportion([1] * 50 + [0] * 50), proportion([1] * 10 + [0] * 90)
    same, apart = (Group(some, after, ratio_of_rates(some, after)) for after in (some, fewer))
    lines = _groups("register", {f"r{i}": apart if i < 3 else same for i in range(23)}).splitlines()
    assert len(lines) == 2 + 20 + 1 and lines[-1] == "... and 3 more (--json has all)"
    assert [line.split()[-1] for line in lines[2:7]] == ["fewer"] * 3 + ["proven"] * 2
    assert "more" not in _groups("register", {"r": same})
