"""SDC-1 in FIT, each register upset at its own raw rate: of all registers struck, and of groups of faults."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from emulator.array.fit import Fit, RawFit, fit_of_parts, sdc_fit
from emulator.array.registers import register
from emulator.array.spec import ArraySpec
from emulator.campaign.population import Group
from emulator.campaign.summary import UNSEEN
from emulator.sampling.estimate import Estimate

if TYPE_CHECKING:
    from emulator.campaign.results import Results


def raw_rates(results: Results, raw: float | RawFit) -> dict[str, float]:
    """FIT per Mbit of each register that faults strike; a number is that of all. Raises BadConfig for what is no
    rate."""
    of = raw if isinstance(raw, RawFit) else RawFit.of_all(raw)
    array = ArraySpec(**results.manifest["array"])
    return {
        name: of.fit_per_mbit(name, register(array, name).storage) for name in results.manifest["registers"]
    }


def fit_of_all(results: Results, raw: float | RawFit) -> Fit:
    """Of the registers struck together."""
    rates, sdc1, parts = raw_rates(results, raw), results.column("sdc1"), []
    for rate, names in _by_rate(rates).items():
        alone = len(names) == len(rates)
        found = results.rate() if alone else results.rate_of(sdc1 & _lies_in(results, names))
        parts.append(_fit(results, rate, found.scaled(results.live_share)))
    return _together(parts, certain=results.incomplete)


def fit_by(results: Results, names: list[str], raw: float | RawFit) -> dict[Group, Fit]:
    """Of each group by layer, register, both, or bit alone. Of one without trials the value is NaN, and the ends are
    what is possible."""
    parts: dict[Group, list[Fit]] = {}
    for rate, registers in _by_rate(raw_rates(results, raw)).items():
        for group, share in _shares(results, names, registers).items():
            parts.setdefault(group, []).append(_fit(results, rate, share))
    return {group: _together(of, certain=results.incomplete) for group, of in parts.items()}


def _by_rate(rates: dict[str, float]) -> dict[float, list[str]]:
    return {rate: [name for name in rates if rates[name] == rate] for rate in sorted(set(rates.values()))}


def _lies_in(results: Results, registers: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.isin(results.column("register").astype(str), registers)


def _shares(results: Results, names: list[str], registers: Sequence[str]) -> dict[Group, Estimate]:
    """Of all faults, those that lie in these registers, and in the group, and change the answer."""
    event = results.column("sdc1") & _lies_in(results, registers)
    size = results.space_size
    if names == ["bit"]:
        from emulator.campaign.bit_avf import avf_by_bit, sites_by_bit

        sites, mine = sites_by_bit(results), sites_by_bit(results, registers)
        return {
            (bit,): avf.scaled(sites[bit] / size)
            for bit, avf in avf_by_bit(results, event).items()
            if mine[bit]
        }
    observed = results.rates_of(names, event)
    inner = results.population.sites_by([*names, "register"])
    mine_too = {group[:-1] for group in inner if group[-1] in registers}
    return {
        group: (observed.get(group, UNSEEN) if live else Estimate.exact(0.0)).scaled(live / size)
        for group, (_, live) in results.population.sites_by(names).items()
        if group in mine_too
    }


def _fit(results: Results, rate: float, share: Estimate) -> Fit:
    # Of a fault anywhere: every bit of the population is as likely.
    return sdc_fit(results.register_bits, rate, (share.value, share.low, share.high))


def _together(parts: Sequence[Fit], *, certain: bool) -> Fit:
    """certain: do the ends hold whatever happens? They are added then, as are those of what was never tried."""
    if certain or any(isnan(part.value) for part in parts):
        return Fit(*(sum(ends) for ends in zip(*parts, strict=True)))
    return fit_of_parts(parts)
