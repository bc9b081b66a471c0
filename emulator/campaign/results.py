"""What a campaign found: rates with intervals, broken down by layer, register and bit, and the worst faults.

Trials are drawn from live sites; dead sites are counted as masked. So a rate over the whole population is
live_share x the rate over live sites, and the same holds for every layer and register.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from emulator.array.fit import FIT_PER_MBIT, Fit, RawFit
from emulator.array.registers import register
from emulator.array.spec import ArraySpec
from emulator.campaign.chunks import gap
from emulator.campaign.fit_by_group import fit_of_all
from emulator.campaign.manifest import read_manifest
from emulator.campaign.one_writer import being_written
from emulator.campaign.population import Group, Population
from emulator.campaign.rates import CountedRates, DrawnRates, Rates
from emulator.campaign.schema import COLUMNS, MASKED_AT, OUTCOMES
from emulator.campaign.standing import state_of, stopped_by
from emulator.campaign.summary import summary_of, table_of
from emulator.campaign.trials import StoredTrials, Trials
from emulator.choices import one_of
from emulator.errors import BadConfig, BadData
from emulator.notebook import titled_table
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import proportion
from emulator.sampling.registry import COUNTED, sampler_named
from emulator.sampling.sampler import Sampler

if TYPE_CHECKING:
    import pandas as pd

    from emulator.campaign.explain import Explanation

Keys = str | Sequence[str]
Images = Literal["these", "alike"]

_GROUPS = ("layer", "register", "bit", "input_id", "stratum", "engine", "row", "col", "kind", "masked_at")
_SPREAD = ("bit", "row", "col", "engine")

NEED_NOT_ADD_UP = "Each share is estimated on its own: they need not add up to 100 %."
"""Of `Results.masked`, of a campaign that draws."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """The trials of one campaign, and what they were drawn from. gap: which chunks are missing, "" where none is.
    running: is a run writing more of them?"""

    directory: Path
    manifest: dict[str, Any]
    table: Trials
    gap: str = ""
    running: bool = False

    @classmethod
    def open(cls, directory: str | Path) -> Results:
        """What a directory holds at this moment; BadConfig if it isn't a campaign, BadData if it has no trials, or is
        damaged, here or when a damaged column is asked for. Warns of a gap in its chunks."""
        path = Path(directory)
        # Asked before the manifest is read, which a run that ends writes last, and before chunks are listed.
        running = being_written(path)
        manifest = read_manifest(path)
        _check_keys(path, manifest)
        # A run finishes chunks in any order; sites not come to are told by `incomplete`.
        whole = running or manifest["sampler"]["name"] in COUNTED
        table = StoredTrials(path)
        lost = "" if whole else gap(table.chunks, manifest.get("finished_trials"))
        if lost:
            warnings.warn(f"{path}: {lost}; `emulator run {path}` makes them", stacklevel=2)
        return cls(directory=path, manifest=manifest, table=table, gap=lost, running=running)

    # ---- the trials

    @cached_property
    def trials(self) -> pd.DataFrame:
        """All trials with all columns; of a long campaign better a `column` at a time."""
        return self.table.rows()

    def column(self, name: str) -> npt.NDArray[Any]:
        """(trials,) one column, see `emulator.campaign.schema`; strings as objects. Raises BadConfig for others."""
        return self.table.column(one_of([column.name for column in COLUMNS], name, "column"))

    def __len__(self) -> int:
        return len(self.table)

    # ---- the population

    @cached_property
    def population(self) -> Population:
        """What is known of the sites, judged or not."""
        chunks = self.table.chunks if self.counted else []
        return Population(manifest=self.manifest, chunks=chunks)

    @property
    def space_size(self) -> int:
        """Register bits x cycles of one input."""
        return self.population.size

    @property
    def live_share(self) -> float:
        """The share of the population that can reach a written result; the rest is masked by construction."""
        return self.population.live / self.population.size

    @property
    def register_bits(self) -> int:
        """Bits of the registers that faults strike."""
        array = ArraySpec(**self.manifest["array"])
        return sum(register(array, name).total_bits for name in self.manifest["registers"])

    @property
    def incomplete(self) -> bool:
        """Are there live sites of a campaign that goes through all of them that it has not come to?"""
        return self.counted and not self.population.all_done

    @property
    def images_are_a_sample(self) -> bool:
        """Is there a difference between images to learn from, and is each as far as the others?"""
        return len(np.unique(self.column("input_id"))) > 1 and not self.incomplete

    @property
    def sampler(self) -> str:
        """Name of the sampler."""
        return str(self.manifest["sampler"]["name"])

    @property
    def unit(self) -> str:
        """What a row is."""
        return "classes of sites" if self.counted else "trials"

    @property
    def counted(self) -> bool:
        """Does the campaign go through every live site, a row being a class of them, all judged or some?"""
        return self.sampler in COUNTED

    @property
    def ranked(self) -> bool:
        """Are there first ones: trials that were scored, or drawn in an order?"""
        return not self.counted or not bool(np.isnan(self.column("score")).all())

    @cached_property
    def weight(self) -> npt.NDArray[np.float64]:
        """Population density over the sampler's, of each trial."""
        weight: npt.NDArray[np.float64] = np.exp(self.column("log_weight"))
        return weight

    @property
    def max_weight(self) -> float:
        """The bound that the sampler guarantees for every weight, drawn or not."""
        return 1 / float(self.manifest["sampler"].get("alpha", 1.0))

    # ---- rates

    def rate(self, outcome: str = "sdc1", ties: bool = True, images: Images = "these") -> Estimate:
        """P(outcome) for a fault in a live site; ties=False leaves out answers that differ by a tie only.

        images: "these", or "alike", all of which these are a random sample (method "clustered"; BadData for one
        image). If the campaign was ever to stop on what it found, the interval holds at any time (method "betting").
        """
        event = self._event(outcome, ties)
        if images == "alike":
            return self._rates.of_images_alike(event, self.column("input_id"))
        return self._rates.of_all(event)

    def population_rate(self, outcome: str = "sdc1", ties: bool = True) -> Estimate:
        """P(outcome) for a fault anywhere in the population, dead sites included: the AVF of the whole."""
        return self.rate(outcome, ties).scaled(self.live_share)

    def fit(self, fit_per_mbit: float | RawFit = FIT_PER_MBIT) -> Fit:
        """SDC-1 failures in 10^9 hours of the registers struck, their bits upset at this raw rate, or at those of a
        `RawFit`; the default is an order of magnitude. Raises BadConfig unless it is a finite number, 0 or more.

        Of registers with several raw rates it is that of `fit_of_parts`; of a campaign through all sites that is not
        finished, whose ends no chance evens out, the ends are added.
        """
        return fit_of_all(self, fit_per_mbit)

    def masked(self) -> dict[str, Estimate]:
        """The share of the whole population that dies at each stage; "none" reaches the output."""
        stage = self.column("masked_at")
        share = {name: self.rate_of(stage == name).scaled(self.live_share) for name in MASKED_AT}
        # Dead sites are counted, not sampled.
        if share["dead"].value == 0:
            share["dead"] = Estimate.exact(1 - self.live_share)
        return share

    def by(self, keys: Keys, outcome: str = "sdc1") -> pd.DataFrame:
        """The rate over live sites of each group: the keys, then value, low, high, n, ess, method.

        Groups without trials are left out. Raises BadConfig for unknown keys or outcomes.
        """
        names = self._known(keys)
        return table_of(names, self.rates_of(names, self._event(outcome, ties=True)))

    def rate_of(self, event: npt.NDArray[np.bool_]) -> Estimate:
        """The rate over live sites of any event, (trials,) bool."""
        return self._rates.of_all(event)

    def rates_of(self, keys: Keys, event: npt.NDArray[np.bool_]) -> dict[Group, Estimate]:
        """The same of each group that has trials, or of which a chunk is done that needed none, in network order.
        Raises BadConfig for unknown keys."""
        import pandas as pd

        names = self._known(keys)
        grouped = pd.DataFrame({name: self._key(name) for name in names}).groupby(names)
        groups = {
            key if isinstance(key, tuple) else (key,): np.asarray(rows)
            for key, rows in grouped.indices.items()
        }
        return self.population.in_order(names, self._rates.of_groups(event, names, groups))

    def summary(self, by: Keys = ("layer", "register")) -> pd.DataFrame:
        """SDC-1 of each group over its live sites; of layers and registers, and of bits alone, also over all their
        sites.

        The columns of `by` and of the method `by`, then sites and live (counted by the fault space; live not of bits),
        avf, avf_low and avf_high (of layers and registers live / sites x rate, of bits `bit_avf.avf_by_bit`) and share,
        the part of the population's SDC-1 that comes from this group: an estimate without an interval, which is worth
        little where avf_low and avf_high lie far apart. A live group without trials has n = 0, value NaN
        and method "no trials".
        """
        return summary_of(self, self._known(by))

    # ---- ranking

    def precision_at(self, k: int) -> Estimate:
        """The share of critical faults (SDC-1) among the k that the sampler scores highest, of those judged.

        Where it ranks nothing it is the share among the first k trials. Repeated draws count once; of a class of
        sites with one effect one counts. Raises BadConfig for an exhaustive campaign: it has no first ones.
        """
        if k < 1:
            raise BadConfig(f"precision_at: k={k}; allowed: 1 or more.")
        if not self.ranked:
            raise BadConfig(
                f"precision_at: a campaign with the sampler {self.sampler!r} ranks nothing. Use one that draws."
            )
        import pandas as pd

        judged = pd.DataFrame({name: self.column(name) for name in ("input_id", "fault_id", "score", "sdc1")})
        distinct = judged.drop_duplicates(["input_id", "fault_id"])
        first = distinct.sort_values("score", ascending=False, kind="stable").head(k)
        return proportion(first["sdc1"])

    def critical(self, top: int = 20) -> pd.DataFrame:
        """The worst faults found, each once: real differences before ties; of each, answers outside the golden top-5
        (sdc5) before others; then by the margin they overturn and by the largest error of an accumulator."""
        found = self.table.rows(self.column("sdc1")).drop_duplicates(["input_id", "fault_id"])
        order = ["tie", "sdc5", "margin_golden", "max_abs_delta_acc", "trial_id"]
        return found.sort_values(order, ascending=[True, False, False, False, True]).head(top)

    def replay(self, fault_id: str, *, engine: str = "auto") -> Explanation:
        """One trial again, explained; `fault_id` is the column of that name, or the beginning of one."""
        from emulator.campaign.replay import replay

        return replay(self.directory, fault_id, engine=engine, trials=self.table)

    # ---- views

    def to_json(self) -> dict[str, Any]:
        """What `emulator run --json` prints; sdc1, sdc5, masked over all sites, the rest over live ones."""
        return {
            "sdc1_live": self.rate().to_json(),
            "sdc1": self.population_rate().to_json(),
            "sdc5": self.population_rate("sdc5").to_json(),
            "sdc1_live_without_ties": self.rate(ties=False).to_json(),
            "sdc1_live_images_alike": self.rate(images="alike").to_json()
            if self.images_are_a_sample
            else None,
            "masked": {stage: share.to_json() for stage, share in self.masked().items()},
            "trials": len(self),
            "live_share": self.live_share,
            "space_size": self.space_size,
            "by_layer": self._by_name("layer"),
            "by_register": self._by_name("register"),
            "by_bit": {} if self.counted else self._by_name("bit"),
            "precision_at_100": self.precision_at(100).to_json() if self.ranked else None,
            "sampler": self.sampler,
            "state": state_of(self),
            "stop": self.manifest["stop"],
            "stopped_by": stopped_by(self),
        }

    def __repr__(self) -> str:
        return (
            f"Results({str(self.directory)!r}: {self.manifest['model']['name']} on "
            f"{self.manifest['array']['name']}, {len(self)} {self.unit}, SDC-1 of live sites {self.rate()}"
            f"{self.gap and f'; {self.gap}'})"
        )

    def _repr_html_(self) -> str:
        found = self.rates_of("layer", self._event("sdc1", ties=True))
        rows = [(str(group[0]), rate) for group, rate in found.items()]
        rows += [("all layers", self.rate()), ("whole population", self.population_rate())]
        return titled_table(repr(self), ["layer", "SDC-1 of live sites"], rows)

    # ---- inside

    def _event(self, outcome: str, ties: bool) -> npt.NDArray[np.bool_]:
        if outcome not in OUTCOMES:
            raise BadConfig(f"outcome {outcome!r}; allowed: {', '.join(OUTCOMES)}.")
        event: npt.NDArray[np.bool_] = self.column(outcome)
        return event if ties else event & ~self.column("tie")

    @cached_property
    def _rates(self) -> Rates:
        if not self.counted:
            return DrawnRates(
                population=self.population,
                weight=self.weight,
                max_weight=self.max_weight,
                looked=bool(self.manifest["looked"]),
            )
        settings = {name: value for name, value in self.manifest["sampler"].items() if name != "name"}
        sampler = sampler_named(self.sampler, settings)
        assert not isinstance(sampler, Sampler)
        return CountedRates(
            population=self.population,
            sampler=sampler,
            sites=self.column("class_size"),
            inclusion=1 / self.weight,
            finished=self.sampler == "exhaustive" and not self.incomplete,
        )

    def _known(self, keys: Keys) -> list[str]:
        """Names of groups; BadConfig for unknown ones, and for those that a class is spread over."""
        names = _names(keys)
        spread = [name for name in names if self.counted and name in _SPREAD]
        if spread:
            raise BadConfig(
                f"group by {spread}: a row of this campaign is a class of sites that differ in it; allowed: "
                f"{', '.join(name for name in _GROUPS if name not in _SPREAD)}. Or draw with the sampler uniform."
            )
        return names

    def _key(self, name: str) -> npt.NDArray[Any]:
        if name == "bit":
            return _lowest_bit(self.column("bits"))
        return self.column("layer_name" if name == "layer" else name)

    def _by_name(self, key: str) -> dict[str, dict[str, Any]]:
        return {
            str(group[0]): found.to_json()
            for group, found in self.rates_of(key, self._event("sdc1", ties=True)).items()
        }


def _lowest_bit(mask: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.log2((mask & -mask).astype(np.float64)).astype(np.int64)


def _names(keys: Keys) -> list[str]:
    names = [keys] if isinstance(keys, str) else list(keys)
    unknown = [name for name in names if name not in _GROUPS]
    if unknown or not names:
        raise BadConfig(f"group by {names}; allowed: one or more of {', '.join(_GROUPS)}.")
    return names


def _check_keys(directory: Path, manifest: dict[str, Any]) -> None:
    missing = [key for key in _NEEDED if key not in manifest]
    if missing:
        raise BadData(
            f"{directory}: the manifest lacks {missing}; written by another version? Run the campaign again."
        )


_NEEDED = ("model", "inputs", "array", "registers", "layers", "sampler", "space", "stop", "looked")
