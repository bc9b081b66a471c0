"""The figures that a campaign has: a report shows them, papers take them as files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from emulator.campaign.results import NEED_NOT_ADD_UP, Results
from emulator.errors import BadConfig
from emulator.report.figures.convergence import convergence, names_of
from emulator.report.figures.files import save_figure
from emulator.report.figures.masking import masking_funnel
from emulator.report.figures.pe_map import in_pe, pe_heat_map
from emulator.report.figures.rates import MOST_ROWS, avf_by

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("pdf", "svg", "png")


class Plate(NamedTuple):
    """A figure, not drawn yet, and the words with it."""

    title: str
    caption: str
    draw: Callable[[], Axes]


def gallery(results: Results, compare: Results | None = None) -> dict[str, Plate]:
    """By name: layer, register, bit, map, funnel, convergence, without those that this campaign can't have."""
    plates = {
        "layer": Plate("By layer", _meaning(results), partial(avf_by, results, key="layer")),
        "register": Plate(
            "By register",
            f"All layers together; of more than {MOST_ROWS} those with most SDC-1.",
            partial(avf_by, results, key="register"),
        ),
        "funnel": Plate(
            "Where faults die",
            _dying(results),
            partial(masking_funnel, results),
        ),
    }
    # A class of an exhaustive campaign lies in several bits and PEs, and its rates are exact from the start.
    return plates if results.counted else plates | _of_drawn(results, compare)


def _of_drawn(results: Results, compare: Results | None) -> dict[str, Plate]:
    against = (
        f"the {names_of(results, compare)[1]} campaign on {compare.manifest['model']['name']}"
        if compare is not None
        else "what uniform sampling would give (computed)"
    )
    plates = {
        "bit": Plate(
            "By struck bit",
            "All registers together; narrow registers have no high bits.",
            partial(avf_by, results, key="bit"),
        ),
        "convergence": Plate(
            "Convergence",
            f"Running estimate with its 95 % interval, against {against}.",
            partial(convergence, results, compare=compare),
        ),
    }
    # A campaign on accumulators alone has no map of PEs.
    if in_pe(results).any():
        caption = (
            "All PE registers together. Partial sums enter at row 0, activations at column 0. One "
            "colour: no difference between PEs is proven."
        )
        plates["map"] = Plate("Over the PE array", caption, partial(pe_heat_map, results))
    return plates


def _dying(results: Results) -> str:
    where = "A fault is masked at the first stage where the run equals the golden one again."
    return where if results.counted else f"{where} {NEED_NOT_ADD_UP}"


def _meaning(results: Results) -> str:
    if results.incomplete:
        return "Bars leave room for sites that are not judged yet."
    if results.sampler == "exhaustive":
        return "Every live site counted."
    return "Points are estimates, hollow ones 0, bars 95 % intervals; an arrow: the interval goes on."


def check_format(format: str) -> None:
    """Raise BadConfig for a format that is not in FORMATS."""
    if format not in FORMATS:
        raise BadConfig(f"--format {format}; allowed: {', '.join(FORMATS)}. Choose one of them.")


def write_figures(
    results: Results, folder: Path, format: str = "pdf", compare: Results | None = None
) -> list[Path]:
    """Write each figure of the campaign as folder/NAME.format, on white; the files written.

    Equal results give equal bytes. Raises BadConfig as `check_format`, and for files that can't be written.
    """
    check_format(format)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadConfig(f"{folder}: can't be created ({error.strerror}). Choose another folder.") from error
    files = {folder / f"{name}.{format}": plate for name, plate in gallery(results, compare).items()}
    for file, plate in files.items():
        save_figure(plate.draw(), file)
    return list(files)
