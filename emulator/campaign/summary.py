"""The rates of groups as tables; of layers, registers and bits also over all sites, and their part of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import TYPE_CHECKING, Any

from emulator.campaign.population import COUNTED_KEYS, Group
from emulator.sampling.estimate import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from emulator.campaign.results import Results

_CELLS = ("value", "low", "high", "n", "ess", "method")
_AVF = ("avf", "avf_low", "avf_high")
UNSEEN = Estimate(value=nan, low=0.0, high=1.0, confidence=1.0, n=0, ess=0.0, method="no trials")


def table_of(names: list[str], rates: Mapping[Group, Estimate]) -> pd.DataFrame:
    """The keys `names`, then value, low, high, n, ess, method."""
    import pandas as pd

    rows = [[*group, *_cells(rate)] for group, rate in rates.items()]
    return pd.DataFrame(rows, columns=[*names, *_CELLS])


def summary_of(results: Results, names: list[str]) -> pd.DataFrame:
    """`Results.summary` by these keys, which are known ones."""
    if names == ["bit"]:
        return _with_part(_of_bits(results))
    observed = results.rates_of(names, results.column("sdc1"))
    if not set(names) <= set(COUNTED_KEYS):
        return table_of(names, observed)
    return _with_part(_of_counted(results, names, observed))


def _of_counted(results: Results, names: list[str], observed: Mapping[Group, Estimate]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for group, (sites, live) in results.population.sites_by(names).items():
        found = Estimate.exact(0.0) if live == 0 else observed.get(group, UNSEEN)
        rows.append([*group, *_cells(found), sites, live, *_ends(found.scaled(live / sites))])
    return pd.DataFrame(rows, columns=[*names, *_CELLS, "sites", "live", *_AVF])


def _of_bits(results: Results) -> pd.DataFrame:
    import pandas as pd

    from emulator.campaign.bit_avf import avf_by_bit, sites_by_bit

    sites, avf = sites_by_bit(results), avf_by_bit(results)
    observed = results.rates_of("bit", results.column("sdc1"))
    rows = [
        [bit, *_cells(observed.get((bit,), UNSEEN)), sites[bit], *_ends(found)] for bit, found in avf.items()
    ]
    return pd.DataFrame(rows, columns=["bit", *_CELLS, "sites", *_AVF])


def _with_part(frame: pd.DataFrame) -> pd.DataFrame:
    """With share, the part of the SDC-1 of all groups that comes from each."""
    events = (frame["sites"] * frame["avf"].fillna(0.0)).astype(float)
    return frame.assign(share=events / max(float(events.sum()), 1e-300))


def _cells(estimate: Estimate) -> list[Any]:
    return [getattr(estimate, name) for name in _CELLS]


def _ends(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]
