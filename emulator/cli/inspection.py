"""Commands that look without a campaign: inspect, inject, rank."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from emulator.cli import options
from emulator.cli.terminal import announce, command, say, show, show_json, table

if TYPE_CHECKING:
    from emulator.array.fit import RawFit
    from emulator.array.spec import ArraySpec
    from emulator.campaign.explain import Explanation
    from emulator.faults.fault import Fault
    from emulator.graph.load import Network
    from emulator.sampling.workbench import Workbench

# The options of `inspect` and `inject` that no other command has.
MaybeModel = Annotated[
    Path | None, typer.Argument(help="int8 ONNX model, QDQ or QOperator", show_default=False)
]
RegistersOnly = Annotated[bool, typer.Option("--registers", help="the register inventory instead")]
ArraysOnly = Annotated[bool, typer.Option("--arrays", help="the array presets instead")]
Fit = Annotated[
    Path | None, typer.Option("--fit", help=".toml of raw FIT per Mbit: flip-flop, sram, register names")
]
Markdown = Annotated[bool, typer.Option("--markdown", help="with --registers: as a page")]
FaultTexts = Annotated[
    list[str],
    typer.Option(
        "--fault",
        help='"layer=conv1 register=pe_b row=3 col=4 cycle=100 bit=7"; bit=3,7 for several; also '
        "kind=stuck-at-0 or stuck-at-1, until_cycle=120; stuck-ats without layer= act in every layer; "
        '"dead-pe row=3 col=4", "dead-row row=3", "dead-column col=4". Repeat it for several at once.',
    ),
]
Vcd = Annotated[Path | None, typer.Option("--vcd", help="write every register as a waveform (VCD)")]
VcdBefore = Annotated[
    int, typer.Option("--vcd-before", min=0, help="cycles before the fault in the waveform")
]
VcdAfter = Annotated[
    int | None,
    typer.Option(
        "--vcd-after",
        min=0,
        help="cycles after the fault in the waveform",
        show_default="64 and those a row takes to leave the array",
    ),
]
FigureFile = Annotated[
    Path | None,
    typer.Option("--figure", help="draw where the errors lie in the layer's output: .png, .svg or .pdf"),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for function in (inspect, inject, rank):
        app.command()(function)


@command
def inspect(
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
    from emulator.campaign.config import load_array
    from emulator.cli import datasheet
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
    raw = _raw_fit(fit, spec)
    facts = datasheet.array_facts(spec, raw)
    if model is not None:
        network = load(model, shapes=parse_shapes(shape), answer=answer)
        facts |= _network_facts(network, spec, raw)
    if json:
        show_json(facts)
    elif registers:
        datasheet.show_registers(facts)
    else:
        datasheet.show_network(facts)


@command
def inject(
    model: options.Model,
    inputs: options.Inputs,
    fault: FaultTexts,
    index: Annotated[int, typer.Option(min=0, help="which sample of the inputs")] = 0,
    array: options.Array = "gemmini-16",
    engine: options.Engine = "auto",
    vcd: Vcd = None,
    vcd_before: VcdBefore = 16,
    vcd_after: VcdAfter = None,
    figure: FigureFile = None,
    shape: options.Shape = None,
    answer: options.Answer = None,
    json: options.Json = False,
) -> None:
    """Faults, one or several at once, explained.

    Example: emulator inject m.onnx --inputs t.npz --fault "layer=0 register=pe_b row=3 col=4 cycle=100 bit=7"

    Example: emulator inject m.onnx --inputs t.npz --fault "layer=0 register=pe_valid row=0 col=0 cycle=9 bit=0
    kind=stuck-at-0 until_cycle=20" --vcd fault.vcd --figure fault.png

    Example: emulator inject m.onnx --inputs t.npz --fault "dead-column col=7" --fault "register=pe_a row=1 col=2 bit=7
    kind=stuck-at-1"
    """
    from emulator.campaign.config import load_array
    from emulator.campaign.explain import explain, parse_engine
    from emulator.campaign.explain_dense import explain_dense
    from emulator.campaign.fault_text import parse_fault
    from emulator.campaign.inputs import load_samples
    from emulator.errors import BadConfig
    from emulator.faults.fault import Fault
    from emulator.faults.space import FaultSpace
    from emulator.graph.feeds import parse_shapes
    from emulator.graph.load import load
    from emulator.sampling.workbench import Workbench

    check_files(vcd, figure)
    network = load(model, shapes=parse_shapes(shape), answer=answer)
    spec = load_array(array)
    chosen = parse_engine(engine)
    announce(array=array, index=index, engine=engine)
    samples = load_samples(inputs, network.graph)
    bench = Workbench(network, spec, FaultSpace(network, spec), samples.inputs)
    layers = [layer.name for layer in network.graph.layers]
    named = [parse_fault(text, layers, spec) for text in fault]
    if len(named) > 1 or named[0].layer is None or len(named[0].upsets) > 1:
        if vcd is not None or figure is not None:
            raise BadConfig(
                f"--vcd or --figure with {', '.join(repr(one.text) for one in named)}; allowed: one fault of one "
                "layer, which they show. Name a layer, or leave them out."
            )
        dense = explain_dense(bench, index, named, chosen)
        if json:
            show_json(dense.to_json())
        else:
            show(str(dense))
        return
    parsed = Fault(layer=named[0].layer, upset=named[0].upsets[0])
    explanation = explain(bench, index, parsed, chosen)
    files = _waveform(vcd, bench, index, parsed, vcd_before, vcd_after) | _figure(figure, explanation, bench)
    if json:
        show_json(explanation.to_json() | files)
    else:
        show(str(explanation))


@command
def rank(
    model: options.Model,
    inputs: options.Inputs,
    top: Annotated[int, typer.Option(min=1, help="how many to list")] = 100,
    candidates: Annotated[int, typer.Option(min=1, help="sites scored")] = 20_000,
    sensitivity: Annotated[str, typer.Option(help="gradient, or finite-difference")] = "gradient",
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

    Example: emulator rank model_int8.onnx --inputs test.npz --limit 50 --top 20
    """
    import numpy as np

    from emulator.array.registers import inventory
    from emulator.campaign.config import load_array
    from emulator.campaign.inputs import load_samples
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
    announce(array=array, candidates=candidates, top=top, limit=limit, sensitivity=sensitivity, seed=seed)
    say(f"scoring {candidates:,} draws of {space.live:,} live sites x {len(samples)} images")
    rng, proposal = np.random.default_rng(seed), Importance(sensitivity=cast(Sensitivity, sensitivity))
    ranking = run_rank(bench, rng, candidates=candidates, top=top, proposal=proposal)
    names = [entry.name for entry in inventory(spec)]
    f = ranking.faults
    rows = [
        {"score": float(ranking.score[i]), "input": int(ranking.image[i]), "layer": int(f.layer[i])}
        | {"layer_name": network.graph.layers[int(f.layer[i])].name, "register": names[int(f.register[i])]}
        | {"row": int(f.row[i]), "col": int(f.col[i]), "bit": int(f.bit[i]), "cycle": int(f.cycle[i])}
        for i in range(len(f))
    ]
    if json:
        show_json({"scored": ranking.scored, "faults": rows})
        return
    header = ["layer", "register", "row", "col", "bit", "cycle", "input", "score"]
    cells = [
        [
            f"{r['layer']} {r['layer_name']}",
            *(str(r[key]) for key in header[1:-1]),
            f"{float(str(r['score'])):.4f}",
        ]
        for r in rows
    ]
    show(table(header, cells))


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


