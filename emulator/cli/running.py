"""Commands that run trials: demo, init, run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emulator.cli import completion, options
from emulator.cli.terminal import COMPILING, announce, command, say, show, show_json

if TYPE_CHECKING:
    from emulator.campaign.config import CampaignConfig
    from emulator.campaign.results import Results
    from emulator.campaign.runner import Campaign


SECONDS_BETWEEN_LINES = 10
"""Where no bar can be drawn."""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for function in (demo, init, run):
        app.command()(function)


@command
def demo(
    context: typer.Context,
    output: Annotated[Path, typer.Option("-o", "--output", help="where the tour is kept")] = Path(
        "runs/demo"
    ),
    trials: Annotated[int, typer.Option(min=100, help="trials of each sampler")] = 5000,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="images of the bundled test set")] = 200,
    workers: options.Workers = "auto",
    json: options.Json = False,
) -> None:
    """The tour: a bundled network, two samplers, a report.

    Example: emulator demo -o runs/demo
    """
    from emulator.bundled import fashion_mnist
    from emulator.campaign.config import make_config
    from emulator.report.html import write_report

    announce(context)
    bundle = fashion_mnist()
    found = {}
    for sampler in ("uniform", "importance"):
        say(f"{sampler} sampling: {trials} faults in {bundle.model.name} on gemmini-16, {limit} images")
        values = {"model": bundle.model, "inputs": bundle.inputs, "limit": limit, "trials": trials}
        values |= {"sampler": sampler, "seed": 7, "output": output / sampler, "workers": workers}
        config = make_config(values, "demo")
        found[sampler], _ = _collect(config.campaign(), config.output, config.workers)
    report = write_report(found["importance"], output / "report.html", compare=found["uniform"])
    if json:
        show_json({name: results.to_json() for name, results in found.items()} | {"report": str(report)})
        return
    for name, results in found.items():
        show(f"{name:>10}: SDC-1 of live sites {results.rate()}; precision@100 {results.precision_at(100)}")
    show(f"report: {report}")


@command
def init(json: options.Json = False) -> None:
    """Print a commented campaign.toml.

    Example: emulator init > campaign.toml
    """
    from emulator.campaign.template import TEMPLATE

    if json:
        show_json({"toml": TEMPLATE})
        return
    print(TEMPLATE, end="")


@command
def run(
    context: typer.Context,
    target: Annotated[
        Path,
        typer.Argument(
            help="campaign.toml, a model with --inputs, or a campaign directory", show_default=False
        ),
    ],
    inputs: Annotated[Path | None, typer.Option(help="npz with the images", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="directory; rerun resumes", show_default="runs/campaign"),
    ] = None,
    shape: options.Shape = None,
    answer: options.Answer = None,
    array: Annotated[
        str | None,
        typer.Option(
            help="preset or .toml file",
            show_default="gemmini-16",
            autocompletion=completion.one_of("emulator.array.presets", "PRESETS"),
        ),
    ] = None,
    registers: options.Registers = None,
    layers: options.Layers = None,
    kind: Annotated[
        str | None,
        typer.Option(help="fault model: flip", show_default="flip", autocompletion=completion.words("flip")),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="importance, uniform, exhaustive, ... (docs/statistics.md)",
            show_default="importance",
            autocompletion=completion.one_of("emulator.sampling.registry", "NAMES"),
        ),
    ] = None,
    sensitivity: Annotated[
        str | None,
        typer.Option(
            help="gradient, or finite-difference",
            show_default="gradient",
            autocompletion=completion.one_of("emulator.sensitivity.jacobian", "Sensitivity"),
        ),
    ] = None,
    learn: Annotated[
        bool | None, typer.Option("--learn", help="importance: learn the score from the trials so far")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            help="stop after N trials; a rerun may ask for more",
            show_default="10000 if nothing else stops it; sweep 100000",
        ),
    ] = None,
    until_ci: Annotated[
        str | None,
        typer.Option(help="stop at this half-width of the interval of SDC-1 of live sites, e.g. 0.1%"),
    ] = None,
    max_time: Annotated[float | None, typer.Option(help="stop after so many seconds of this run")] = None,
    min_critical: Annotated[
        int | None, typer.Option(help="stop when so many distinct faults changed the answer")
    ] = None,
    limit: options.Limit = None,
    seed: Annotated[int | None, typer.Option(help="seed of the draws", show_default="0")] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            help="processes, auto, dask://HOST:PORT or dask-local",
            show_default="auto",
            autocompletion=completion.words("auto", "dask-local", "dask://"),
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="of all processes here together, e.g. 4GB; on a cluster of each worker",
            show_default="half of what is free; on a cluster 4GB; more if needed",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print space, plan and cost; no trials are kept")
    ] = False,
    json: options.Json = False,
) -> None:
    """Run a campaign, or resume it. Of several stop rules the first that is met ends it.

    Ctrl-C and kill -9 lose at most the chunks in progress; the same command again carries on. So does the directory of
    a campaign alone, with the settings in its manifest; flags are laid over them, as --trials for more of them.

    Example: emulator run model_int8.onnx --inputs test.npz --registers pe_b,accumulator --trials 20000 -o runs/a
    """
    from emulator.campaign.config import make_config, read_config
    from emulator.campaign.resumed import resumed
    from emulator.campaign.standing import any_time, shortfall
    from emulator.cli.dry_run import print_plan
    from emulator.errors import BadConfig

    flags: dict[str, Any] = {
        "inputs": inputs,
        "output": output,
        "shape": shape or None,
        "answer": answer,
        "array": array,
        "registers": options.split(registers),
        "layers": options.split(layers),
        "kind": kind,
        "sampler": sampler,
        "sensitivity": sensitivity,
        "learn": learn,
        "trials": trials,
        "until_ci": None if until_ci is None else options.share(until_ci, "--until-ci"),
        "max_time": max_time,
        "min_critical": min_critical,
        "limit": limit,
        "seed": seed,
        "workers": workers,
        "memory": memory,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    if target.suffix == ".toml":
        config = read_config(target, given)
    elif target.is_dir():
        config = resumed(target, given)
    elif inputs is None:
        raise BadConfig(
            f"{target}: no --inputs. Give --inputs X.npz, a campaign.toml (see `emulator init`) or the directory of a "
            "campaign."
        )
    else:
        config = make_config({"model": target, **given}, "run")
    campaign = config.campaign()
    if target.is_dir():
        say(f"{target}: the same campaign, with the settings of its manifest; stop: {campaign.stop}")
    _announce(context, config, campaign, *(["output"] if dry_run else []))
    if dry_run:
        print_plan(campaign, config, json)
        return
    results, rate = _collect(campaign, config.output, config.workers)
    if json:
        show_json({**results.to_json(), "directory": str(config.output), "trials_per_second": rate})
        return
    show(f"SDC-1 of live sites: {results.rate()}{any_time(results)}")
    show(
        f"SDC-1 of the whole population ({100 * results.live_share:.2f} % live): {results.population_rate()}"
    )
    if short := shortfall(results):
        show(short)
    show(f"next: emulator report {config.output}")


def _announce(context: typer.Context, config: CampaignConfig, campaign: Campaign, *needless: str) -> None:
    """What neither the flags nor the file gave."""
    sampler = campaign.sampler.settings()
    quiet = {*needless, *config.model_fields_set, *({"sensitivity", "learn"} - sampler.keys())}
    if config.stops or config.default_trials is None:
        quiet.add("trials")
    memory = campaign.memory_plan(config.workers).default()
    announce(context, *quiet, trials=config.default_trials, memory=memory)


def _collect(campaign: Campaign, output: Path, workers: int | str) -> tuple[Results, float]:
    """Run with a progress line; results and new trials a second."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from emulator.campaign.manifest import check_manifest
    from emulator.compiling import telling_of_compiling
    from emulator.sampling.registry import COUNTED

    console = Console(stderr=True)
    stored, plan = check_manifest(output, campaign.manifest()), campaign.memory_plan(workers)
    say(f"memory (--memory): {plan}")
    columns = (
        BarColumn(bar_width=6),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    judged = "classes of sites" if campaign.sampler.name in COUNTED else "faults"
    started = told = time.perf_counter()
    new_trials = 0
    with Bar(*columns, console=console) as bar:
        begin = _beginning(plan.workers)
        task = bar.add_task(begin if stored is None else f"reading what is there, then {begin}", total=None)

        def compiling() -> None:
            """In this process, that is; of others we don't hear it."""
            bar.update(task, description=COMPILING)

        def progress(state: Any) -> None:
            nonlocal new_trials, started, told
            new_trials = state.trials - state.reused
            if not new_trials:
                started = time.perf_counter()
                bar.update(task, completed=state.trials, total=state.limit)
                return
            rate = new_trials / (time.perf_counter() - started)
            value, low, high = state.estimate.percent()
            description = f"{rate:,.0f} {judged}/s  SDC-1 {value} % [{low}, {high}]"
            bar.update(task, completed=state.trials, total=state.limit, description=description)
            if not console.is_terminal and time.perf_counter() - told > SECONDS_BETWEEN_LINES:
                told = time.perf_counter()
                say(f"{state.trials}/{state.limit or '?'}  {description}")

        with telling_of_compiling(compiling):
            results = campaign.collect(output, workers=workers, progress=progress)
        if not new_trials:
            bar.update(task, description=f"all {len(results):,} {results.unit} are there already")
    return results, new_trials / (time.perf_counter() - started)


def _beginning(workers: int | None) -> str:
    """What is done before the first trials."""
    if workers == 1:
        return "first trials"
    which = "the cluster's" if workers is None else str(workers)
    return f"starting {which} workers (the first time they compile kernels, a minute)"
