"""Range restriction from the command line: restrict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli import completion, options
from emulator.cli.terminal import announce, command, say, show, show_json, table

if TYPE_CHECKING:
    from emulator.harden.ranges import Per
    from emulator.harden.restriction import Restricted

# Against bounds that leave out nothing.
_REMEDY: dict[Per, str] = {
    "layer": "The scales fill all 256 values of a layer already; give each channel its own bounds: --per channel.",
    "channel": "Leave out the outermost of the values seen: --percentile 99.9.",
}


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
    from emulator.graph.feeds import parse_shapes
    from emulator.harden.restriction import restrict as run_restrict

    announce(context)
    found = run_restrict(
        model,
        inputs,
        output,
        per=per.lower(),
        margin=margin,
        percentile=percentile,
        test=test,
        limit=limit,
        shapes=parse_shapes(shape),
        answer=answer,
    )
    if json:
        show_json(found.to_json())
    else:
        _show(found)
    if found.changed:
        say(f"next: emulator run {output} --inputs TEST.npz -o DIR")
    else:
        say(f"note: no bound leaves out a value: {output} is the model as it was. {_REMEDY[found.per]}")


def _show(found: Restricted) -> None:
    rows = [[each.layer, f"{256 * each.share:.0f}", str(each.stored_bytes)] for each in found.bounds]
    many = found.per == "channel"
    left = "of 256 int8 values left" + (", mean over channels" if many else "")
    show(table(["layer", left, "bytes that hold the bounds"], rows))
    if found.unbounded:
        show(f"without bounds, as their result is not int8 in the file: {', '.join(found.unbounded)}")
    if found.before is not None and found.after is not None:
        show(f"accuracy before: {found.before}\naccuracy after:  {found.after}")
