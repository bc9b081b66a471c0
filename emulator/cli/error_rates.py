"""Accuracy against the bit-error rate, from the command line: ber."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emulator.cli import options
from emulator.cli.terminal import announce, command, say, show, show_json, table

if TYPE_CHECKING:
    from emulator.campaign.error_rates import Point

POINTS = 9
# Expected upsets in an inference of live bits, at the ends of the rates that are chosen for the user.
FEWEST, MOST = 0.1, 1000.0


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(ber)


@command
def ber(
    model: options.Model,
    inputs: options.Inputs,
    rates: Annotated[
        str | None,
        typer.Option(
            help="comma-separated, upsets a bit and cycle",
            show_default=f"{POINTS}, from {FEWEST:g} to {MOST:g} live upsets an inference",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="inferences with an upset, at each rate")] = 1000,
    array: Annotated[
        str, typer.Option("--array", help="presets or .toml files, comma-separated")
    ] = "gemmini-16",
    registers: options.Registers = None,
    each: Annotated[
        bool, typer.Option("--each", help="a curve for each register, not for all together")
    ] = False,
    layers: options.Layers = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    workers: Annotated[str, typer.Option(help="processes, auto, dask://HOST:PORT or dask-local")] = "auto",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON file of all points")] = None,
    figure: Annotated[Path | None, typer.Option(help="write the curves here: .svg, .pdf, .png")] = None,
    shape: options.Shape = None,
    answer: options.Answer = None,
    json: options.Json = False,
) -> None:
    """Accuracy against the bit-error rate: many upsets in one inference.

    Example: emulator ber model_int8.onnx --inputs test.npz --registers accumulator,pe_b --each --figure ber.svg
    """
    from emulator.campaign.config import load_array
    from emulator.campaign.error_rates import ErrorRates
    from emulator.campaign.executors import opener_of
    from emulator.campaign.inputs import load_samples
    from emulator.cli.inspection import check_files
    from emulator.faults.space import FaultSpace
    from emulator.graph.feeds import parse_shapes
    from emulator.graph.load import load

    check_files(output, figure)
    opener = opener_of(workers)
    network = load(model, shapes=parse_shapes(shape), answer=answer)
    samples = load_samples(inputs, network.graph, limit)
    announce(trials=trials, array=array, limit=limit, seed=seed, workers=workers)
    curves: dict[str, list[Point]] = {}
    for name in options.split(array) or []:
        spec = load_array(name)
        for label, names in _groups(options.split(registers), each, spec).items():
            space = FaultSpace(network, spec, registers=names, layers=options.split(layers))
            sweep = ErrorRates(
                network=network,
                space=space,
                samples=samples,
                rates=_rates(rates, space.live),
                trials=trials,
                seed=seed,
            )
            points = curves.setdefault(f"{name} {label}", [])
            for point in sweep.points(opener):
                points.append(point)
                say(f"{name} {label}: {point.rate:.3g} done")
    plain = {name: [point.to_json() for point in points] for name, points in curves.items()}
    if output is not None:
        _write(output, {"model": str(model), "seed": seed, "curves": plain})
    if figure is not None:
        _draw(curves, figure)
    if json:
        show_json({"curves": plain})
        return
    for name, points in curves.items():
        show(f"{name}\n{_table(points)}\n")


def _groups(names: list[str] | None, each: bool, spec: Any) -> dict[str, list[str] | None]:
    """The registers of each curve, by its label."""
    from emulator.array.registers import inventory

    if not each:
        return {",".join(names) if names else "all registers": names}
    return {name: [name] for name in names or [entry.name for entry in inventory(spec)]}


def _rates(text: str | None, live: int) -> tuple[float, ...]:
    from emulator.errors import BadConfig

    if text is None:
        ratio = (MOST / FEWEST) ** (1 / (POINTS - 1))
        return tuple(float(f"{FEWEST * ratio**i / live:.2g}") for i in range(POINTS))
    try:
        return tuple(sorted(float(part) for part in options.split(text) or []))
    except ValueError:
        raise BadConfig(f"--rates {text}; allowed: numbers such as 1e-10,1e-9.") from None


def _table(points: list[Point]) -> str:
    rows = [
        [
            f"{point.rate:.3g}",
            f"{point.upsets:.3g}",
            str(point.sdc1),
            _percent(point.due),
            "-" if point.accuracy is None else _percent(point.accuracy),
        ]
        for point in points
    ]
    return table(["upsets a bit and cycle", "an inference", "SDC-1", "DUE", "accuracy"], rows)


def _percent(estimate: Any) -> str:
    value, low, high = estimate.percent()
    return f"{value} % [{low}, {high}]"


def _write(path: Path, found: dict[str, Any]) -> None:
    import json

    from emulator.campaign.files import write_atomically

    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
    say(f"points: {path}")


def _draw(curves: dict[str, list[Point]], path: Path) -> None:
    from emulator.report.figures import error_rate_curves, save_figure

    save_figure(error_rate_curves(curves), path)
    say(f"figure: {path}")
