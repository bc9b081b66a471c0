"""Selective protection from the command line: protect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emulator.array.fit import FIT_PER_MBIT, scientific
from emulator.cli import completion, options, raw_fit
from emulator.cli.terminal import NOTHING, and_more, announce, command, say, show, show_json, table, was_given

if TYPE_CHECKING:
    from emulator.campaign.results import Results
    from emulator.harden.bought import Bought, Chosen
    from emulator.harden.checksum_cost import ChecksumCost
    from emulator.harden.checksum_coverage import Coverage
    from emulator.harden.protection import Protection

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
    max_fit: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="in its place the SDC-FIT that may be left: the least budget certified to leave no more",
            show_default=NOTHING,
        ),
    ] = None,
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
    fit_per_mbit: raw_fit.PerMbit = FIT_PER_MBIT,
    fit: raw_fit.File = None,
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

    With --checksum the checksums' own MACs, cycles and DUE are told beside, and are in no budget; their area is not
    modelled.

    Example: emulator protect runs/a --budget 1% --by register-bit
    """
    from emulator.campaign.results import Results
    from emulator.harden.protect import protect as run_protect
    from emulator.harden.protect import storage_share
    from emulator.harden.techniques import read_techniques

    if max_fit is not None and was_given(context, "budget"):
        raise typer.BadParameter("not with --budget; give one of them", param_hint="--max-fit")
    share = options.share(budget, "--budget")
    options.check_files(None, figure)
    raw = raw_fit.chosen(context, directory, fit_per_mbit, fit)
    costs = read_techniques(techniques)
    results = Results.open(directory)
    beside = None if checksum is None else _checked(results, checksum, model, inputs)
    left = None if beside is None else beside[0].sdc1_left
    found = run_protect(results, by=by, techniques=costs, only=options.split(only), raw=raw, sdc1=left)
    needless = {
        "budget": max_fit is not None,
        "fit_per_mbit": fit is not None,
        "model": checksum is None,
        "inputs": checksum is None,
    }
    announce(context, *(name for name, idle in needless.items() if idle), only=",".join(found.techniques))
    bought = found.within(share) if max_fit is None else found.certified(max_fit)
    share = share if max_fit is None else bought.share
    if figure is not None:
        _draw(found, share, figure)
    of_array = storage_share(results, costs)
    if json:
        written = {} if figure is None else {"figure": str(figure)}
        more = {"max_fit": max_fit, "share_of_array_storage": of_array, "checksum": _beside_json(beside)}
        show_json({**found.to_json(share, bought), **more, **written})
        return
    _show_whole(found, of_array)
    if beside is not None:
        _show_beside(*beside)
    _show_bought(found, bought, share, max_fit, of_array)
    _show_others(found)


def _checked(
    results: Results, checksum: str, model: Path | None, inputs: Path | None
) -> tuple[Coverage, ChecksumCost]:
    """The trials under checksums that correct what they can, and what these cost, in passes of their own."""
    from emulator.choices import one_of
    from emulator.harden.checksum import CHECKS
    from emulator.harden.checksum_cost import network_cost
    from emulator.harden.checksum_coverage import coverage_of, reopened_for

    check = one_of(CHECKS, checksum, "checksum")
    bench = reopened_for(results, model=model, inputs=inputs)
    return coverage_of(results, bench, check), network_cost(bench.array, bench.network.graph.layers, check)


def _show_whole(found: Protection, of_array: float) -> None:
    whole = found.unprotected
    size = f"{found.size:,.0f} {_unit(found)}{_of_whole(found, 1, of_array)}"
    show(f"size of what can be protected: {size}; {len(found.units):,} units by {found.units.by}")
    show(f"raw rate, every upset counted: {found.raw}")
    show(f"SDC-FIT without protection: {whole.fit}{_at_most(whole)}")
    judging, trials = int(found.trials.judging.sum()), len(found.trials.judging)
    if judging < trials:
        show(f"  by the {judging:,} of {trials:,} trials that judge, as all below; a report takes all trials")


def _show_beside(covered: Coverage, cost: ChecksumCost) -> None:
    rates = covered.rates()
    show(f"with checksums of {_CHECKED[covered.check]}, that correct what they can. Not in the budget:")
    show(
        f"  {cost.extra_macs:,} more MACs ({100 * cost.mac_share:.3g} %) and {cost.extra_cycles:,} more cycles "
        f"({100 * cost.cycle_share:.3g} %) an inference, in passes of their own"
    )
    show(f"  DUE of live sites, before: {rates['due']}")
    show(f"  DUE of live sites, with checksums: {rates['due_with_correction']}")


def _beside_json(beside: tuple[Coverage, ChecksumCost] | None) -> dict[str, Any] | None:
    if beside is None:
        return None
    covered, cost = beside
    rates = {name: covered.rates()[name].to_json() for name in ("due", "due_with_correction")}
    return {"check": covered.check, "cost": cost.to_json(), **rates}


_CHECKED = {"rows": "rows", "columns": "columns", "both": "rows and columns"}


