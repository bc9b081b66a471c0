"""Faults, explained: inject."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli import explained, options
from emulator.cli.terminal import announce, command, say_compiling, show, show_json
from emulator.compiling import telling_of_compiling

if TYPE_CHECKING:
    from emulator.campaign.explain import Engine
    from emulator.campaign.fault_file import Listed
    from emulator.campaign.fault_text import Named
    from emulator.sampling.workbench import Workbench

FaultTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        help='"layer=conv1 register=pe_b row=3 col=4 cycle=100 bit=7"; bit=3,7 for several; also '
        "kind=stuck-at-0 or stuck-at-1, until_cycle=120; stuck-ats without layer= act in every layer; "
        '"dead-pe row=3 col=4", "dead-row row=3", "dead-column col=4", in every layer or that of layer=. '
        "Repeat it for several at once.",
    ),
]
FaultFile = Annotated[
    Path | None,
    typer.Option(
        "--faults",
        help="Parquet file of faults, each struck alone: rows as in the trials of a campaign",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(inject)


@command
def inject(
    context: typer.Context,
    model: options.Model,
    inputs: options.Inputs,
    fault: FaultTexts = None,
    faults: FaultFile = None,
    index: Annotated[
        int | None,
        typer.Option(min=0, help="which sample of the inputs", show_default="0, or input_id of --faults"),
    ] = None,
    array: options.Array = "gemmini-16",
    engine: options.Engine = "auto",
    vcd: explained.Vcd = None,
    vcd_before: explained.VcdBefore = 16,
    vcd_after: explained.VcdAfter = None,
    figure: explained.FigureFile = None,
    shape: options.Shape = None,
    answer: options.Answer = None,
    json: options.Json = False,
) -> None:
    """Faults, one or several at once, explained.

    Example: emulator inject model_int8.onnx --inputs test.npz --fault "layer=0 register=pe_b row=3 col=2 cycle=40
    bit=7"

    Example: emulator inject model_int8.onnx --inputs test.npz --fault "layer=0 register=pe_valid row=0 col=0 cycle=9
    bit=0 kind=stuck-at-0 until_cycle=20" --vcd fault.vcd --figure fault.png

    Example: emulator inject model_int8.onnx --inputs test.npz --fault "dead-column col=7" --fault "register=pe_a row=1
    col=2 bit=7 kind=stuck-at-1"

    Example: emulator inject model_int8.onnx --inputs test.npz --faults runs/a/trials/part-000000.parquet
    """
    from emulator.campaign.config import load_array
    from emulator.campaign.explain import ASKABLE
    from emulator.campaign.fault_file import read_faults
    from emulator.campaign.fault_text import parse_fault
    from emulator.campaign.inputs import load_samples
    from emulator.choices import one_of
    from emulator.faults.fault import Fault
    from emulator.faults.space import FaultSpace
    from emulator.graph.feeds import parse_shapes
    from emulator.graph.load import load
    from emulator.sampling.workbench import Workbench

    options.check_files(vcd, figure, given=(model, inputs, faults))
    if bool(fault) == bool(faults):
        raise typer.BadParameter("give one or more --fault, or --faults, and not both", param_hint="--fault")
    network = load(model, shapes=parse_shapes(shape), answer=answer)
    spec = load_array(array)
    chosen = one_of(ASKABLE, engine, "engine")
    announce(context, *(() if vcd else ("vcd_before", "vcd_after")), index=None if faults else 0)
    samples = load_samples(inputs, network.graph)
    bench = Workbench(network, spec, FaultSpace(network, spec), samples.inputs)
    layers = [layer.name for layer in network.graph.layers]
    pictures = explained.Pictures(vcd, vcd_before, vcd_after, figure)
    if faults is not None:
        listed = read_faults(faults, layers)
        if len(listed) > 1:
            _refuse_files(pictures, f"the {len(listed)} faults of {faults}", "Keep one row")
        _each(bench, listed, index, chosen, json, pictures)
        return
    named = [parse_fault(text, layers, spec) for text in fault or ()]
    if len(named) > 1 or named[0].layer is None or len(named[0].upsets) > 1:
        _refuse_files(
            pictures, ", ".join(repr(one.text) for one in named), "Name one word of one register, and a layer"
        )
        _together(bench, named, index or 0, chosen, json)
        return
    fault_alone = Fault(layer=named[0].layer, upset=named[0].upsets[0])
    explanation, files = explained.alone(bench, index or 0, fault_alone, chosen, pictures)
    if json:
        show_json(explanation.to_json() | files)
    else:
        show(str(explanation))


def _refuse_files(pictures: explained.Pictures, what: str, fix: str) -> None:
    from emulator.errors import BadConfig

    if pictures.vcd is not None or pictures.figure is not None:
        raise BadConfig(
            f"--vcd or --figure with {what}; allowed: one fault in one word and one layer, which they show. {fix}, or "
            "leave them out."
        )


def _together(bench: Workbench, named: list[Named], index: int, engine: Engine, json: bool) -> None:
    from emulator.campaign.explain_dense import explain_dense

    with telling_of_compiling(say_compiling):
        dense = explain_dense(bench, index, named, engine)
    if json:
        show_json(dense.to_json())
    else:
        show(str(dense))


def _each(
    bench: Workbench,
    listed: list[Listed],
    index: int | None,
    engine: Engine,
    json: bool,
    pictures: explained.Pictures,
) -> None:
    """Of a file, one after the other; index: the sample that all of them strike."""
    found = [
        explained.alone(bench, (one.image or 0) if index is None else index, one.fault, engine, pictures)
        for one in listed
    ]
    if json:
        show_json({"explanations": [explanation.to_json() | files for explanation, files in found]})
    else:
        show("\n\n".join(str(explanation) for explanation, _ in found))
