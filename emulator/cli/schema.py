"""The shape of what --json prints: schema."""

from __future__ import annotations

from typing import Annotated

import typer

from emulator.cli import completion, options
from emulator.cli.terminal import command, show_json


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(schema)


@command
def schema(
    of: Annotated[
        str | None,
        typer.Argument(
            metavar="[COMMAND]",
            help="whose answer",
            show_default="all",
            autocompletion=completion.one_of("emulator.cli.schemas.registry", "ANSWERS"),
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """What --json prints: as a page, or with --json as JSON Schema.

    Example: emulator schema run --json
    """
    from emulator.cli.schemas.page import page
    from emulator.cli.schemas.registry import ANSWERS, answer_of

    commands = list(ANSWERS) if of is None else [of]
    schemas = {name: answer_of(name).json_schema() for name in commands}
    if json:
        show_json(schemas)
    else:
        print(page(commands), end="")
