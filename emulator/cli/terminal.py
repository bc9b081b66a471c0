"""What every command shares: errors to exit codes, JSON alone on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import typer

P = ParamSpec("P")

INTERRUPTED = 130


def command(function: Callable[P, None]) -> Callable[P, None]:
    """A command whose EmulatorError becomes one line on stderr and its documented exit code."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        from emulator.errors import EmulatorError

        try:
            function(*args, **kwargs)
        except EmulatorError as error:
            say(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            say("interrupted; finished work is kept, rerun the same command to resume")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of stdout (head, less) went away: that is its right.
            sys.stderr.close()
            raise typer.Exit(0) from None

    return wrapped


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def announce(**settings: object) -> None:
    """What a command runs with, each as the flag that changes it."""
    flags = (f"--{name.replace('_', '-')} {value}" for name, value in settings.items() if value is not None)
    say(f"with {' '.join(flags)}")


def show(text: str) -> None:
    """A result for people, on stdout."""
    print(text, flush=True)


def show_json(value: dict[str, Any]) -> None:
    """Exactly one JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as JSON."""
    return value.tolist()


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns aligned: numbers right, words and the first column left."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    numbers = [i > 0 and all(row[i][:1] in "-0123456789" for row in rows) for i in range(len(header))]

    def line(row: list[str]) -> str:
        cells = zip(row, widths, numbers, strict=True)
        return "  ".join(cell.rjust(w) if number else cell.ljust(w) for cell, w, number in cells).rstrip()

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *(line(row) for row in rows)])
