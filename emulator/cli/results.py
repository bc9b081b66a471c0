"""Commands that look at results: status, report, replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emulator.cli import options
from emulator.cli.terminal import announce, command, show, show_json, table


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for function in (status, report, replay):
        app.command()(function)


@command
def status(directory: options.Directory, json: options.Json = False) -> None:
    """What a campaign has found so far.

    Example: emulator status runs/a
    """
    from emulator.campaign.results import Results

    results = Results.open(directory)
    if json:
        show_json(results.to_json())
        return
    show(f"{len(results):,} {results.unit} of {results.manifest['model']['name']}, sampler {results.sampler}")
    if results.incomplete:
        show("not finished: the same `emulator run` again judges the sites that are left")
    show(f"SDC-1 of live sites: {results.rate()}")
    show(f"SDC-1 of the whole population: {results.population_rate()}")
    show(f"SDC-1 of live sites without ties: {results.rate(ties=False)}")
    if results.images_are_a_sample:
        show(f"SDC-1 of live sites, images like these: {results.rate(images='alike')}")
    rows = [[_ENDS[name], str(estimate)] for name, estimate in results.masked().items()]
    show(table(["where faults end (whole population)", "share"], rows))


_ENDS = {
    "dead": "dead: register not live",
    "array": "array: accumulator unchanged",
    "requant": "requant: rounded away",
    "clamp": "clamp: saturated away",
    "network": "network: gone in a later layer",
    "none": "none: the output differs",
}


@command
def report(
    context: typer.Context,
    directory: options.Directory,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="file", show_default="DIR/report.html")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(help="another campaign to draw beside it: a uniform one, or the network before"),
    ] = None,
    json: options.Json = False,
) -> None:
    """Write the report: one HTML file, no network needed.

    Example: emulator report runs/a
    """
    from emulator.campaign.results import Results
    from emulator.report.html import write_report

    announce(context)
    against = None if compare is None else Results.open(compare)
    path = write_report(Results.open(directory), output or directory / "report.html", compare=against)
    if json:
        show_json({"report": str(path)})
    else:
        show(str(path))


@command
def replay(
    context: typer.Context,
    directory: options.Directory,
    fault_id: Annotated[
        str, typer.Argument(help="a fault_id of the campaign, hexadecimal", show_default=False)
    ],
    engine: options.Engine = "auto",
    model: options.ModelNow = None,
    inputs: options.InputsNow = None,
    json: options.Json = False,
) -> None:
    """One fault of a campaign again, explained. Refuses a model or data that have changed since.

    Example: emulator replay runs/a 2f6c01b9d3
    """
    from emulator.campaign.replay import replay as run_replay

    announce(context)
    explanation = run_replay(directory, fault_id, engine=engine, model=model, inputs=inputs)
    if json:
        show_json(explanation.to_json())
    else:
        show(str(explanation))
