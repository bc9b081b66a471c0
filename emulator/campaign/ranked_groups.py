"""Groups of faults by what the trials prove of their part of all SDC-1: what to protect first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.array.fit import RawFit
from emulator.campaign.fit_by_group import fit_by, raw_rates

if TYPE_CHECKING:
    import pandas as pd

    from emulator.campaign.results import Results

MEASURED_SPAN = 10
"""Upper over lower end of an interval above which a rate counts as not measured yet."""


def ranked_groups(results: Results, names: list[str], raw: float | RawFit) -> pd.DataFrame:
    """The rows of `Results.summary` by the lower end of their part, to 0.1 % as it is shown; of equal ones the largest
    estimate first.

    The part is that of SDC-1 where all registers have one raw rate, else of SDC-FIT: then `share` is so, and registers
    of rate 0 are left out. With fit, fit_low and fit_high; proven, the lower end of the part; and measured: does the
    interval span at most MEASURED_SPAN? names: layer, register, both, or bit alone.
    """
    frame = results.summary(names)
    fit = fit_by(results, names, raw)
    keys = list(frame[names].itertuples(index=False, name=None))
    for place, column in enumerate(("fit", "fit_low", "fit_high")):
        frame[column] = [fit[key][place] for key in keys]
    if weighs(results, raw):
        frame = _by_fit(frame, [name for name, rate in raw_rates(results, raw).items() if rate == 0])
        columns = ["fit", "fit_low", "fit_high"]
    else:
        columns = ["avf", "avf_low", "avf_high"]
    value, low, high = (frame[name].astype(float) for name in columns)
    proven = (frame["share"] * low / value).where(value > 0, 0.0)
    frame = frame.assign(proven=proven, measured=high <= MEASURED_SPAN * low, place=proven.round(3))
    return frame.sort_values(["place", "share"], ascending=False, kind="stable")


def weighs(results: Results, raw: float | RawFit) -> bool:
    """Have the registers struck more than one raw rate, so that a part of SDC-1 is none of SDC-FIT?"""
    return len(set(raw_rates(results, raw).values())) > 1


def _by_fit(frame: pd.DataFrame, never_upset: list[str]) -> pd.DataFrame:
    """share: that of SDC-FIT."""
    if "register" in frame:
        frame = frame[~frame["register"].isin(never_upset)]
    fit = frame["fit"].fillna(0.0)
    return frame.assign(share=fit / max(float(fit.sum()), 1e-300))
