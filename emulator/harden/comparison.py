"""Before and after: one network against another of the same shape, on the same faults and on fresh ones.

The same faults: those of the campaign before, struck again in the network after. The two rates are paired, no luck of
the draw is between them, but a sampler that knew the network before looks less well after. Fresh faults: those of the
campaign after, if it has another seed. Where both campaigns judged every site there is no such difference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.campaign.alike import unlike
from emulator.campaign.inputs import load_samples
from emulator.campaign.looking_back import past_of_results
from emulator.campaign.merging import seeds_of
from emulator.campaign.population import Group as Key
from emulator.campaign.replay import reopened
from emulator.campaign.results import Results
from emulator.campaign.trial import judge_strikes
from emulator.errors import BadConfig
from emulator.faults.salvo import Salvo
from emulator.harden.answers import Answers
from emulator.sampling.estimate import Estimate
from emulator.sampling.paired_ratio import paired_ratio
from emulator.sampling.ratio_of_rates import Ratio, ratio_of_rates
from emulator.sampling.workbench import Workbench

Flags = npt.NDArray[np.bool_]


class Group(NamedTuple):
    """SDC-1 of the live sites of a layer or register before and after, on the same faults, or on all where all were
    judged, and how many times fewer critical faults there are."""

    before: Estimate
    after: Estimate
    fewer: Ratio


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """before, after: two campaigns that differ in the network only. again (trials of before,): is it SDC-1 in the
    network after? None where all sites were judged. accuracy: of both on the campaign's images, if they have labels."""

    before: Results
    after: Results
    again: Flags | None = field(repr=False)
    accuracy: tuple[Estimate, Estimate] | None

    @property
    def fresh(self) -> bool:
        """Are the faults of the campaign after others than those before?"""
        return not {*seeds_of(self.before)} & {*seeds_of(self.after)}

    @property
    def one_network(self) -> bool:
        """Are both campaigns of the same model file? Then what differs is the luck of the draw."""
        first, second = (results.manifest["model"]["sha256"] for results in (self.before, self.after))
        return bool(first == second)

    @property
    def rates(self) -> dict[str, Estimate]:
        """SDC-1 of live sites: before; after on the same faults; after on its own, fresh or not; mended and broken:
        critical before only, and after only, of the same faults. Where all sites were judged: before, and after on all.
        """
        if self.again is None:
            return {"before": self.before.rate(), "after_all_faults": self.after.rate()}
        same = {name: self.before.rate_of(event) for name, event in self._events(self.again).items()}
        own = "after_fresh_faults" if self.fresh else "after_own_faults"
        return {
            "before": same["before"],
            "after_same_faults": same["after"],
            own: self.after.rate(),
            "mended": same["mended"],
            "broken": same["broken"],
        }

    @property
    def fewer(self) -> dict[str, Ratio]:
        """How many times fewer critical faults there are: of the same faults (method "paired-mover") and of fresh ones
        or the own ones, or of all ("mover")."""
        rates = self.rates
        return {
            name.removeprefix("after_"): _paired(rates["before"], rate, rates["mended"], rates["broken"])
            if name == "after_same_faults"
            else ratio_of_rates(rates["before"], rate)
            for name, rate in rates.items()
            if name.startswith("after_")
        }

    def by(self, key: str) -> dict[str, Group]:
        """Of each layer or register that has trials before: of the same faults, or of all. Those first whose interval
        of times fewer excludes 1; of others alike the one whose rate before has the highest lower end."""
        groups = self._of_all(key) if self.again is None else self._of_same(key, self.again)
        order = sorted(groups, key=lambda group: (not groups[group].fewer.differs, -groups[group].before.low))
        return {str(group[0]): groups[group] for group in order}

    def _of_all(self, key: str) -> dict[Key, Group]:
        first, second = (
            results.rates_of(key, results.column("sdc1")) for results in (self.before, self.after)
        )
        return {
            group: Group(first[group], second[group], ratio_of_rates(first[group], second[group]))
            for group in first
            if group in second
        }

    def _of_same(self, key: str, again: Flags) -> dict[Key, Group]:
        same = {name: self.before.rates_of(key, event) for name, event in self._events(again).items()}
        rates = {group: {name: same[name][group] for name in same} for group in same["before"]}
        return {group: Group(of["before"], of["after"], _paired(**of)) for group, of in rates.items()}

    def _events(self, again: Flags) -> dict[str, Flags]:
        """(trials,) of the campaign before."""
        sdc1 = self.before.column("sdc1")
        return {"before": sdc1, "after": again, "mended": sdc1 & ~again, "broken": ~sdc1 & again}

    def to_json(self) -> dict[str, Any]:
        """What `emulator compare --json` prints."""
        return {
            "rates": {name: rate.to_json() for name, rate in self.rates.items()},
            "fewer": {name: ratio.to_json() for name, ratio in self.fewer.items()},
            "accuracy": None
            if self.accuracy is None
            else {
                name: found.to_json() for name, found in zip(("before", "after"), self.accuracy, strict=True)
            },
            "by_register": _plain(self.by("register")),
            "by_layer": _plain(self.by("layer")),
        }


def _plain(groups: dict[str, Group]) -> dict[str, Any]:
    return {
        name: {part: value.to_json() for part, value in group._asdict().items()}
        for name, group in groups.items()
    }


def compare(before: Results, after: Results) -> Comparison:
    """Strike the faults of `before` in the network of `after`.

    Raises BadConfig for campaigns that differ in more than the network, or of which one goes through all sites, unless
    both do to the end, and BadData where models or data are no longer those of the manifests.
    """
    _check_alike(before, after)
    first, second = (reopened(results.manifest) for results in (before, after))
    read = before.manifest["inputs"]
    labels = load_samples(read["path"], first.network.graph, read["samples"]).labels
    accuracy = None
    if labels is not None:
        accuracy = Answers.of(first, labels).accuracy, Answers.of(second, labels).accuracy
    again = None if before.counted else _again(before, second)
    return Comparison(before=before, after=after, again=again, accuracy=accuracy)


def _paired(before: Estimate, after: Estimate, mended: Estimate, broken: Estimate) -> Ratio:
    return paired_ratio(before, after, first_only=mended, second_only=broken)


def _check_alike(before: Results, after: Results) -> None:
    """Raises BadConfig for campaigns that differ in more than the network, naming what, or of which one goes through
    all sites, unless both do to the end."""
    everything = [results.sampler == "exhaustive" and not results.incomplete for results in (before, after)]
    for results in (before, after):
        if results.counted and not all(everything):
            raise BadConfig(
                f"{results.directory} goes through all sites by classes, and these are those of one network; allowed: "
                "two campaigns that draw, or two of the sampler exhaustive that are finished. Run it with importance."
            )
    other = unlike(before.manifest, after.manifest, sides=("before", "after"))
    if other:
        raise BadConfig(
            f"{before.directory} and {after.directory} differ in more than the network: {'; '.join(other)}; allowed: "
            "the same array, registers, layers and images. Run both alike."
        )


def _again(before: Results, bench: Workbench) -> Flags:
    """(trials,) what the faults do in another network."""
    past = past_of_results(before, bench.array)
    salvo = Salvo(bench.golden, bench.array, past.faults, past.image)
    again = np.zeros(len(past.image), np.bool_)
    for volley in salvo.volleys:
        strikes = salvo.strike(bench.inference(volley.image), volley)
        judged = judge_strikes(bench, volley.image, past.faults.layer[volley.place], strikes)
        again[volley.place] = judged["sdc1"]
    return again
