"""Checksums from the command line: checksum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, get_args

import typer

from emulator.cli import completion, options
from emulator.cli.terminal import announce, command, show, show_json, table

if TYPE_CHECKING:
    from emulator.harden.checksum_cost import ChecksumCost
    from emulator.harden.checksum_coverage import Coverage
    from emulator.sampling.estimate import Estimate
    from emulator.sampling.workbench import Workbench


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(checksum)


@command
def checksum(
    context: typer.Context,
    directory: options.Directory,
    check: Annotated[
        str,
        typer.Option(
            "--check",
            help="rows, columns or both",
            autocompletion=completion.one_of("emulator.harden.checksum", "CHECKS"),
        ),
    ] = "both",
    model: options.ModelNow = None,
    inputs: options.InputsNow = None,
    json: options.Json = False,
) -> None:
    """What checksums of the products would see, correct and cost.

    Example: emulator checksum runs/a --check both
    """
    from emulator.campaign.results import Results
    from emulator.choices import one_of
    from emulator.harden.checksum import CHECKS
    from emulator.harden.checksum_coverage import coverage_of, reopened_for

    chosen = one_of(CHECKS, check, "check")
    results = Results.open(directory)
    bench = reopened_for(results, model=model, inputs=inputs)
    announce(context)
    covered = coverage_of(results, bench, chosen)
    costs = _costs(bench)
    if json:
        plain = {name: {k: cost.to_json() for k, cost in of.items()} for name, of in costs.items()}
        show_json(covered.to_json() | {"cost": plain})
        return
    show(_coverage_table(covered))
    show(_summary(covered))
    show(_cost_table(costs))


def _costs(bench: Workbench) -> dict[str, dict[str, ChecksumCost]]:
    """By check, then by where it is computed."""
    from emulator.harden.checksum import Check
    from emulator.harden.checksum_cost import Pass, network_cost

    layers = bench.network.graph.layers
    return {
        check: {
            f"{where}{'_wide' * wide}": network_cost(bench.array, layers, check, where, wide=wide)
            for where in get_args(Pass)
            for wide in (False, True)
        }
        for check in get_args(Check)
    }


_EVENTS = {
    "wrong": "layer wrong",
    "detected": "detected",
    "corrected": "corrected",
    "sdc1": "SDC-1",
    "sdc1_with_detection": "if detected",
    "sdc1_with_correction": "if corrected",
}
_PASSES = {
    "own": "passes of their own",
    "own_wide": "the same, wide PEs",
    "same": "the layer's own pass",
    "same_wide": "the same, wide PEs",
}


def _coverage_table(covered: Coverage) -> str:
    groups = covered.rates_by("register") | {"all": covered.rates()}
    rows = [
        [name, str(rates["sdc1"].n), *(_percent(rates[event]) for event in _EVENTS)]
        for name, rates in groups.items()
    ]
    return table(["% of live sites", "trials", *_EVENTS.values()], rows)


def _summary(covered: Coverage) -> str:
    rates = covered.rates()
    shares = {
        f"of {text}, {event}": covered.share(event, given)
        for given, text in _GIVEN.items()
        for event in _SEEN
    }
    lines = [f"{text}: {rates[name]}" for name, text in _RATES.items()]
    lines += [f"{text}: {'none found' if share is None else share}" for text, share in shares.items()]
    return "\n".join(["", *lines, ""])


_RATES = {
    "sdc1": "SDC-1",
    "sdc1_with_detection": "SDC-1 with detection",
    "sdc1_with_correction": "SDC-1 with correction",
    "miscorrected": "miscorrected",
    "due": "DUE",
    "due_with_detection": "DUE with detection",
    "due_with_correction": "DUE with correction",
}
_GIVEN = {"wrong": "faults that spoil a layer", "sdc1": "faults that change the answer"}
_SEEN = ("detected", "corrected")


def _cost_table(costs: dict[str, dict[str, ChecksumCost]]) -> str:
    rows: list[list[str]] = [
        [
            check,
            _PASSES[where],
            f"{cost.extra_macs:,}",
            f"{100 * cost.mac_share:.2f} %",
            f"{cost.extra_cycles:,}",
            f"{100 * cost.cycle_share:.2f} %",
        ]
        for check, of in costs.items()
        for where, cost in of.items()
    ]
    return table(["checks", "computed in", "extra MACs", "share", "extra cycles", "share"], rows)


def _percent(estimate: Estimate) -> str:
    value, low, high = estimate.percent()
    return f"{value} [{low}, {high}]"
