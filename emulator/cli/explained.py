"""One fault, explained, with the waveform and the figure that were asked for: what inject and replay share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emulator.cli.terminal import say, say_compiling
from emulator.compiling import telling_of_compiling

if TYPE_CHECKING:
    from emulator.campaign.explain import Engine, Explanation
    from emulator.faults.fault import Fault
    from emulator.sampling.workbench import Workbench

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


class Pictures(NamedTuple):
    """The files of one fault: a waveform, with the cycles before and after the fault in it, and a figure."""

    vcd: Path | None
    before: int
    after: int | None
    figure: Path | None


def alone(
    bench: Workbench, image: int, fault: Fault, engine: Engine, pictures: Pictures
) -> tuple[Explanation, dict[str, Any]]:
    """What a fault does, and the files that were written, as JSON has them."""
    from emulator.campaign.explain import explain

    with telling_of_compiling(say_compiling):
        explanation = explain(bench, image, fault, engine)
        files = _waveform(pictures, bench, image, fault)
    return explanation, files | _figure(pictures.figure, explanation)


def _waveform(wanted: Pictures, bench: Workbench, image: int, fault: Fault) -> dict[str, Any]:
    from emulator.report.waveform import write_fault_waveform

    path = wanted.vcd
    if path is None:
        return {}
    cycles = write_fault_waveform(path, bench, image, fault, before=wanted.before, after=wanted.after)
    say(f"waveform: {path}, cycles {cycles.start} to {cycles.stop - 1}, by the cycle engine")
    return {"vcd": {"path": str(path), "first_cycle": cycles.start, "last_cycle": cycles.stop - 1}}


def _figure(path: Path | None, explanation: Explanation) -> dict[str, Any]:
    from emulator.report.figures.error_map import error_map
    from emulator.report.figures.files import save_figure

    if path is None:
        return {}
    save_figure(error_map(explanation), path)
    say(f"figure: {path}")
    return {"figure": str(path)}
