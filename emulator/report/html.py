"""The report: one offline HTML file that answers first and explains after. Equal results give equal bytes."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from emulator.campaign.results import Results
from emulator.errors import BadConfig, BadData
from emulator.report import figures
from emulator.sampling.estimate import Estimate, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOP_GROUPS, TOP_FAULTS = 20, 20

# Figures are drawn in the light theme; their colours become variables that the page sets for either theme.
_THEME = {
    figures.INK: "ink",
    figures.MUTED: "muted",
    figures.GRID: "grid",
    figures.GREY: "grey",
    figures.BLUE: "blue",
    figures.ORANGE: "orange",
    figures.SKY: "sky",
}


class Figure(NamedTuple):
    """An inline SVG with the words under it; `alt` is what a screen reader says."""

    title: str
    svg: str
    alt: str
    caption: str


def write_report(results: Results, path: str | Path, compare: Results | None = None) -> Path:
    """Writes the report to `path` and returns it; `compare`: another campaign on the same space to draw convergence
    against: a uniform one, or one of the network before it was hardened.

    Raises BadConfig if the file can't be written.
    """
    target = Path(path)
    page = render_report(results, compare)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BadConfig(f"{target}: can't be written ({error.strerror}). Choose another path.") from error
    return target


def render_report(results: Results, compare: Results | None = None) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if compare is not None and (results.counted or compare.counted):
        raise BadConfig(
            "campaigns that go through every site do not converge; allowed to compare: two that draw. Leave out "
            "compare."
        )
    if compare is not None:
        parts = ("inputs", "array", "space")
        other = [name for name in parts if results.manifest[name] != compare.manifest[name]]
        if other:
            raise BadConfig(
                f"{compare.directory} has another {' and another '.join(other)} than {results.directory}; allowed to "
                "compare: campaigns on the same faults and inputs. Leave out compare, or run both alike."
            )
    environment = Environment(
        loader=PackageLoader("emulator.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["grouped"] = _grouped
    environment.filters["percent"] = _percent
    return environment.get_template("report.html.j2").render(
        r=results,
        m=results.manifest,
        live=results.rate(),
        population=results.population_rate(),
        without_ties=results.population_rate(ties=False),
        sdc5=results.population_rate("sdc5"),
        million=_per_million(results.population_rate()),
        masked=results.masked(),
        protect=_protection(results),
        figures=_figures(results, compare),
        critical=_critical(results),
        configuration=_configuration(results.manifest),
        manifest_text=json.dumps(results.manifest, indent=2, ensure_ascii=False),
        compare=compare,
    )


# ---- numbers in words


def _grouped(number: float) -> str:
    return grouped(number).replace(" ", "\u202f")


def _percent(share: float) -> str:
    """A share in per cent with three significant digits, never in scientific notation."""
    place = floor(log10(100 * share)) if share > 0 else 2
    return f"{100 * share:.{min(15, max(0, 2 - place))}f}"


def _per_million(rate: Estimate) -> tuple[str, str, str]:
    """Value, low, high of a rate as counts in a million faults."""

    def count(share: float) -> str:
        value = 1e6 * share
        return _grouped(float(f"{value:.2g}")) if value >= 10 else f"{value:.2g}"

    return count(rate.value), count(rate.low), count(rate.high)


# ---- tables


def _protection(results: Results) -> dict[str, Any]:
    """Layer x register, the largest contribution to the population's SDC-1 first."""
    frame = results.summary().sort_values("share", ascending=False, kind="stable")
    frame = frame.assign(cumulative=frame["share"].cumsum(), area=frame["sites"].astype(float))
    frame["area"] /= frame["area"].sum()
    frame["avf_text"] = [_texts(*row) for row in frame[["avf", "avf_low", "avf_high"]].to_numpy()]
    frame["live_text"] = [_texts(*row) for row in frame[["value", "low", "high"]].to_numpy()]
    return {
        "rows": frame.head(TOP_GROUPS).to_dict("records"),
        "rest": len(frame) - TOP_GROUPS,
        "rest_share": float(frame["share"].iloc[TOP_GROUPS:].sum()),
        "largest": max(float(frame["share"].max()), 1e-300),
        "untried": int((frame["method"] == "no trials").sum()),
    }


