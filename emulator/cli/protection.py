"""Selective protection from the command line: protect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli import completion, options
from emulator.cli.terminal import NOTHING, and_more, announce, command, say, show, show_json, table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from emulator.campaign.results import Results
    from emulator.harden.protection import Bought, Protection

TOP = 20


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(protect)


@command
def protect(
    context: typer.Context,
    directory: options.Directory,
    budget: Annotated[
        str, typer.Option(help="added area (with --by layer: cycles), a share such as 1% or 0.01")
    ] = "1%",
    by: Annotated[
        str,
        typer.Option(
            help="what is protected as a whole: register-bit, register, row-bit, word, bit, pe, layer",
            autocompletion=completion.one_of("emulator.harden.units", "ALLOWED"),
        ),
    ] = "register-bit",
    techniques: Annotated[
        Path | None, typer.Option(help="TOML table of techniques and costs", show_default="the built-in one")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="comma-separated techniques, e.g. secded,tmr",
            show_default="all that fit",
            autocompletion=completion.techniques,
        ),
    ] = None,
    checksum: Annotated[
        str | None,
        typer.Option(
            help="the chip has these checksums too, and corrects: rows, columns, both",
            show_default=NOTHING,
            autocompletion=completion.one_of("emulator.harden.checksum", "CHECKS"),
        ),
    ] = None,
    model: options.ModelNow = None,
    inputs: options.InputsNow = None,
    figure: Annotated[
        Path | None, typer.Option(help="write the Pareto curve here: .svg, .pdf, .png", show_default=NOTHING)
    ] = None,
    json: options.Json = False,
) -> None:
    """What to protect for a budget of area, and what that leaves.

    The first half of the trials chooses, the other half judges. Shares are of the storage of the campaign's registers.

    With --checksum the checksums' own area, cycles and DUE are not counted here: see `emulator checksum`.

    Example: emulator protect runs/a --budget 1% --by register-bit
    """
    from emulator.campaign.results import Results
    from emulator.harden.protection import protect as run_protect
    from emulator.harden.protection import storage_share
    from emulator.harden.techniques import read_techniques

    share = _share(budget)
    options.check_files(None, figure)
    costs = read_techniques(techniques)
    results = Results.open(directory)
    left = None if checksum is None else _left(results, checksum, model, inputs)
    found = run_protect(results, by=by, techniques=costs, only=options.split(only), sdc1=left)
    needless = ("model", "inputs") if checksum is None else ()
    announce(context, *needless, only=",".join(found.techniques))
    if figure is not None:
        _draw(found, share, figure)
    of_array = storage_share(results, costs)
    if json:
        written = {} if figure is None else {"figure": str(figure)}
        more = {"share_of_array_storage": of_array, "checksum": checksum}
        show_json({**found.to_json(share), **more, **written})
        return
    _show(found, share, of_array)


def _left(results: Results, checksum: str, model: Path | None, inputs: Path | None) -> npt.NDArray[np.bool_]:
    """The trials that change the answer although checksums correct what they can."""
    from emulator.choices import one_of
    from emulator.harden.checksum import CHECKS
    from emulator.harden.checksum_coverage import coverage

    return coverage(results, one_of(CHECKS, checksum, "checksum"), model=model, inputs=inputs).sdc1_left


def _share(text: str) -> float:
    """`1%` or `0.01`."""
    from emulator.errors import BadConfig

    number = text.strip()
    try:
        share = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise BadConfig(f"--budget {text}; allowed: a share above 0, up to 100%, such as 5% or 0.05.")
    return share


def _show(found: Protection, budget: float, of_array: float) -> None:
    from emulator.harden.protection import SHARES, TARGETS

    what, unit = _words(found)
    size = f"{found.size:,.0f} {unit}"
    size += "" if found.units.in_time else f", {100 * of_array:.3g} % of the array's storage"
    show(f"size of what can be protected: {size}; {len(found.units):,} units by {found.units.by}")
    show(f"SDC-FIT without protection: {found.unprotected.fit}")
    bought = found.within(budget)
    show(
        f"protected for {_percent(bought.share)} {what}: {bought.units:,} units, {bought.bits:,} {_bits(found)}"
    )
    show(_chosen(found, budget))
    show(f"removed: {bought.removed} of the SDC-FIT")
    show(f"  the trials that chose would say {_percent(found.optimistic(budget))}: too good, they chose")
    show(f"residual SDC-1 rate: {bought.residual}; at most {100 * bought.at_most:.3g} % (certified, 95 %)")
    show(f"residual SDC-FIT: {bought.fit}; at most {bought.at_most_fit:.3g} FIT (certified, 95 %)")
    show(f"detected by it instead (DUE), harmless upsets among them: {bought.due_fit}")
    show(
        "certified: on these images, for one choice of --by, --only and --techniques made before looking, if"
    )
    show("  protected cells fail as the table of techniques says")
    show(f"the best choice removes {_percent(found.gap(budget))} more of the expected FIT at most")
    rows = [[f"{_percent(share)} {what}", *_row(found.within(share))] for share in SHARES]
    rows += [[f"for {100 * target:g} % less SDC-FIT", *_row(found.smallest(target))] for target in TARGETS]
    show(table(["budget", "spent", "removed", "SDC-FIT left", "at most"], rows))


def _chosen(found: Protection, budget: float) -> str:
    chosen = found.chosen(budget)
    header = [*found.units.names, "technique", "effect", _bits(found), "cost", "FIT removed"]
    rows = [
        [
            *(str(unit.unit.get(key, "all")) for key in found.units.names),
            unit.technique,
            unit.effect,
            f"{unit.bits:,}",
            f"{unit.cost:,.4g}",
            f"{unit.fit:.2e}",
        ]
        for unit in chosen[:TOP]
    ]
    return table(header, rows) + and_more(len(chosen) - TOP)


def _row(bought: Bought | None) -> list[str]:
    if bought is None:
        return ["-"] * 4
    value, low, high = bought.removed.percent()
    return [
        _percent(bought.share),
        f"{value} % [{low}, {high}]",
        f"{bought.fit.value:.2e}",
        f"{bought.at_most_fit:.2e}",
    ]


def _words(found: Protection) -> tuple[str, str]:
    return ("of cycles", "cycles") if found.units.in_time else ("of area", "flip-flop areas")


def _bits(found: Protection) -> str:
    return "cycles" if found.units.in_time else "bits"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _draw(found: Protection, budget: float, path: Path) -> None:
    from emulator.harden.pareto import pareto_curve
    from emulator.report.figures.files import save_figure

    save_figure(pareto_curve(found, budgets=[budget]), path)
    say(f"figure: {path}")
