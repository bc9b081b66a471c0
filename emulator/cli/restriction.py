"""Range restriction from the command line: restrict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emulator.cli import completion, options
from emulator.cli.terminal import announce, command, say, show, show_json, table

if TYPE_CHECKING:
    from emulator.graph.restriction import Bounds
    from emulator.sampling.estimate import Estimate


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(restrict)


@command
def restrict(
    context: typer.Context,
    model: options.Model,
    inputs: options.Inputs,
    output: Annotated[Path, typer.Option("-o", "--output", help="the restricted file", show_default=False)],
    per: Annotated[
        str,
        typer.Option(
            help="bounds for each layer or for each channel",
            autocompletion=completion.one_of("emulator.harden.ranges", "PERS"),
        ),
    ] = "channel",
    margin: Annotated[
        str, typer.Option(help="outside what was seen: LSB, or a share of its width as 5%")
    ] = "0",
    percentile: Annotated[float, typer.Option(help="keep this innermost part of the values seen")] = 100.0,
    test: Annotated[
        Path | None, typer.Option(help="npz to judge accuracy on", show_default="the calibration inputs")
    ] = None,
    limit: options.Limit = None,
    shape: options.Shape = None,
    answer: options.Answer = None,
    json: options.Json = False,
) -> None:
    """Bound what layers give by what calibration inputs show.

    Writes an ordinary ONNX file, the same graph and names. Bounds that leave all 256 values cost and do nothing;
    those a channel are the tighter ones. Labels in the npz add accuracies.

    Example: emulator restrict model_int8.onnx --inputs train.npz --limit 2000 --test test.npz -o restricted.onnx
    """
    from emulator.campaign.inputs import load_samples
    from emulator.choices import one_of
    from emulator.graph.feeds import parse_shapes
    from emulator.graph.load import network_of
    from emulator.graph.onnx_file import read_onnx, write_onnx
    from emulator.graph.overwriting import refuse_to_overwrite
    from emulator.graph.restriction import restricted
    from emulator.harden.accuracy import accuracy
    from emulator.harden.ranges import PERS, Margin, bounds_of, observe, unbounded

    wider, chosen = Margin.parse(margin), one_of(PERS, per.lower(), "per")
    refuse_to_overwrite(output, (model, inputs, test))
    announce(context)
    proto, sha256 = read_onnx(model)
    reading: dict[str, Any] = {"shapes": parse_shapes(shape), "answer": answer}
    network = network_of(proto, model, sha256=sha256, **reading)
    samples = load_samples(inputs, network.graph, limit)
    judged = samples if test is None else load_samples(test, network.graph)
    observed = observe(network, samples.inputs)
    bounds = bounds_of(observed, per=chosen, margin=wider, percentile=percentile)
    made = restricted(proto, network.graph, bounds)
    after = network_of(made, output, **reading)
    write_onnx(made, output)
    found = accuracy(network, judged), accuracy(after, judged)
    free = unbounded(network, observed)
    if json:
        show_json(_json(bounds, found, free) | {"output": str(output), "per": per, "samples": len(samples)})
    else:
        _show(bounds, found, free)
    say(f"next: emulator run {output} --inputs TEST.npz -o DIR")


def _json(
    bounds: tuple[Bounds, ...], found: tuple[Estimate | None, Estimate | None], free: list[str]
) -> dict[str, Any]:
    layers = [
        {
            "layer": each.layer,
            "tensor": each.tensor,
            "share": each.share,
            "words": each.words if each.restricts else 0,
            "low": each.low,
            "high": each.high,
        }
        for each in bounds
    ]
    before, after = (None if each is None else each.to_json() for each in found)
    return {"layers": layers, "unbounded": free, "accuracy": {"before": before, "after": after}}


def _show(
    bounds: tuple[Bounds, ...], found: tuple[Estimate | None, Estimate | None], free: list[str]
) -> None:
    rows = [
        [each.layer, f"{100 * each.share:.1f} %", str(each.words if each.restricts else 0)] for each in bounds
    ]
    show(table(["layer", "of int8 left", "words"], rows))
    if free:
        show(f"without bounds, as their result is not int8 in the file: {', '.join(free)}")
    before, after = found
    if before is not None and after is not None:
        show(f"accuracy before: {before}\naccuracy after:  {after}")