def _texts(value: float, low: float, high: float) -> tuple[str, str, str]:
    found = Estimate(value=value, low=low, high=high, confidence=0.95, n=0, ess=0.0, method="")
    return found.percent()


def _critical(results: Results) -> list[dict[str, Any]]:
    directory = shlex.quote(str(results.directory))
    return [
        {str(name): value for name, value in row.items()}
        | {
            "bit_list": ", ".join(str(bit) for bit in range(64) if int(row["bits"]) >> bit & 1),
            "command": f"emulator replay {directory} {row['fault_id']}",
        }
        for row in results.critical(TOP_FAULTS).to_dict("records")
    ]


def _configuration(manifest: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Section -> (key, value) of what defines the campaign; layers and breakdown are in the manifest."""
    sections = {
        name: [(key, _shown(value)) for key, value in manifest[name].items()]
        for name in ("model", "inputs", "array", "fault", "sampler", "stop", "versions")
        if isinstance(manifest.get(name), dict)
    }
    single = [key for key in ("version", "seed", "chunks", "registers", "schema") if key in manifest]
    return sections | {"campaign": [(key, _shown(manifest[key])) for key in single]}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# ---- figures


# A class of an exhaustive campaign lies in several bits and PEs, and its rates are exact from the start.
_OF_DRAWN = ("bit", "map", "convergence")


def _figures(results: Results, compare: Results | None) -> dict[str, Figure]:
    against = (
        f"the {compare.sampler} campaign on {compare.manifest['model']['name']}"
        if compare is not None
        else "what uniform sampling would give (computed)"
    )
    drawn: dict[str, tuple[Callable[[], Axes], str, str]] = {
        "layer": (
            lambda: figures.rate_by(results, key="layer"),
            "By layer",
            "Every live site counted."
            if results.sampler == "exhaustive" and not results.incomplete
            else "Bars leave room for sites that are not judged yet."
            if results.incomplete
            else "Points are estimates, bars their 95 % intervals.",
        ),
        "register": (
            lambda: figures.rate_by(results, key="register"),
            "By register",
            "All layers together; names as in the register inventory.",
        ),
        "bit": (
            lambda: figures.rate_by(results, key="bit"),
            "By struck bit",
            "All registers together; narrow registers have no high bits.",
        ),
        "map": (
            lambda: figures.pe_heat_map(results),
            "Over the PE array",
            "All PE registers together. Partial sums enter at row 0, activations at column 0.",
        ),
        "funnel": (
            lambda: figures.masking_funnel(results),
            "Where faults die",
            "A fault is masked at the first stage where the run equals the golden one again.",
        ),
        "convergence": (
            lambda: figures.convergence(results, compare=compare),
            "Convergence",
            f"Running estimate with its 95 % interval, against {against}.",
        ),
    }
    found = {}
    for name in _OF_DRAWN if results.counted else ():
        del drawn[name]
    for name, (draw, title, caption) in drawn.items():
        try:
            axes = draw()
        except BadData:  # a campaign on accumulators alone has no map of PEs
            continue
        found[name] = Figure(title, _inline_svg(axes, name), f"{title}. {caption}", caption)
    return found


def _inline_svg(axes: Axes, name: str) -> str:
    """The figure as an <svg> that fits into a page: no prolog, no metadata, own ids, themed colours."""
    import matplotlib as mpl

    file = io.StringIO()
    # Text stays text: small, searchable, in the font of the page. The salt makes the ids reproducible.
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure: Any = axes.get_figure(root=True)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg).replace("xlink:href=", "href=")
    for colour, variable in _THEME.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg
