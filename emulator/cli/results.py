"""Commands that look at results: status, report, replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emulator.array.fit import FIT_PER_MBIT
from emulator.cli import completion, explained, groups, options, raw_fit
from emulator.cli.terminal import NOTHING, announce, command, say, show, show_json, table, was_given
from emulator.cli.training import estimates


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for function in (status, report, replay):
        app.command()(function)


@command
def status(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Argument(help="directory of a campaign, or of a training", show_default=False)
    ],
    by: Annotated[
        str | None,
        typer.Option(
            help="groups too, those first that have most SDC-1: layer, register or bit",
            show_default=NOTHING,
            autocompletion=completion.words(*groups.KEYS),
        ),
    ] = None,
    fit_per_mbit: raw_fit.PerMbit = FIT_PER_MBIT,
    fit: raw_fit.File = None,
    json: options.Json = False,
) -> None:
    """What a campaign has found so far, or how far a training is.

    Example: emulator status runs/a

    Example: emulator status runs/a --by register --fit-per-mbit 20
    """
    from emulator.campaign.results import NEED_NOT_ADD_UP, Results
    from emulator.campaign.standing import any_time, state_in_words
    from emulator.choices import one_of
    from emulator.harden.checkpoint import holds_training

    if holds_training(directory):
        _only_of_campaigns(context, "by", "fit_per_mbit", "fit")
        _training(directory, json)
        return
    key = None if by is None else one_of(groups.KEYS, by, "--by")
    results = Results.open(directory)
    raw = raw_fit.chosen(context, directory, fit_per_mbit, fit)
    announce(context, *(["fit_per_mbit"] if fit is not None else []))
    whole = results.fit(raw)
    if json:
        rates = {"fit": whole._asdict(), "raw_fit": raw.to_json()}
        grouped = None if key is None else groups.to_json(results, key, raw)
        show_json({**results.to_json(), **rates, "by": grouped})
        return
    show(f"{len(results):,} {results.unit} of {results.manifest['model']['name']}, sampler {results.sampler}")
    show(state_in_words(results))
    show(f"SDC-1 of live sites: {results.rate()}{any_time(results)}")
    show(f"SDC-1 of the whole population: {results.population_rate()}")
    show(f"SDC-1 of live sites without ties: {results.rate(ties=False)}")
    if results.images_are_a_sample:
        show(f"SDC-1 of live sites, images like these: {results.rate(images='alike')}")
    show(f"SDC in FIT, at {raw} raw: {whole}")
    rows = [[_ENDS[name], str(estimate)] for name, estimate in results.masked().items()]
    show(table(["where faults end (whole population)", "share"], rows))
    if not results.counted:
        show(NEED_NOT_ADD_UP)
    if key is not None:
        show(f"\n{groups.in_words(results, key, raw)}")


def _only_of_campaigns(context: typer.Context, *names: str) -> None:
    for name in names:
        if was_given(context, name):
            raise typer.BadParameter(
                "this is a training; leave it out, or give a campaign",
                param_hint=f"--{name.replace('_', '-')}",
            )


def _training(directory: Path, json: bool) -> None:
    from emulator.harden.training_status import TrainingStatus

    found = TrainingStatus.of(directory)
    if json:
        show_json(found.to_json())
        return
    show(f"training of {found.name}: {found.done} of {found.epochs} epochs")
    rows = [
        [name, str(epoch["epoch"]), *estimates(epoch)] for name, epoch in found.milestones.items() if epoch
    ]
    if rows:
        show(table(["", "epoch", "accuracy", "SDC-1 of live sites"], rows))
    if found.model is None:
        show("not finished: the same `emulator train` again carries on")
    else:
        show(f"finished{'' if found.done == found.epochs else ' early (--patience)'}: {found.model}")


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
    fit_per_mbit: raw_fit.PerMbit = FIT_PER_MBIT,
    fit: raw_fit.File = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="follow a running campaign; a browser loads the page again by itself"),
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="with --live: seconds from one page to the next")] = 5,
    figures: Annotated[
        Path | None, typer.Option(help="folder: write each figure there as a file too", show_default=NOTHING)
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            help="of --figures: pdf, svg or png", autocompletion=completion.words("pdf", "svg", "png")
        ),
    ] = "pdf",
    json: options.Json = False,
) -> None:
    """Write the report: one HTML file, no network needed.

    With --live it waits for the first trials, and ends when no run writes there any more; that page, or the one that
    Ctrl-C leaves, stands still.

    Example: emulator report runs/a --figures runs/a/figures --format svg
    """
    from emulator.campaign.results import Results
    from emulator.report.gallery import check_format, write_figures
    from emulator.report.html import write_report
    from emulator.report.live import follow

    check_format(format)
    options.check_files(output, None)
    unused = {"every": not live, "format": figures is None, "fit_per_mbit": fit is not None}
    announce(context, *(name for name, idle in unused.items() if idle))
    raw = raw_fit.chosen(context, directory, fit_per_mbit, fit)
    against = None if compare is None else Results.open(compare)
    target = output or directory / "report.html"
    if live:
        follow(directory, target, every=every, compare=against, fit_per_mbit=raw, told=say)
    else:
        write_report(Results.open(directory), target, compare=against, fit_per_mbit=raw)
    files = [] if figures is None else write_figures(Results.open(directory), figures, format, against)
    if json:
        drawn = {} if figures is None else {"figures": [str(file) for file in files]}
        show_json({"report": str(target), **drawn})
        return
    for file in (target, *files):
        show(str(file))


@command
def replay(
    context: typer.Context,
    directory: options.Directory,
    fault_id: Annotated[
        str, typer.Argument(help="a fault_id of the trials, or the beginning of one", show_default=False)
    ],
    engine: options.Engine = "auto",
    model: options.ModelNow = None,
    inputs: options.InputsNow = None,
    vcd: explained.Vcd = None,
    vcd_before: explained.VcdBefore = 16,
    vcd_after: explained.VcdAfter = None,
    figure: explained.FigureFile = None,
    json: options.Json = False,
) -> None:
    """One fault of a campaign again, explained. Refuses a model or data that have changed since.

    It ends with the fault as `emulator inject` takes it.

    Example: emulator replay runs/a 2f6c01b9d3

    Example: emulator replay runs/a 2f6c01b9d3 --vcd fault.vcd --figure fault.png
    """
    from emulator.campaign.explain import ASKABLE
    from emulator.campaign.replay import struck
    from emulator.choices import one_of

    options.check_files(vcd, figure, given=(model, inputs))
    announce(context, *(() if vcd else ("vcd_before", "vcd_after")))
    chosen = one_of(ASKABLE, engine, "engine")
    bench, image, fault = struck(directory, fault_id, model=model, inputs=inputs)
    pictures = explained.Pictures(vcd, vcd_before, vcd_after, figure)
    explanation, files = explained.alone(bench, image, fault, chosen, pictures)
    if json:
        show_json(explanation.to_json() | files)
    else:
        show(str(explanation))
        show(f'for inject: --index {image} --fault "{fault}"')
