"""Commands that look for the faults to survive: search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli import completion, options
from emulator.cli.terminal import COMPILING, INTERRUPTED, announce, command, say, show, show_json, table
from emulator.compiling import telling_of_compiling

if TYPE_CHECKING:
    from emulator.harden.answers import Answers
    from emulator.harden.found import Found, FoundFault
    from emulator.harden.search import Search
    from emulator.sampling.stopping import StopRule
    from emulator.sampling.workbench import Workbench

TRIALS = 5000
LISTED = 20
"""Groups of faults, in the text."""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(search)


@command
def search(
    context: typer.Context,
    model: options.Model,
    inputs: options.Inputs,
    drop: Annotated[str, typer.Option(help="accuracy a fault must cost, e.g. 5%", show_default=False)],
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="stop after N draws", show_default=f"{TRIALS} if nothing else stops it"),
    ] = None,
    found: Annotated[int | None, typer.Option(help="stop when so many distinct faults are found")] = None,
    max_time: Annotated[float | None, typer.Option(help="stop after so many seconds")] = None,
    sampler: Annotated[
        str,
        typer.Option(
            help="importance; to compare: uniform, bit-only, isimdl, gradient",
            autocompletion=completion.one_of("emulator.harden.search", "SAMPLERS"),
        ),
    ] = "importance",
    array: options.Array = "gemmini-16",
    registers: options.Registers = None,
    layers: options.Layers = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON file of all faults")] = None,
    shape: options.Shape = None,
    answer: options.Answer = None,
    json: options.Json = False,
) -> None:
    """Look for faults that cost accuracy.

    A fault is struck at the same site in every image, and its drop counted against the labels of the inputs, or without
    any against the fault-free answers. Of several stop rules the first that is met ends the search; Ctrl-C ends it with
    what it has.

    Example: emulator search model_int8.onnx --inputs test.npz --registers accumulator --drop 0.05 --limit 100
    """
    from emulator.campaign.config import load_array
    from emulator.campaign.inputs import load_samples
    from emulator.faults.space import FaultSpace
    from emulator.graph.feeds import parse_shapes
    from emulator.graph.load import load
    from emulator.harden.answers import Answers
    from emulator.harden.search import Search, sampler_for
    from emulator.sampling.workbench import Workbench

    wanted = options.share(drop, "--drop")
    options.check_files(output, None, given=(model, inputs))
    stop = _stop(trials, found, max_time)
    network = load(model, shapes=parse_shapes(shape), answer=answer)
    spec = load_array(array)
    samples = load_samples(inputs, network.graph, limit)
    space = FaultSpace(network, spec, registers=options.split(registers), layers=options.split(layers))
    bench = Workbench(network, spec, space, samples.inputs)
    others = found is not None or max_time is not None
    announce(context, *(["trials"] if others else []), trials=None if others else TRIALS)
    against = "the fault-free answers" if samples.labels is None else "labels"
    answers = Answers.of(bench, samples.labels)
    say(f"stop: {stop}; {len(samples)} images against {against}: accuracy {answers.accuracy}")
    plan = Search(drop=wanted, sampler=sampler_for(sampler, answers), stop=stop, seed=seed)
    result, interrupted = _run(plan, bench, answers)
    if output is not None:
        _write(output, result)
    if json:
        show_json(result.to_json())
    else:
        _show(result, space.live)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _stop(trials: int | None, found: int | None, seconds: float | None) -> StopRule:
    """Of the rules that were given, the first that is met."""
    from functools import reduce
    from operator import or_

    from emulator.sampling.stopping import max_time, max_trials, min_critical

    rules = [max_trials(trials)] if trials is not None else []
    rules += [min_critical(found)] if found is not None else []
    rules += [max_time(seconds)] if seconds is not None else []
    return reduce(or_, rules or [max_trials(TRIALS)])


def _run(plan: Search, bench: Workbench, answers: Answers) -> tuple[Found, bool]:
    """With a progress line; was it interrupted?"""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    result = None
    with Progress(TimeElapsedColumn(), TextColumn("{task.description}"), console=Console(stderr=True)) as bar:
        task = bar.add_task("first draws", total=None)
        tell = telling_of_compiling(lambda: bar.update(task, description=COMPILING))
        try:
            with tell:
                for result in plan.steps(bench, answers):
                    bar.update(
                        task, description=f"{result.draws:,} draws, {len(result.faults):,} faults found"
                    )
        except KeyboardInterrupt:
            if result is None:
                raise
            return result, True
    assert result is not None
    return result, False


def _write(path: Path, result: Found) -> None:
    import json

    from emulator.errors import BadConfig

    try:
        path.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadConfig(f"{str(path)!r} can't be written: {error}. Choose another file.") from error
    say(f"faults: {path}")


def _listed(groups: list[list[FoundFault]]) -> str:
    """A line for each group: how many faults, which bits they flip, the strongest as `inject --fault` takes it."""
    rows = []
    for group in groups[:LISTED]:
        bits = sorted({fault.fault.upset.bits[0] for fault in group})
        flipped = f"{bits[0]}-{bits[-1]}" if len(bits) > 1 else str(bits[0])
        rows.append([f"{len(group):,}", flipped, f"{100 * group[0].drop:.2f} %", str(group[0].fault)])
    more = f"\n... and {len(groups) - LISTED:,} more (--json has all faults)" if len(groups) > LISTED else ""
    return (
        table(["faults", "bits", "drop of the strongest", "the strongest, as inject --fault takes it"], rows)
        + more
    )


def _show(result: Found, live: int) -> None:
    """The strongest faults of each layer, register and column, and what finding them took."""
    if result.faults:
        show(_listed(result.groups))
    show(
        f"{len(result.faults):,} faults that cost {result.needed} or more of {result.images} answers; draws for each: "
        f"{result.draws_per_fault}"
    )
    show(f"such faults among {live:,} live sites: {result.rate}")
    show(
        f"cost: {result.injections:,} injections, {result.predictions:,} predictions, {result.seconds:.1f} s"
    )
