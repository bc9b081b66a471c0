"""The `emulator` command: its groups, and how errors become exit codes."""

from __future__ import annotations

import typer

from emulator.cli import inspection, results, running

app = typer.Typer(
    name="emulator",
    help="Faults in an int8 systolic accelerator: does the network's answer change?",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
running.register(app)
inspection.register(app)
results.register(app)


def main() -> None:
    """Entry point of the console script."""
    app()
