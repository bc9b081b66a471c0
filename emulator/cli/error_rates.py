"""Accuracy against the bit-error rate, from the command line: ber."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli import completion, options
from emulator.cli.terminal import INTERRUPTED, NOTHING, announce, command, say, show, show_json, table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from emulator.campaign.error_rate_store import ErrorRateStore
    from emulator.campaign.error_rates import Curve, ErrorRates, Point
    from emulator.campaign.executors import Opener
    from emulator.faults.space import FaultSpace
    from emulator.graph.load import Network
    from emulator.sampling.estimate import Estimate

ARRAY = "gemmini-16"
# Expected upsets of live sites in an inference, at the ends of the rates that are chosen for the user.
FEWEST, MOST = 0.1, 1000.0


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(ber)


@command
def ber(
    context: typer.Context,
    model: options.Model,
    inputs: options.Inputs,
    rates: Annotated[
        str | None,
        typer.Option(
            help="bit-error rates, upsets a bit and cycle, comma-separated",
            show_default=f"1 and 3 of each decade, from {FEWEST:g} to {MOST:g} live upsets an inference",
        ),
    ] = None,
    voltage: Annotated[
        Path | None,
        typer.Option(
            help="instead: CSV of supply_v,bit_error_rate, of your process; draws against volts",
            show_default=NOTHING,
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="struck inferences at each rate, as many on every image (rounded up)")
    ] = 1000,
    array: Annotated[
        list[str] | None,
        typer.Option(
            "--array",
            help="preset or .toml; repeatable, a curve each",
            show_default=ARRAY,
            autocompletion=completion.one_of("emulator.array.presets", "PRESETS"),
        ),
    ] = None,
    registers: Annotated[
        list[str] | None,
        typer.Option(
            "--registers",
            help="comma-separated; repeatable, a curve for each group",
            show_default="all",
            autocompletion=completion.registers,
        ),
    ] = None,
    layers: options.Layers = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    workers: options.Workers = "auto",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="JSON file of all points; resumed", show_default=NOTHING),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="write the curves here: .svg, .pdf, .png", show_default=NOTHING)
    ] = None,
    shape: options.Shape = None,
    answer: options.Answer = None,
    json: options.Json = False,
) -> None:
    """Accuracy against the bit-error rate.

    Every bit flips in every cycle with this probability, independently of all others; the upsets of an inference are
    followed together, exactly. Accuracy is against the labels of the inputs, or without any against the fault-free
    answers. Ctrl-C ends the command with the points it has; with -o a rerun goes on from there.

    Example: emulator ber model_int8.onnx --inputs test.npz --limit 200 --registers accumulator --registers pe_b,pe_c1
    -o ber.json --figure ber.svg
    """
    from emulator.campaign.error_rate_store import ErrorRateStore
    from emulator.campaign.error_rates import ErrorRates
    from emulator.campaign.executors import counted_workers, opener_of
    from emulator.campaign.inputs import load_samples
    from emulator.graph.feeds import parse_shapes
    from emulator.graph.load import load

    options.check_files(output, figure, given=(model, inputs))
    opener = opener_of(counted_workers(workers), workers)
    network = load(model, shapes=parse_shapes(shape), answer=answer)
    samples = load_samples(inputs, network.graph, limit)
    volts = _volts(rates, voltage)
    arrays = array or [ARRAY]
    sweep = ErrorRates(
        network=network,
        samples=samples,
        curves=_curves(network, arrays, registers, options.split(layers), list(volts) if volts else rates),
        trials=trials,
        seed=seed,
    )
    announce(context, *(("rates",) if voltage else ()))
    clean = sweep.answers()
    against = "fault-free answers" if samples.labels is None else "labels"
    say(
        f"{sweep.passes * len(samples)} struck inferences at each rate, {sweep.passes} on each of the {len(samples)} "
        f"images, against {against}"
    )
    store = ErrorRateStore(sweep, sweep.without_upsets(clean), output)
    interrupted = _run(sweep, clean, store, opener)
    _present(store, volts, sweep.without_upsets(clean), figure, json)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _volts(rates: str | None, voltage: Path | None) -> dict[float, float]:
    """By bit-error rate; none without a table."""
    from emulator.campaign.voltage import read_voltages
    from emulator.errors import BadConfig

    if voltage is None:
        return {}
    if rates is not None:
        raise BadConfig("--rates and --voltage; allowed: one of them. The table has the rates.")
    return read_voltages(voltage)


def _curves(
    network: Network,
    arrays: list[str],
    registers: list[str] | None,
    layers: list[str] | None,
    rates: list[float] | str | None,
) -> list[Curve]:
    """One for each array and group of registers, named by what differs."""
    from emulator.campaign.config import load_array
    from emulator.campaign.error_rates import Curve
    from emulator.faults.space import FaultSpace

    curves = []
    for spec in [load_array(name) for name in arrays]:
        for group in registers or (None,):
            space = FaultSpace(network, spec, registers=options.split(group), layers=layers)
            names = [spec.name] if len(arrays) > 1 else []
            names += [group or "all registers"] if registers or not names else []
            curves.append(Curve(name=" ".join(names), space=space, rates=_rates(rates, space)))
    return curves


def _rates(given: list[float] | str | None, space: FaultSpace) -> tuple[float, ...]:
    from emulator.errors import BadConfig
    from emulator.faults.bit_errors import BitErrors

    if given is None:
        return _half_decades(FEWEST / space.live, min(MOST / space.live, BitErrors(space).highest_rate))
    if isinstance(given, list):
        return tuple(given)
    try:
        return tuple(sorted({float(part) for part in options.split(given) or []}))
    except ValueError:
        raise BadConfig(f"--rates {given}; allowed: numbers such as 1e-10,1e-9.") from None


def _half_decades(low: float, high: float) -> tuple[float, ...]:
    """1, 3, 10, 30 ... times a power of ten, from low to high."""
    from math import floor, log10

    powers = range(floor(log10(low)), floor(log10(high)) + 1)
    steps = (float(f"{digit}e{power}") for power in powers for digit in (1, 3))
    return tuple(rate for rate in steps if low <= rate <= high)


def _run(
    sweep: ErrorRates, clean: npt.NDArray[np.int64], store: ErrorRateStore, opener: Opener | None
) -> bool:
    """Every point that is not stored yet; was it interrupted?"""
    known = sum(map(len, store.curves().values()))
    if known:
        say(f"{known} points are there already")
    try:
        with closing(sweep.points(clean, opener, store.done)) as points:
            for curve, point in points:
                store.add(curve, point)
                say(f"{curve.name}, {point.bit_error_rate:.2g}: accuracy {_percent(point.accuracy)} %")
    except KeyboardInterrupt:
        if not any(store.curves().values()):
            raise
        say("interrupted; the points below are done")
        return True
    return False


def _present(
    store: ErrorRateStore, volts: Mapping[float, float], clean: Estimate, figure: Path | None, json: bool
) -> None:
    """The figure, then JSON or tables."""
    curves = store.curves()
    if figure is not None:
        from emulator.report.figures.error_rates import error_rate_curves
        from emulator.report.figures.files import save_figure

        labelled = store.sweep.samples.labels is not None
        save_figure(error_rate_curves(curves, clean=clean, labelled=labelled, volts=volts), figure)
        say(f"figure: {figure}")
    if json:
        voltages = [{"bit_error_rate": rate, "supply_v": volt} for rate, volt in volts.items()]
        show_json({**store.to_json(), "voltages": voltages})
        return
    show(f"without upsets: accuracy {_percent(clean)} %")
    for name, points in curves.items():
        show(f"\n{name}\n{_table(points, volts)}")


def _table(points: list[Point], volts: Mapping[float, float]) -> str:
    header = ["bit-error rate", "upsets an inference", "live", "accuracy (%)", "SDC-1 (%)", "DUE (%)"]
    rows = [
        [
            f"{point.bit_error_rate:.2g}",
            _amount(point.upsets),
            _amount(point.live_upsets),
            _percent(point.accuracy),
            _percent(point.sdc1),
            _percent(point.due),
        ]
        for point in points
    ]
    if volts:
        header.insert(0, "supply (V)")
        for row, point in zip(rows, points, strict=True):
            row.insert(0, f"{volts[point.bit_error_rate]:g}")
    return table(header, rows)


def _amount(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def _percent(estimate: Estimate) -> str:
    value, low, high = estimate.percent()
    return f"{value} [{low}, {high}]"