def _raw_fit(path: Path | None, spec: ArraySpec) -> RawFit:
    import tomllib

    from emulator.array.fit import RawFit
    from emulator.array.registers import inventory
    from emulator.errors import BadConfig

    if path is None:
        return RawFit()
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"FIT file {str(path)!r} can't be read: {error}. Give a TOML file.") from error
    return RawFit.from_table(values, [entry.name for entry in inventory(spec)])


def check_files(file: Path | None, figure: Path | None) -> None:
    """Raise before any work is done for nothing."""
    from emulator.errors import BadConfig

    for path in (file, figure):
        if path is not None and not path.parent.is_dir():
            raise BadConfig(
                f"{str(path)!r}: {str(path.parent)!r} is not a folder. Create it, or choose another."
            )
    if figure is not None:
        from emulator.report.figures.files import check_figure_path

        check_figure_path(figure)


def _waveform(
    path: Path | None, bench: Workbench, image: int, fault: Fault, before: int, after: int | None
) -> dict[str, Any]:
    from emulator.report.waveform import write_fault_waveform

    if path is None:
        return {}
    cycles = write_fault_waveform(path, bench, image, fault, before=before, after=after)
    say(f"waveform: {path}, cycles {cycles.start} to {cycles.stop - 1}, by the cycle engine")
    return {"vcd": {"path": str(path), "first_cycle": cycles.start, "last_cycle": cycles.stop - 1}}


def _figure(path: Path | None, explanation: Explanation, bench: Workbench) -> dict[str, Any]:
    from emulator.faults.plan import plan_of
    from emulator.report.figures.error_map import error_map
    from emulator.report.figures.files import save_figure

    if path is None:
        return {}
    layer = bench.network.graph.layers[explanation.fault.layer]
    save_figure(error_map(explanation, plan_of(bench.array, layer)), path)
    say(f"figure: {path}")
    return {"figure": str(path)}
