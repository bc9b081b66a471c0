"""The groups of `status --by`: their part of all SDC-1 or SDC-FIT, AVF and FIT."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

from emulator.cli.terminal import and_more, table

if TYPE_CHECKING:
    from emulator.array.fit import RawFit
    from emulator.campaign.results import Results

KEYS = ("layer", "register", "bit")
TOP = 10


def to_json(results: Results, key: str, raw: RawFit) -> dict[str, Any]:
    """All groups by name, those first of which the trials prove most; null where there are no trials."""
    return {
        str(row[key]): {
            "share": row["share"],
            "avf": {"value": row["avf"], "low": row["avf_low"], "high": row["avf_high"]},
            "fit": {"value": row["fit"], "low": row["fit_low"], "high": row["fit_high"]},
            "n": row["n"],
            "method": row["method"],
        }
        for row in _rows(results, key, raw)
    }


def in_words(results: Results, key: str, raw: RawFit) -> str:
    """A table of the first."""
    from emulator.campaign.ranked_groups import weighs

    rows = _rows(results, key, raw)
    cells = [
        [
            str(row[key]),
            f"{100 * row['share']:.1f} %",
            _avf(row),
            _fit(row),
            f"{row['n']:,}",
        ]
        for row in rows[:TOP]
    ]
    part = "part of SDC-FIT" if weighs(results, raw) else "part of SDC-1"
    return table([key, part, "AVF", "SDC-FIT", "n"], cells) + and_more(len(rows) - TOP)


def _avf(row: dict[str, Any]) -> str:
    from emulator.sampling.estimate import percents

    if row["method"] == "exact":
        return "0 (dead)"
    value, low, high = percents(row["avf"], row["avf_low"], row["avf_high"])
    return f"{'unknown' if isnan(row['avf']) else f'{value} %'} [{low}, {high}]"


def _fit(row: dict[str, Any]) -> str:
    from emulator.array.fit import Fit, scientific

    if isnan(row["fit"]):
        return f"unknown [{scientific(row['fit_low'])}, {scientific(row['fit_high'])}]"
    return str(Fit(row["fit"], row["fit_low"], row["fit_high"])).removesuffix(" FIT")


def _rows(results: Results, key: str, raw: RawFit) -> list[dict[str, Any]]:
    from emulator.campaign.ranked_groups import ranked_groups

    frame = ranked_groups(results, [key], raw)
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