def _show_bought(
    found: Protection, bought: Bought, budget: float, max_fit: float | None, of_array: float
) -> None:
    from emulator.harden.protection import budget_of

    allowed = f"{_percent(budget)} {_of(found)} ({_amount(budget * found.size)} {_unit(found)})"
    show("")
    if max_fit is not None:
        show(
            f"least of the budgets tried that is certified to leave at most {scientific(max_fit)} FIT: {allowed}"
        )
    if not bought.units:
        show("nothing has to be protected" if max_fit is not None else _too_dear(found, allowed))
        return
    kept = f"{bought.units:,} units, {bought.bits:,} {_bits(found)}"
    if max_fit is not None and bought.share <= 1:
        show(f"  the same units as for --budget {budget_of(bought.share)}")
    share = f"{_percent(bought.share)} {_of(found)}{_of_whole(found, bought.share, of_array)}"
    show(f"protected for {share}: {kept}")
    if bought.share > 1:
        show("  that costs more than all that can be protected has now")
    show(_units(found, found.chosen(budget)))
    show(
        "costs: by the table of techniques and code words (FF: that of a flip-flop); first what should remove most"
    )
    show(f"SDC-FIT removed: {bought.removed}{_counted(bought)}")
    show(
        f"  the trials that chose would say {_percent(found.optimistic(budget))}, too good on average: they chose"
    )
    nothing = bought.residual.method == "exact"
    show(f"SDC-FIT left: {_NOTHING_LEFT if nothing else f'{bought.fit}{_at_most(bought)}'}")
    show(f"SDC-1 left, of the whole population{_weighed(found)}: {bought.residual}")
    nothing_detects = bought.due.method == "exact"
    show(
        f"DUE instead, of harmless upsets too: {'0, by construction' if nothing_detects else bought.due_fit}"
    )


_NOTHING_LEFT = "0, by construction: every unit is protected"


def _counted(bought: Bought) -> str:
    """What n is of a share of events."""
    return (
        "; n: trials that judge and change the answer"
        if bought.removed.method not in ("exact", "census")
        else ""
    )


def _of_whole(found: Protection, share: float, of_array: float) -> str:
    """The same area as a share of the array's, where that is another; cycles are no area."""
    if found.units.in_time or (of_array == 1 and share != 1):
        return ""
    return f", {100 * share * of_array:.3g} % of the array's storage"


def _too_dear(found: Protection, allowed: str) -> str:
    least = found.cheapest()
    if least is None:
        return "nothing is protected: no technique of these removes anything"
    name = " ".join(f"{key} {value}" for key, value in least.unit.items())
    return (
        f"nothing fits {allowed}: the cheapest unit is {name} with {least.technique}, {_amount(least.cost)} "
        f"{_unit(found)}, {_percent(least.cost / found.size)}"
    )


def _units(found: Protection, chosen: list[Chosen]) -> str:
    cost = "cost (cycles)" if found.units.in_time else "cost (FF)"
    header = [*found.units.names, "technique", "effect", _bits(found), cost, "SDC-FIT of it, as judged"]
    rows = [
        [
            *(str(unit.unit.get(key, "all")) for key in found.units.names),
            unit.technique,
            unit.effect,
            f"{unit.bits:,}",
            _amount(unit.cost),
            str(unit.fit).removesuffix(" FIT"),
        ]
        for unit in chosen[:TOP]
    ]
    return table(header, rows) + and_more(len(chosen) - TOP)


def _show_others(found: Protection) -> None:
    from emulator.harden.protection import SHARES, TARGETS

    header = ["budget", "spent", "SDC-FIT removed", "SDC-FIT left", "at most"]
    rows = [[f"{_percent(share)} {_of(found)}", *_row(found.within(share))] for share in SHARES]
    rows += [[f"for {100 * target:g} % less SDC-FIT", *_row(found.smallest(target))] for target in TARGETS]
    show("")
    show(table(header, rows))
    show(_CERTIFIED)


_CERTIFIED = """
at most: certified, with 95 % certainty no higher, on these images, if what is protected fails as the
  table of techniques says. This holds for one --budget or --max-fit, --by, --only and --techniques
  chosen before looking, so for one line of this table, not for the best of several. "-": there the
  trials that judge have chosen. For a limit that stands before looking, in FIT, take --max-fit."""


def _row(bought: Bought | None) -> list[str]:
    if bought is None:
        return ["-"] * 4
    value, low, high = bought.removed.percent()
    exact = bought.removed.method == "exact"
    removed = str(bought.removed) if exact else f"{value} % [{low}, {high}]"
    if bought.residual.method == "exact":
        return [_percent(bought.share), removed, "0, by construction", ""]
    at_most = "-" if bought.at_most_fit is None else scientific(bought.at_most_fit)
    return [_percent(bought.share), removed, str(bought.fit).removesuffix(" FIT"), at_most]


def _at_most(bought: Bought) -> str:
    return (
        ""
        if bought.at_most_fit is None
        else f"; at most {scientific(bought.at_most_fit)} FIT (certified, 95 %)"
    )


def _weighed(found: Protection) -> str:
    """What the rate is of, where not every site counts the same."""
    return ", sites weighed by raw rate" if (found.upset != 1).any() else ""


def _of(found: Protection) -> str:
    return "of cycles" if found.units.in_time else "of area"


def _unit(found: Protection) -> str:
    return "cycles" if found.units.in_time else "flip-flop areas"


def _bits(found: Protection) -> str:
    return "cycles" if found.units.in_time else "bits"


def _amount(cost: float) -> str:
    return f"{cost:,.0f}" if cost >= 1000 else f"{cost:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _draw(found: Protection, budget: float, path: Path) -> None:
    from emulator.harden.pareto import pareto_curve
    from emulator.report.figures.files import save_figure

    save_figure(pareto_curve(found, budgets=[budget]), path)
    say(f"figure: {path}")
