"""What every command shares: errors to exit codes, JSON alone on stdout, everything else on stderr."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import typer

P = ParamSpec("P")

INTERRUPTED = 130
NOTHING = "none"
"""The default of an option that does nothing unless it is given."""


def command(function: Callable[P, None]) -> Callable[P, None]:
    """A command whose EmulatorError becomes one line on stderr, with --json an object on stdout too, and its documented
    exit code."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        from emulator.errors import CheckFailed, EmulatorError

        try:
            with warnings.catch_warnings():
                warnings.showwarning = _say_warning
                function(*args, **kwargs)
        except EmulatorError as error:
            # A check that ran to its end has printed what it found.
            json = bool(kwargs.get("json")) and not isinstance(error, CheckFailed)
            raise _failed(f"error: {error}", error.exit_code, json=json) from None
        except KeyboardInterrupt:
            text = "interrupted; finished work is kept, rerun the same command to resume"
            raise _failed(text, INTERRUPTED, json=bool(kwargs.get("json"))) from None
        except BrokenPipeError:
            # The reader of stdout (head, less) went away: that is its right.
            sys.stderr.close()
            raise typer.Exit(0) from None

    return wrapped


def _failed(text: str, exit_code: int, *, json: bool) -> typer.Exit:
    """Told to people, and with --json to programs."""
    say(text)
    if json:
        show_json({"error": text.removeprefix("error: "), "exit_code": exit_code})
    return typer.Exit(exit_code)


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line, without the place in the code, which is nothing to a user of commands."""
    say(f"warning: {message}")


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


COMPILING = "compiling kernels (cached after the first time)"
"""Why nothing happens for a while."""


def say_compiling() -> None:
    """For `telling_of_compiling`."""
    say(COMPILING)


def announce(context: typer.Context, *quiet: str, **known: object) -> None:
    """Every default that was taken for the user, as the flag that overrides it.

    quiet: options that play no part this time. known: what an option without a value of its own came to.
    """
    options = [option for option in context.command.params if option.param_type_name == "option"]
    taken = [
        text
        for option in options
        if option.name not in quiet and (text := _default(context, option, known.get(str(option.name))))
    ]
    if taken:
        say(f"defaults taken: {' '.join(taken)}")


def _default(context: typer.Context, option: Any, known: object) -> str:
    """The flag and its default, "" where the user gave it or where leaving it out chooses nothing."""
    source = context.get_parameter_source(option.name)
    if not option.expose_value or source is None or source.name != "DEFAULT":
        return ""
    value = context.params[option.name] if known is None else known
    if isinstance(value, bool):
        switch = option.opts if value else option.secondary_opts
        return str(switch[0]) if option.secondary_opts else ""
    if value is None or value == () or value == []:
        value = option.show_default if isinstance(option.show_default, str) else NOTHING
    if value == NOTHING:
        return ""
    words = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{max(option.opts, key=len)} {f'({words})' if ' ' in words else words}"


def was_given(context: typer.Context, name: str) -> bool:
    """Did the user give this option?"""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def show(text: str) -> None:
    """A result for people, on stdout."""
    print(text, flush=True)


def show_json(value: dict[str, Any]) -> None:
    """Exactly one JSON object on stdout."""
    from pydantic_core import to_json

    # JSON has no word for infinity and NaN: they are null.
    print(to_json(value, inf_nan_mode="null", fallback=_plain).decode(), flush=True)


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as JSON."""
    return value.tolist()


def counted(number: int, thing: str) -> str:
    """`1 segment`, `2 segments`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns aligned: numbers right, words and the first column left."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    numbers = [i > 0 and all(row[i][:1] in "-0123456789" for row in rows) for i in range(len(header))]

    def line(row: list[str]) -> str:
        cells = zip(row, widths, numbers, strict=True)
        return "  ".join(cell.rjust(w) if number else cell.ljust(w) for cell, w, number in cells).rstrip()

    return "\n".join([line(header), "  ".join("-" * w for w in widths), *(line(row) for row in rows)])


def and_more(left_out: int) -> str:
    """The line below a table that is cut short; nothing where all is in it."""
    return f"\n... and {left_out:,} more (--json has all)" if left_out > 0 else ""
