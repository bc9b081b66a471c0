"""Before and after from the command line: compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli import options
from emulator.cli.terminal import command, show, show_json, table

if TYPE_CHECKING:
    from emulator.harden.comparison import Comparison
    from emulator.sampling.estimate import Estimate

_RATES = {
    "before": "before",
    "after_same_faults": "after, the same faults",
    "after_fresh_faults": "after, fresh faults",
    "after_all_faults": "after",
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
    if it has another --seed; on all faults of two exhaustive ones.

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
        first, second = found.accuracy
        show(f"accuracy on the campaign's images: {first} before, {second} after")
    seeds = found.before.manifest["seed"], found.after.manifest["seed"]
    if found.again is not None and seeds[0] == seeds[1]:
        show(
            f"warning: both campaigns were drawn with --seed {seeds[0]}: no faults are fresh; run one with another"
        )
    rates = found.rates
    rows = [[text, str(rates[name])] for name, text in _RATES.items() if name in rates]
    show(table(["SDC-1 of live sites", "rate"], rows))
    fewer = ", ".join(f"{ratio} of {name.replace('_', ' ')}" for name, ratio in found.fewer.items())
    show(f"times fewer critical faults: {fewer}")
    for key in ("register", "layer"):
        rows = [
            [name, _rate(group.before), _rate(group.after), str(group.fewer)]
            for name, group in found.by(key).items()
        ]
        show("\n" + table([key, "before", "after", "times fewer"], rows))


def _rate(rate: Estimate) -> str:
    return f"{100 * rate.value:.3g} % [{100 * rate.low:.3g}, {100 * rate.high:.3g}]"
