"""What `inspect` tells: layers and their cost, registers and their exposure, presets; as plain values and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from emulator.cli.terminal import counted, show, table

if TYPE_CHECKING:
    from emulator.array.bit_cycles import Exposure
    from emulator.array.cycles import Cost
    from emulator.array.fit import RawFit
    from emulator.array.spec import ArraySpec
    from emulator.array.tiling import Schedule
    from emulator.graph.load import Network

Facts = dict[str, Any]


# ---- plain values


def network_facts(network: Network, spec: ArraySpec, raw: RawFit) -> Facts:
    """Everything about a network on an array that needs no data."""
    from emulator.array.bit_cycles import exposures
    from emulator.array.cycles import costs
    from emulator.faults.plan import plan_of
    from emulator.graph.qgraph import HostOp

    layers = network.graph.layers
    plans = [plan_of(spec, layer) for layer in layers]
    exposed = exposures(spec, plans, raw)
    size, live = sum(e.bit_cycles for e in exposed), sum(e.live for e in exposed)
    cycles = sum(plan.cycles for plan in plans)
    return {
        "model": network.graph.name,
        "array": spec.name,
        "clock_hz": spec.clock_hz,
        "answer": {"output": network.graph.output_name, "values": network.graph.classes},
        "host_segments": [
            {"name": op.name, "nodes": list(op.nodes)} for op in network.graph.ops if isinstance(op, HostOp)
        ],
        "not_on_the_array": list(network.graph.float_macs),
        "macs": network.graph.macs,
        "cycles": cycles,
        "seconds": cycles / spec.clock_hz,
        "window_cycles": sum(plan.window_cycles for plan in plans),
        "conventions": _costs(costs(plans)),
        "space_size": size,
        "live": live,
        "live_share": live / size,
        "layers": [
            {"index": i, "name": layer.name, "op": layer.op, **_layer_facts(plan)}
            for i, (layer, plan) in enumerate(zip(layers, plans, strict=True))
        ],
        "registers": [_register_facts(e) | _exposure_facts(e) for e in exposed],
        "breakdown": [
            {"layer": i, "layer_name": layer.name, "register": e.register.name}
            | {"sites": e.bit_cycles, "live": e.live}
            for i, (layer, plan) in enumerate(zip(layers, plans, strict=True))
            for e in exposures(spec, [plan], raw)
        ],
    }


def _layer_facts(plan: Schedule) -> Facts:
    from emulator.array.cycles import costs

    return {
        **asdict(plan.shape),
        "macs": plan.shape.macs,
        "folds": plan.folds,
        "cycles": plan.cycles,
        "utilisation": plan.utilisation,
        "window_cycles": plan.window_cycles,
        "conventions": _costs(costs([plan])),
    }


def _costs(found: dict[str, Cost]) -> Facts:
    return {name: asdict(cost) for name, cost in found.items()}


def _register_facts(exposure: Exposure) -> Facts:
    from emulator.array.datasheet import register_facts

    rates = {"raw_fit_per_mbit": exposure.raw_fit_per_mbit, "raw_fit": exposure.raw_fit}
    return register_facts(exposure.register) | rates


def _exposure_facts(exposure: Exposure) -> Facts:
    found = {"bit_cycles": exposure.bit_cycles, "live": exposure.live}
    return {**found, "live_share": exposure.live_share}


def array_facts(spec: ArraySpec, raw: RawFit) -> Facts:
    """What is known of an array without a network."""
    from emulator.array.bit_cycles import exposures
    from emulator.array.datasheet import storage_totals

    return {
        "array": spec.name,
        "registers": [_register_facts(e) for e in exposures(spec, [], raw)],
        "storage": storage_totals(spec),
        "raw_fit": raw.to_json(),
    }


# ---- text


def show_network(facts: Facts, raw: RawFit) -> None:
    """Layers, costs, exposure and the size of the fault space."""
    show(f"{facts['model']} on {facts['array']}: {facts['macs']:,} MACs, {facts['cycles']:,} cycles")
    show(table(["layer", "op", "m", "k", "n", "groups", "MACs", "folds"], _shape_rows(facts)))
    _show_sides(facts)
    show("")
    header = ["layer", "cycles", "utilisation", "ms", "fault window", "SCALE-Sim cycles", "utilisation", "ms"]
    show(table(header, _cost_rows(facts)))
    show(
        f"\ncycles as the engines run them, and as SCALE-Sim counts; ms at {facts['clock_hz'] / 1e6:g} MHz\n"
    )
    header = ["register", "storage", "bits", "bit-cycles", "live", "raw FIT"]
    show(table(header, _exposure_rows(facts["registers"])))
    show("")
    show(f"raw FIT: every upset counted, {raw}; times the AVF of a campaign it is the FIT")
    show(
        f"fault space: {facts['space_size']:,} sites an inference (register bits x cycles), {facts['live']:,} live "
        f"({100 * facts['live_share']:.2f} %); the rest is masked without simulation"
    )


def _show_sides(facts: Facts) -> None:
    """What the answer is, and what is not on the array."""
    answer = facts["answer"]
    show(f"\nanswer: output {answer['output']!r}, {answer['values']} values")
    segments = facts["host_segments"]
    if segments:
        kinds = sorted({kind for segment in segments for kind in segment["nodes"]})
        show(f"run by ONNX Runtime on the host, in {counted(len(segments), 'segment')}: {', '.join(kinds)}")
    for line in facts["not_on_the_array"]:
        show(f"not on the array: {line}")


def _shape_rows(facts: Facts) -> list[list[str]]:
    keys = ("m", "k", "n", "groups", "macs", "folds")
    return [
        [f"{layer['index']} {layer['name']}", layer["op"], *(f"{layer[key]:,}" for key in keys)]
        for layer in facts["layers"]
    ]


def _cost_rows(facts: Facts) -> list[list[str]]:
    rows = [(f"{layer['index']} {layer['name']}", layer) for layer in facts["layers"]]
    cells = []
    for name, of in [*rows, ("network", facts)]:
        ours, theirs = (_cost_cells(of["conventions"][key]) for key in ("gemmini", "scale-sim"))
        cells.append([name, *ours, f"{of['window_cycles']:,}", *theirs])
    return cells


def _cost_cells(cost: Facts) -> list[str]:
    return [f"{cost['cycles']:,}", f"{100 * cost['utilisation']:.1f} %", _plain(cost["milliseconds"])]


def _plain(number: float) -> str:
    """Three digits and no exponent."""
    return format(Decimal(f"{number:.3g}"), "f")


def _exposure_rows(registers: Sequence[Facts]) -> list[list[str]]:
    rows = []
    for r in registers:
        numbers = (f"{r['bits']:,}", f"{r['bit_cycles']:,}", _live(r), _plain(r["raw_fit"]))
        rows.append([r["name"], r["storage"], *numbers])
    return rows


def show_registers(facts: Facts) -> None:
    """The inventory, two lines a register; live is a share where a network was given."""
    header = ["register", "geometry", "bits each", "bits", "storage", "live"]
    rows = [
        [r["name"], r["geometry"], _width(r), f"{r['bits']:,}", r["storage"], _live(r)]
        for r in facts["registers"]
    ]
    lines = table(header, rows).splitlines()
    show("\n".join(lines[:2]))
    for line, r in zip(lines[2:], facts["registers"], strict=True):
        show(f"{line}\n    {r['meaning']}; live: {r['live_when']}")
    show("")
    for storage, total in facts["storage"].items():
        never = f"{total['never_live_bits']:,} of them never live"
        show(f"{storage}: {total['bits']:,} bits in {total['classes']} classes, {never}")


def _width(register: Facts) -> str:
    each, first = register["bits_each"], register["first_row_bits"]
    return str(each) if each == first else f"{each} ({first} in row 0)"


def _live(register: Facts) -> str:
    if "live_share" in register:
        return f"{100 * register['live_share']:.2f} %"
    return "never" if register["never_live"] else "yes"


def show_presets(presets: Sequence[Facts]) -> None:
    """One line a preset."""
    header = ["array", "PEs", "flow", "build", "bits", "acc", "buffers", "requantiser", "MHz", "TOPS"]
    rows = []
    for p in presets:
        bits = "/".join(str(p[f"{word}_bits"]) for word in ("act", "wgt", "psum", "acc"))
        buffers = f"{p['act_buffer_kib']:g} + {p['wgt_buffer_kib']:g}"
        kind = [p["name"], f"{p['rows']} x {p['cols']}", p["dataflow"], p["dataflows"], bits]
        memory = [f"{p['accumulator_kib']:g}", buffers, p["requantiser"]]
        rows.append([*kind, *memory, f"{p['clock_hz'] / 1e6:g}", f"{p['peak_tops']:.3g}"])
    show(table(header, rows))
    show("\nbits: activations/weights/partial sums/accumulators; accumulators and buffers (act + wgt) in KiB")
    show(
        "any other array: --array FILE.toml with the fields of ArraySpec; sources: emulator/array/presets.py"
    )
