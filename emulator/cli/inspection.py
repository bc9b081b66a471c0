"""Commands that look without a campaign: inspect, check, inject, rank."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emulator.cli import options
from emulator.cli.terminal import announce, command, say, show, show_json, table

if TYPE_CHECKING:
    from emulator.array.spec import ArraySpec
    from emulator.campaign.check import Difference
    from emulator.campaign.inputs import Samples
    from emulator.graph.onnx_import import Network
    from emulator.graph.qgraph import MacLayer


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for function in (inspect, check, inject, rank):
        app.command()(function)


@command
def inspect(model: options.Model, array: options.Array = "gemmini-16", json: options.Json = False) -> None:
    """Layers, cycles, registers and the fault space; no data needed.

    Example: emulator inspect model_int8.onnx --array gemmini-8
    """
    from emulator.array.registers import inventory
    from emulator.campaign.config import load_array
    from emulator.faults.space import FaultSpace
    from emulator.graph.onnx_import import load

    network, spec = load(model), load_array(array)
    space = FaultSpace(network, spec)
    layers = [_layer_facts(i, layer, spec) for i, layer in enumerate(network.graph.layers)]
    registers = [{"name": r.name, "bits": r.total_bits, "meaning": r.meaning} for r in inventory(spec)]
    cycles = sum(layer["cycles"] for layer in layers)
    if json:
        show_json(
            {"model": network.graph.name, "array": spec.name, "macs": network.graph.macs, "cycles": cycles}
            | {"seconds": cycles / spec.clock_hz, "space_size": space.size, "live": space.live}
            | {"live_share": space.live_share, "layers": layers, "registers": registers}
            | {"breakdown": space.breakdown()}
        )
        return
    show(f"{network.graph.name} on {spec.name}: {network.graph.macs:,} MACs, {cycles:,} cycles")
    header = ["layer", "op", "m", "k", "n", "groups", "MACs", "folds", "cycles", "utilisation"]
    rows = [_layer_row(facts) for facts in layers]
    show(table(header, rows))
    show("")
    show(
        table(
            ["register", "bits", "meaning"],
            [[str(r["name"]), f"{r['bits']:,}", str(r["meaning"])] for r in registers],
        )
    )
    show("")
    show(
        f"fault space: {space.size:,} sites an inference (register bits x cycles), {space.live:,} live "
        f"({100 * space.live_share:.2f} %); the rest is masked without simulation"
    )


@command
def check(
    model: options.Model,
    inputs: Annotated[Path | None, typer.Option(help="npz; default: 8 seeded random samples")] = None,
    array: options.Array = "gemmini-16",
    limit: options.Limit = None,
    cycle_images: Annotated[int, typer.Option(min=0, help="images replayed cycle by cycle")] = 1,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Compare every tensor with ONNX Runtime, bit for bit.

    Exit 1 on a mismatch.

    Example: emulator check model_int8.onnx --inputs test.npz
    """
    from emulator.campaign.check import check as run_check
    from emulator.campaign.config import load_array
    from emulator.errors import CheckFailed
    from emulator.graph.onnx_import import load

    network, spec = load(model), load_array(array)
    announce(array=array, limit=limit, cycle_images=cycle_images)
    samples = _samples(network, inputs, limit, seed)
    report = run_check(
        network,
        spec,
        samples,
        cycle_images=cycle_images,
        progress=lambda n: say(f"  {n} of {len(samples)} samples"),
    )
    if json:
        show_json(report.to_json())
    else:
        rows = [_range_row(facts) for facts in report.layers]
        header = ["layer", "acc min", "acc max", "acc bits", "at maximum", "cycles replayed", "differences"]
        show(table(header, rows))
        show("")
        show(
            f"QLinear form, ONNX Runtime unoptimised: {report.tensors} tensors x {report.samples} samples, "
            f"{len(report.mismatches)} tensors differ"
        )
        show(f"original file, unoptimised, operator by operator: {_summary(report.operators)}")
        show(f"original file, unoptimised, end to end: {_summary(report.whole)}")
        for name, difference in report.whole.items():
            if difference.elements:
                one = report.operators.get(name, difference)
                show(
                    f"  {name}: {one.elements} elements by {one.max_lsb} LSB in its own operator, "
                    f"{difference.elements} by up to {difference.max_lsb} LSB end to end"
                )
        show(f"original file, optimised: top-1 agrees on {100 * report.top1_agreement:.2f} % of samples")
        if report.accuracy is not None and report.accuracy_original is not None:
            show(
                f"accuracy: {100 * report.accuracy:.2f} %, original file {100 * report.accuracy_original:.2f} %"
            )
    if not report.ok:
        listed = ", ".join(f"{name} ({count})" for name, count in list(report.mismatches.items())[:5])
        raise CheckFailed(
            f"{len(report.mismatches)} tensors differ from ONNX Runtime [{listed}], "
            f"{report.engine_mismatches} differences of the cycle engine, {len(report.far_operators)} operators of "
            f"the original file off by more than 1 LSB {report.far_operators[:5]}. Do not trust campaigns on this "
            "model; please report it."
        )
    say("ok: the emulator equals ONNX Runtime")


