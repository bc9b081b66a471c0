"""The report: one offline HTML file that answers first and explains after. Equal results give equal bytes."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path
from typing import Any, NamedTuple

from emulator.array.fit import FIT_PER_MBIT, RawFit, scientific
from emulator.campaign.alike import unlike
from emulator.campaign.files import write_atomically
from emulator.campaign.fit_by_group import raw_rates
from emulator.campaign.ranked_groups import MEASURED_SPAN, ranked_groups, weighs
from emulator.campaign.results import NEED_NOT_ADD_UP, Results
from emulator.errors import BadConfig
from emulator.report.gallery import gallery
from emulator.report.inline_svg import inline_svg
from emulator.sampling.estimate import Estimate, decimals, grouped, percents

TOP_GROUPS, TOP_FAULTS = 20, 20


class Figure(NamedTuple):
    """An inline SVG with the words under it; `alt` is what a screen reader says."""

    title: str
    svg: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Of a page that follows a running campaign. done: how far it is, in words; written: when, in words; every: seconds
    after which a browser loads it again."""

    done: str
    written: str
    every: int


def write_report(
    results: Results,
    path: str | Path,
    compare: Results | None = None,
    *,
    fit_per_mbit: float | RawFit = FIT_PER_MBIT,
    live: Live | None = None,
) -> Path:
    """Writes the report to `path`, whole or not at all, and returns it.

    compare: another campaign on the same space to draw convergence against: a uniform one, or one of the network before
    it was hardened. fit_per_mbit: raw upsets of a stored bit before any masking, in FIT per Mbit, 0 or more, of all or
    by register; the default is an order of magnitude (`emulator.array.fit`). live: for a page that is written again and
    again. Raises BadConfig if the file can't be written.
    """
    target = Path(path)
    page = render_report(results, compare, fit_per_mbit=fit_per_mbit, live=live)
    write_atomically(target, page.encode())
    return target


def render_report(
    results: Results,
    compare: Results | None = None,
    *,
    fit_per_mbit: float | RawFit = FIT_PER_MBIT,
    live: Live | None = None,
) -> str:
    """The page as text; arguments and errors are those of `write_report`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if compare is not None:
        _check_comparable(results, compare)
    environment = Environment(
        loader=PackageLoader("emulator.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"grouped": _grouped, "percent": _percent, "three_digits": _three_digits}
    return environment.get_template("report.html.j2").render(
        r=results,
        m=results.manifest,
        live=live,
        live_rate=results.rate(),
        population=results.population_rate(),
        without_ties=results.population_rate(ties=False),
        sdc5=results.population_rate("sdc5"),
        million=_per_million(results.population_rate()),
        fit=_fit(results, fit_per_mbit),
        raw=str(fit_per_mbit if isinstance(fit_per_mbit, RawFit) else RawFit.of_all(fit_per_mbit)),
        masked=results.masked(),
        need_not_add_up="" if results.counted else NEED_NOT_ADD_UP,
        protect=_protection(results, fit_per_mbit),
        figures=_figures(results, compare),
        critical=_critical(results),
        configuration=_configuration(results.manifest),
        manifest_text=json.dumps(results.manifest, indent=2, ensure_ascii=False),
    )


def _check_comparable(results: Results, compare: Results) -> None:
    if results.counted or compare.counted:
        raise BadConfig(
            "campaigns that go through every site do not converge; allowed to compare: two that draw. Leave out "
            "compare."
        )
    other = unlike(results.manifest, compare.manifest, sides=("here", "there"))
    if other:
        raise BadConfig(
            f"{results.directory} and {compare.directory} (there) differ in {'; '.join(other)}; allowed to compare: "
            "campaigns on the same faults and inputs. Leave out compare, or run both alike."
        )


def _figures(results: Results, compare: Results | None) -> dict[str, Figure]:
    return {
        name: Figure(
            plate.title, inline_svg(plate.draw(), name), f"{plate.title}. {plate.caption}", plate.caption
        )
        for name, plate in gallery(results, compare).items()
    }


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


def _three_digits(number: float) -> float:
    return float(f"{number:.3g}")


class FitInWords(NamedTuple):
    """Value, low and high of the SDC rate in FIT, with the digits that the interval supports. mbit: of storage."""

    value: str
    low: str
    high: str
    mbit: str


def _fit(results: Results, fit_per_mbit: float | RawFit) -> FitInWords:
    fit = results.fit(fit_per_mbit)
    places = decimals(fit.value, (fit.high - fit.low) / 2)
    value, low, high = (f"{x:.{places}f}" for x in fit)
    return FitInWords(value=value, low=low, high=high, mbit=f"{results.register_bits / 1e6:.3g}")


# ---- tables


def _protection(results: Results, fit_per_mbit: float | RawFit) -> dict[str, Any]:
    """Layer x register, those first of whose contribution to the population's SDC-1 the trials prove most; where raw
    rates differ, to its SDC-FIT."""
    frame = ranked_groups(results, ["layer", "register"], fit_per_mbit)
    area = frame["sites"].astype(float) / results.space_size
    frame = frame.assign(cumulative=frame["share"].cumsum(), area=area)
    frame["avf_text"] = [percents(*row) for row in frame[["avf", "avf_low", "avf_high"]].to_numpy()]
    fits = frame[["fit", "fit_low", "fit_high"]].to_numpy()
    frame["fit_text"] = [[scientific(end) for end in row] for row in fits]
    frame["live_text"] = [percents(*row) for row in frame[["value", "low", "high"]].to_numpy()]
    weighed = weighs(results, fit_per_mbit)
    rates = raw_rates(results, fit_per_mbit)
    return {
        "weighed": weighed,
        "never_upset": [name for name, rate in rates.items() if weighed and rate == 0],
        "rows": frame.head(TOP_GROUPS).to_dict("records"),
        "rest": len(frame) - TOP_GROUPS,
        "rest_share": float(frame["share"].iloc[TOP_GROUPS:].sum()),
        "largest": max(float(frame["share"].max()), 1e-300),
        "span": MEASURED_SPAN,
        "untried": int((frame["method"] == "no trials").sum()),
    }


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
    if value is None or value == {}:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, float) and value.is_integer():
        return f"{value:,.0f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
