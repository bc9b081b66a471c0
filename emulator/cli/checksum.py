"""Checksums from the command line: checksum."""

from __future__ import annotations

from textwrap import fill
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
    _show_registers(covered)
    show(_network_table(covered))
    show(_WORDS)
    show(_cost_table(costs))
    show("of an inference; wide PEs take a checksum as one operand, others in several words")


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


_SEEN = {"wrong": "a layer is wrong", "detected": "detected", "corrected": "corrected"}
_ANSWERS = {
    "sdc1": "SDC-1",
    "sdc1_with_detection": "with detection",
    "sdc1_with_correction": "with correction",
}
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
_PASSES = {
    "own": "passes of their own",
    "own_wide": "the same, wide PEs",
    "same": "the layer's own pass",
    "same_wide": "the same, wide PEs",
}
_WORDS = """
with detection: what is seen stops the inference, which is a DUE. with correction: what can be put
  right is, the rest of what is seen is a DUE. miscorrected: taken for put right, and still wrong
n: trials. ESS: uniform trials that would tell as much: where it is far smaller, few carry the value.
  Each rate is estimated on its own: near 50 %, corrected can come out above detected, within their
  intervals
"""
# An interval as wide as this says next to nothing.
_NOTHING = 0.9


def _show_registers(covered: Coverage) -> None:
    """What the checksums see, and what is left, by register class; those of which nothing is known are only named."""
    rates = covered.rates_by("register")
    asked = (*_SEEN, *_ANSWERS)
    told = {name: of for name, of in rates.items() if any(_says_something(of[event]) for event in asked)}
    for events in (_SEEN, _ANSWERS):
        rows = [
            [name, f"{of['sdc1'].n:,}", *(_percent(of[event]) for event in events)]
            for name, of in (told | {"all": covered.rates()}).items()
        ]
        show(table(["% of live sites", "trials", *events.values()], rows) + "\n")
    others = [f"{name} ({of['sdc1'].n})" for name, of in rates.items() if name not in told]
    if others:
        line = f"too few trials to tell anything: {', '.join(others)}"
        show(fill(line, 100, subsequent_indent="  ") + "\n")


def _says_something(estimate: Estimate) -> bool:
    return estimate.high - estimate.low < _NOTHING


def _network_table(covered: Coverage) -> str:
    """Of all registers together."""
    rates = covered.rates()
    estimates: dict[str, Estimate | None] = {
        f"of live sites: {text}": rates[name] for name, text in _RATES.items()
    }
    estimates |= {
        f"of {text}: {event}": covered.share(event, given)
        for given, text in _GIVEN.items()
        for event in ("detected", "corrected")
    }
    rows = [[text, *_cells(estimate)] for text, estimate in estimates.items()]
    return table(["all registers", "%", "95 % interval", "n", "ESS"], rows)


def _cells(estimate: Estimate | None) -> list[str]:
    """Value, interval, trials and effective size; of no such faults nothing."""
    if estimate is None:
        return ["none found", "", "", ""]
    value, low, high = map(_short, estimate.percent())
    return [
        value,
        f"[{low}, {high}]",
        f"{estimate.n:,}",
        f"{float(f'{estimate.ess:.3g}'):,.{0 if estimate.ess >= 10 else 1}f}",
    ]


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
    value, low, high = map(_short, estimate.percent())
    return f"{value} [{low}, {high}]"


def _short(number: str) -> str:
    """0 and 100 without decimals."""
    return f"{float(number):.0f}" if float(number) in (0, 100) else number
