"""Commands that look without injecting: inspect, rank."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from emulator.cli import options
from emulator.cli.terminal import announce, command, say, show, show_json, table

if TYPE_CHECKING:
    from emulator.array.fit import RawFit
    from emulator.array.spec import ArraySpec
    from emulator.graph.load import Network

RAW_FIT = "20 for all"

# The options of `inspect` that no other command has.
MaybeModel = Annotated[
    Path | None, typer.Argument(help="int8 ONNX model, QDQ or QOperator", show_default=False)
]
RegistersOnly = Annotated[bool, typer.Option("--registers", help="the register inventory instead")]
ArraysOnly = Annotated[bool, typer.Option("--arrays", help="the array presets instead")]
Fit = Annotated[
    Path | None,
    typer.Option(
        "--fit",
        help=".toml of raw FIT per Mbit: flip-flop, sram, register names",
        show_default=RAW_FIT,
    ),
]
Markdown = Annotated[bool, typer.Option("--markdown", help="with --registers: as a page")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for function in (inspect, rank):
        app.command()(function)


@command
def inspect(
    context: typer.Context,
    model: MaybeModel = None,
    array: options.Array = "gemmini-16",
    registers: RegistersOnly = False,
    arrays: ArraysOnly = False,
    fit: Fit = None,
    markdown: Markdown = False,
    shape: options.Shape = None,
    answer: options.Answer = None,
    json: options.Json = False,
) -> None:
    """Layers, cycles, registers and the fault space; no data needed.

    Example: emulator inspect model_int8.onnx --array gemmini-8

    Example: emulator inspect --registers --array tpu-v1
    """
    from emulator.array.datasheet import presets, registers_page
    from emulator.array.fit import RawFit
    from emulator.campaign.config import load_array
    from emulator.cli import datasheet
    from emulator.cli.raw_fit import read_raw_fit
    from emulator.graph.feeds import parse_shapes
    from emulator.graph.load import load

    if arrays and json:
        show_json({"arrays": presets()})
        return
    if arrays:
        datasheet.show_presets(presets())
        return
    if model is None and not registers:
        raise typer.BadParameter("missing; or give --registers or --arrays", param_hint="MODEL")
    if markdown and (model is not None or not registers or json):
        raise typer.BadParameter("goes with --registers and without MODEL or --json", param_hint="--markdown")
    spec = load_array(array)
    if markdown:
        print(registers_page(spec), end="")
        return
    announce(context, *(() if model else ("answer",)))
    raw = RawFit() if fit is None else read_raw_fit(fit, spec)
    facts = datasheet.array_facts(spec, raw)
    if model is not None:
        network = load(model, shapes=parse_shapes(shape), answer=answer)
        facts |= _network_facts(network, spec, raw)
    if json:
        show_json(facts)
    elif registers:
        datasheet.show_registers(facts)
    else:
        datasheet.show_network(facts, raw)


@command
def rank(
    context: typer.Context,
    model: options.Model,
    inputs: options.Inputs,
    top: Annotated[int, typer.Option(min=1, help="how many to list")] = 100,
    candidates: Annotated[int, typer.Option(min=1, help="sites scored")] = 20_000,
    sensitivity: options.SensitivityName = "gradient",
    array: options.Array = "gemmini-16",
    registers: options.Registers = None,
    layers: options.Layers = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    shape: options.Shape = None,
    answer: options.Answer = None,
    json: options.Json = False,
) -> None:
    """Likely critical faults of many random ones, by score.

    Each with the --index and the --fault that `emulator inject` takes.

    Example: emulator rank model_int8.onnx --inputs test.npz --limit 50 --top 20
    """
    import numpy as np

    from emulator.array.registers import inventory
    from emulator.campaign.config import load_array
    from emulator.campaign.inputs import load_samples
    from emulator.faults.fault import Fault
    from emulator.faults.space import FaultSpace
    from emulator.graph.feeds import parse_shapes
    from emulator.graph.load import load
    from emulator.sampling.importance import Importance
    from emulator.sampling.ranking import rank as run_rank
    from emulator.sampling.workbench import Workbench
    from emulator.sensitivity.jacobian import Sensitivity

    network = load(model, shapes=parse_shapes(shape), answer=answer)
    spec = load_array(array)
    samples = load_samples(inputs, network.graph, limit)
    space = FaultSpace(network, spec, registers=options.split(registers), layers=options.split(layers))
    bench = Workbench(network, spec, space, samples.inputs)
    announce(context)
    say(f"scoring {candidates:,} draws of {space.live:,} live sites x {len(samples)} images")
    rng, proposal = np.random.default_rng(seed), Importance(sensitivity=cast(Sensitivity, sensitivity))
    ranking = run_rank(bench, rng, candidates=candidates, top=top, proposal=proposal)
    names = [entry.name for entry in inventory(spec)]
    f = ranking.faults
    upsets = f.upsets(spec)
    rows = [
        {"score": float(ranking.score[i]), "input": int(ranking.image[i]), "layer": int(f.layer[i])}
        | {"layer_name": network.graph.layers[int(f.layer[i])].name, "register": names[int(f.register[i])]}
        | {"row": int(f.row[i]), "col": int(f.col[i]), "bit": int(f.bit[i]), "cycle": int(f.cycle[i])}
        | {"fault": str(Fault(layer=int(f.layer[i]), upset=upsets[i]))}
        for i in range(len(f))
    ]
    if json:
        show_json({"scored": ranking.scored, "faults": rows})
        return
    cells = [
        [f"{float(str(r['score'])):.4f}", str(r["layer_name"]), str(r["input"]), str(r["fault"])]
        for r in rows
    ]
    show(table(["score", "layer", "--index", "--fault"], cells))


def _network_facts(network: Network, spec: ArraySpec, raw: RawFit) -> dict[str, Any]:
    """With campaigns_refused: why no campaign can run on this array, None if one can."""
    from emulator.cli.datasheet import network_facts
    from emulator.errors import BadConfig
    from emulator.faults.space import FaultSpace

    refused = None
    facts = network_facts(network, spec, raw)
    try:
        FaultSpace(network, spec)
    except BadConfig as error:
        refused = str(error)
        say(f"note: campaigns refuse this array: {refused}")
    return facts | {"campaigns_refused": refused}
