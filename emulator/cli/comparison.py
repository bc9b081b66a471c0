"""Before and after from the command line: compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli import options
from emulator.cli.terminal import and_more, command, say, show, show_json, table

if TYPE_CHECKING:
    from emulator.harden.comparison import Comparison, Group
    from emulator.sampling.estimate import Estimate
    from emulator.sampling.ratio_of_rates import Ratio

TOP = 20
_RATES = {
    "before": "before",
    "after_same_faults": "after, the same faults",
    "after_fresh_faults": "after, fresh faults",
    "after_own_faults": "after, its own faults, not fresh",
    "after_all_faults": "after, all faults",
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
    if it has another --seed; on all faults of two exhaustive ones. Registers and layers: on the same faults.

    Example: emulator compare runs/before runs/after
    """
    from emulator.campaign.results import Results
    from emulator.harden.comparison import compare as run_compare

    found = run_compare(Results.open(before), Results.open(after))
    if found.again is not None and not found.fresh:
        say(
            "warning: both campaigns were drawn with the same --seed: no faults are fresh; run one with another"
        )
    if found.one_network:
        say("warning: both campaigns are of one network: what differs is the luck of the draw")
    if json:
        show_json(found.to_json())
        return
    _show(found)


def _show(found: Comparison) -> None:
    if found.accuracy is not None:
        first, second = found.accuracy
        show(f"accuracy on the campaign's images: {first} before, {second} after")
    rates = found.rates
    rows = [[text, str(rates[name])] for name, text in _RATES.items() if name in rates]
    show(table(["SDC-1 of live sites", "rate"], rows))
    fewer = ", ".join(f"{ratio} of {_faults(name)}" for name, ratio in found.fewer.items())
    show(f"times fewer critical faults: {fewer}")
    of = _faults("all_faults" if found.again is None else "same_faults")
    for key in ("register", "layer"):
        show(f"\nby {key}, of {of}, proven differences first:\n{_groups(key, found.by(key))}")


def _faults(name: str) -> str:
    return _RATES[f"after_{name}"].removeprefix("after, ")


def _groups(key: str, groups: dict[str, Group]) -> str:
    rows = [
        [name, _rate(group.before), _rate(group.after), str(group.fewer), _difference(group.fewer)]
        for name, group in groups.items()
    ]
    header = [key, "before", "after", "times fewer", "difference"]
    return table(header, rows[:TOP]) + and_more(len(rows) - TOP)


def _difference(ratio: Ratio) -> str:
    if not ratio.differs:
        return "not proven"
    return "fewer" if ratio.low > 1 else "more"


def _rate(rate: Estimate) -> str:
    value, low, high = rate.percent()
    return f"{value} % [{low}, {high}]"