@command
def inject(
    model: options.Model,
    inputs: options.Inputs,
    fault: Annotated[str, typer.Option(help='"layer=conv1 register=pe_b row=3 col=4 cycle=100 bit=7"')],
    index: Annotated[int, typer.Option(min=0, help="which sample of the inputs")] = 0,
    array: options.Array = "gemmini-16",
    engine: Annotated[
        str, typer.Option(help="closed-form, or cycle: replay the layer clock by clock")
    ] = "closed-form",
    json: options.Json = False,
) -> None:
    """Strike one fault and explain what became of it.

    Example: emulator inject m.onnx --inputs t.npz --fault "layer=0 register=pe_b row=3 col=4 cycle=100 bit=7"
    """
    from emulator.campaign.config import load_array
    from emulator.campaign.explain import explain, parse_engine, parse_fault
    from emulator.campaign.inputs import load_samples
    from emulator.faults.space import FaultSpace
    from emulator.graph.onnx_import import load
    from emulator.sampling.workbench import Workbench

    network, spec = load(model), load_array(array)
    chosen = parse_engine(engine)
    announce(array=array, index=index, engine=engine)
    samples = load_samples(inputs, network.graph)
    bench = Workbench(network, spec, FaultSpace(network, spec), samples.inputs)
    parsed = parse_fault(fault, [layer.name for layer in network.graph.layers])
    explanation = explain(bench, index, parsed, chosen)
    if json:
        show_json(explanation.to_json())
    else:
        show(str(explanation))


@command
def rank(
    model: options.Model,
    inputs: options.Inputs,
    top: Annotated[int, typer.Option(min=1, help="how many to list")] = 100,
    candidates: Annotated[int, typer.Option(min=1, help="sites scored")] = 20_000,
    array: options.Array = "gemmini-16",
    registers: options.Registers = None,
    layers: options.Layers = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """The most critical faults by score, without injecting any.

    Example: emulator rank model_int8.onnx --inputs test.npz --limit 50 --top 20
    """
    import numpy as np

    from emulator.array.registers import inventory
    from emulator.campaign.config import load_array
    from emulator.campaign.inputs import load_samples
    from emulator.faults.space import FaultSpace
    from emulator.graph.onnx_import import load
    from emulator.sampling.ranking import rank as run_rank
    from emulator.sampling.workbench import Workbench

    network, spec = load(model), load_array(array)
    samples = load_samples(inputs, network.graph, limit)
    space = FaultSpace(network, spec, registers=options.split(registers), layers=options.split(layers))
    bench = Workbench(network, spec, space, samples.inputs)
    announce(array=array, candidates=candidates, top=top, limit=limit, seed=seed)
    say(f"scoring {candidates:,} of {space.live:,} live sites x {len(samples)} images")
    ranking = run_rank(bench, np.random.default_rng(seed), candidates=candidates, top=top)
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


def _layer_facts(index: int, layer: MacLayer, spec: ArraySpec) -> dict[str, Any]:
    from dataclasses import asdict

    from emulator.array.tiling import schedule

    plan = schedule(spec, layer.shape)
    facts = {"index": index, "name": layer.name, "op": layer.op, **asdict(layer.shape)}
    cost = {"macs": layer.shape.macs, "folds": plan.folds, "cycles": plan.cycles}
    return {**facts, **cost, "utilisation": plan.utilisation}


def _layer_row(facts: dict[str, Any]) -> list[str]:
    numbers = [f"{facts[key]:,}" for key in ("m", "k", "n", "groups", "macs", "folds", "cycles")]
    return [f"{facts['index']} {facts['name']}", facts["op"], *numbers, f"{100 * facts['utilisation']:.1f} %"]


def _range_row(facts: dict[str, Any]) -> list[str]:
    return [
        facts["name"],
        f"{facts['accumulator_min']:,}",
        f"{facts['accumulator_max']:,}",
        f"{facts['accumulator_bits_needed']} of {facts['accumulator_bits']}",
        f"{100 * facts['saturated_share']:.2f} %",
        f"{facts['cycles']:,}",
        str(facts["engine_mismatches"]),
    ]


def _summary(differences: dict[str, Difference]) -> str:
    elements = sum(difference.elements for difference in differences.values())
    touched = sum(difference.elements > 0 for difference in differences.values())
    worst = max((difference.max_lsb for difference in differences.values()), default=0)
    return f"{elements} elements in {touched} of {len(differences)} tensors differ, at most by {worst} LSB"


def _samples(network: Network, inputs: Path | None, limit: int | None, seed: int) -> Samples:
    """The user's samples, or eight announced random ones over the input's quantised range."""
    import numpy as np

    from emulator.campaign.inputs import load_samples

    graph = network.graph
    if inputs is not None:
        return load_samples(inputs, graph, limit)
    tensor = graph.tensors[graph.input]
    codes = np.random.default_rng(seed).integers(-128, 128, (8, tensor.size)).astype(np.int8)
    say(f"no --inputs: 8 random samples over the input's range, --seed {seed}")
    real = (tensor.to_onnx(codes).astype(np.float32) - tensor.offset - tensor.zero_point) * np.float32(
        tensor.scale
    )
    return load_samples(real.astype(np.float32), graph)
