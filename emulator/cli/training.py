"""Fault-aware training from the command line: train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from emulator.cli import completion, options
from emulator.cli.terminal import announce, command, say, show, show_json, table

if TYPE_CHECKING:
    from emulator.harden.fine_tuning import Hardened
    from emulator.sampling.sampler import Sampler


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(train)


@command
def train(
    context: typer.Context,
    model: options.Model,
    inputs: options.Inputs,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="directory; rerun resumes", show_default=False)
    ],
    validation: Annotated[
        Path | None,
        typer.Option(help="npz that judges each epoch", show_default="the last fifth of --inputs"),
    ] = None,
    array: options.Array = "gemmini-16",
    registers: Annotated[
        str,
        typer.Option(
            "--registers",
            help="what faults strike in training, comma-separated",
            autocompletion=completion.registers,
        ),
    ] = "accumulator,pe_b",
    layers: options.Layers = None,
    sampler: Annotated[
        str,
        typer.Option(
            help="what draws them: importance, uniform, ...",
            autocompletion=completion.one_of("emulator.sampling.registry", "DRAWING"),
        ),
    ] = "importance",
    epochs: Annotated[int, typer.Option(min=1, help="epochs of --steps batches")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="batches an epoch")] = 150,
    batch: Annotated[int, typer.Option(min=1, help="rows of a batch")] = 64,
    rate: Annotated[float, typer.Option(help="largest learning rate, of the size of each weight")] = 0.005,
    optimiser: Annotated[
        str,
        typer.Option(
            help="adam or sgd", autocompletion=completion.one_of("emulator.harden.optimisers", "OPTIMISERS")
        ),
    ] = "adam",
    steady: Annotated[float, typer.Option(help="weight of what faults move the logits by")] = 5.0,
    own: Annotated[float, typer.Option(help="share of the network's own first answers in the target")] = 1.0,
    tighten: Annotated[float, typer.Option(help="share that ranges of stored values shrink to")] = 1.0,
    average: Annotated[
        float, typer.Option(help="what averaged weights keep of themselves in a step; 0: no average")
    ] = 0.998,
    faults: Annotated[int, typer.Option(min=1, help="faults drawn for an epoch")] = 1500,
    images: Annotated[int, typer.Option(min=1, help="images they strike, of each epoch")] = 400,
    max_loss: Annotated[str, typer.Option(help="accuracy that may be lost: 0.5% is half a point")] = "0.5%",
    patience: Annotated[int, typer.Option(min=1, help="epochs without a better one before it stops")] = 6,
    seed: options.Seed = 0,
    shape: options.Shape = None,
    answer: options.Answer = None,
    limit: options.Limit = None,
    json: options.Json = False,
) -> None:
    """Fine-tune a quantised model while faults strike it.

    Writes DIR/hardened.onnx, the same graph and names with other weights and scales. Kept is the epoch with the lowest
    SDC-1 on held-out images that loses no more accuracy than it may. Without labels the network's own answers are the
    labels. Ctrl-C and kill -9 lose the epoch in progress; the same command again carries on to the same weights, and
    `emulator status DIR` says how far it is.

    Example: emulator train model_int8.onnx --inputs train.npz --tighten 0.6 -o runs/hardened
    """
    from emulator.campaign.config import load_array
    from emulator.campaign.inputs import load_samples
    from emulator.graph.feeds import parse_shapes
    from emulator.graph.load import load
    from emulator.harden.fine_tuning import Told
    from emulator.harden.fine_tuning import train as run_train
    from emulator.harden.schedule import TrainingSchedule

    loss = options.share(max_loss, "--max-loss", none=True)
    drawing, spec = _drawing(sampler), load_array(array)
    schedule = TrainingSchedule(
        epochs=epochs,
        steps=steps,
        batch=batch,
        faults=faults,
        images=images,
        rate=rate,
        optimiser=optimiser,
        steady=steady,
        own=own,
        tighten=tighten,
        average=average,
        seed=seed,
    )
    network = load(model, shapes=parse_shapes(shape), answer=answer)
    samples = load_samples(inputs, network.graph, limit)
    judging = None if validation is None else load_samples(validation, network.graph)
    if (samples if judging is None else judging).labels is None:
        say("no labels: accuracy is agreement with the network's own answers before training")
    announce(context)
    found = run_train(
        network,
        spec,
        samples,
        output,
        validation=judging,
        registers=options.split(registers),
        layers=options.split(layers),
        sampler=drawing,
        schedule=schedule,
        max_loss=loss,
        patience=patience,
        told=Told(resumed=lambda done: say(f"resumed after epoch {done} of {epochs}"), epoch=_say),
    )
    if json:
        show_json({"model": str(found.model), "kept": found.kept, "epochs": found.history})
        return
    _show(found)


def _drawing(name: str) -> Sampler:
    """A sampler that draws, by its name."""
    from emulator.choices import one_of
    from emulator.sampling.registry import DRAWING, sampler_named

    found = sampler_named(one_of(DRAWING, name, "--sampler"), {})
    return cast("Sampler", found)


def _say(epoch: dict[str, Any]) -> None:
    loss = "" if epoch["loss"] is None else f"  loss {epoch['loss']:.3f}"
    kept = "  kept" if epoch["kept"] else ""
    accuracy, sdc1 = estimates(epoch)
    say(f"epoch {epoch['epoch']}: accuracy {accuracy}  SDC-1 {sdc1}{loss}{kept}")


def estimates(epoch: dict[str, Any]) -> tuple[str, str]:
    """Accuracy and SDC-1 of an epoch, in words."""
    from emulator.sampling.estimate import Estimate

    accuracy, sdc1 = (Estimate(**epoch[name]) for name in ("accuracy", "sdc1_live"))
    return str(accuracy), str(sdc1)


def _why_none(found: Hardened) -> str:
    first, *others = found.history
    safer = sum(epoch["sdc1_live"]["value"] < first["sdc1_live"]["value"] for epoch in others)
    if safer:
        return f"{safer} of {len(others)} epochs were less vulnerable, but lost more accuracy than --max-loss allows"
    return f"none of {len(others)} epochs was less vulnerable"


def _show(found: Hardened) -> None:
    rows = [[str(epoch["epoch"]), *estimates(epoch)] for epoch in (found.history[0], found.kept)]
    show(table(["epoch", "accuracy", "SDC-1 of live sites"], rows))
    if found.kept["epoch"] == 0:
        show(f"{_why_none(found)}: the file is the model as it was")
    show(f"wrote {found.model}")
    show(f"next: emulator run {found.model} with the images that matter, and faults of another --seed")
