"""The `emulator` command: its groups, and how errors become exit codes."""

from __future__ import annotations

from typing import Annotated

import typer

from emulator.cli import (
    checksum,
    comparison,
    error_rates,
    injection,
    inspection,
    machine,
    protection,
    restriction,
    results,
    running,
    schema,
    search,
    training,
    validation,
)

app = typer.Typer(
    name="emulator",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from emulator import __version__

        print(f"emulator {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="show it and exit")
    ] = False,
) -> None:
    """Faults in an int8 systolic accelerator: does the network's answer change?"""


running.register(app)
validation.register(app)
inspection.register(app)
injection.register(app)
results.register(app)
error_rates.register(app)
comparison.register(app)
search.register(app)
training.register(app)
restriction.register(app)
checksum.register(app)
protection.register(app)
machine.register(app)
schema.register(app)


def main() -> None:
    """Entry point of the console script."""
    app()
