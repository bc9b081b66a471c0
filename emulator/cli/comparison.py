"""Before and after from the command line: compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli import options
from emulator.cli.terminal import command, show, show_json, table

if TYPE_CHECKING:
    from emulator.harden.comparison import Comparison

_RATES = {
    "before": "before",
    "after_same_faults": "after, the same faults",
    "after_fresh_faults": "after, fresh faults",
    "mended": "critical before only",
    "broken": "critical after only",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(compare)


@command
def compare(
    before: Annotated[Path, typer.Argument(help="directory of a campaign", show_default=False)],
    after: Annotated[Path, typer.Argument(help="the same with the hardened model", show_default=False)],
    json: options.Json = False,
) -> None:
    """How much less vulnerable a network has become.

    Of two campaigns that differ in the network only: on the same faults, and on those of the second, which are fresh
    if it has another --seed.

    Example: emulator compare runs/before runs/after
    """
    from emulator.campaign.results import Results
    from emulator.harden.comparison import compare as run_compare

    found = run_compare(Results.open(before), Results.open(after))
    if json:
        show_json(found.to_json())
        return
    _show(found)


def _show(found: Comparison) -> None:
    if found.accuracy is not None:
        first, second = (f"{100 * accuracy:.2f} %" for accuracy in found.accuracy)
        show(f"accuracy on the campaign's images: {first} before, {second} after")
    rates = found.rates
    show(table(["SDC-1 of live sites", "rate"], [[text, str(rates[name])] for name, text in _RATES.items()]))
    fewer = found.fewer
    show(
        f"times fewer critical faults: {fewer['same_faults']} of the same, {fewer['fresh_faults']} of fresh ones"
    )
    for key in ("register", "layer"):
        rows = [
            [name, *(_rate(group[side]) for side in ("before", "after_fresh_faults")), _times(group["fewer"])]
            for name, group in found.by(key).items()
        ]
        show("\n" + table([key, "before", "after", "times fewer"], rows))


def _rate(estimate: dict[str, float]) -> str:
    return f"{100 * estimate['value']:.3g} % [{100 * estimate['low']:.3g}, {100 * estimate['high']:.3g}]"


def _times(ratio: dict[str, float | None]) -> str:
    value, low, high = (
        "inf" if ratio[end] is None else f"{ratio[end]:.3g}" for end in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"
