"""Campaigns that differ in their seed only, as one: more trials of the same, from several machines or days."""

from __future__ import annotations

from typing import Any

from emulator.campaign.manifest import differences
from emulator.campaign.results import Results
from emulator.campaign.trials import HeldTrials
from emulator.errors import BadConfig


def merge(first: Results, *others: Results) -> Results:
    """The trials of all; replays, layers and registers are those of the first. Trials are numbered on.

    Raises BadConfig for campaigns that differ in more than seed and stop rule, that have a seed in common, whose trials
    would be counted twice, or that go through all sites: those have nothing to add to one another.
    """
    merged = first
    for other in others:
        merged = _merged(merged, other)
    return merged


def _merged(first: Results, second: Results) -> Results:
    import pandas as pd

    _check(first, second)
    after = int(first.column("trial_id").max()) + 1
    more = second.trials.assign(trial_id=second.trials["trial_id"] + after)
    manifest = {
        **first.manifest,
        "seed": [*seeds_of(first), *seeds_of(second)],
        # An interval that was to hold whenever one looked has to go on doing so.
        "looked": first.manifest["looked"] or second.manifest["looked"],
    }
    table = HeldTrials(pd.concat((first.trials, more), ignore_index=True))
    return Results(directory=first.directory, manifest=manifest, table=table)


def seeds_of(results: Results) -> list[int]:
    """With what it was drawn, one or more."""
    seed: Any = results.manifest["seed"]
    return seed if isinstance(seed, list) else [seed]


def _check(first: Results, second: Results) -> None:
    for results in (first, second):
        if results.counted:
            raise BadConfig(
                f"{results.directory} goes through every site, it has nothing to add; allowed: campaigns that draw."
            )
    different = [key for key, _, _ in differences(first.manifest, second.manifest) if key != "seed"]
    if different:
        raise BadConfig(
            f"{second.directory} differs from {first.directory} in {', '.join(different)}; allowed: the seed. "
            "Compare two networks with `emulator compare`."
        )
    common = sorted({*seeds_of(first)} & {*seeds_of(second)})
    if common:
        raise BadConfig(
            f"{second.directory} and {first.directory} have the seed {common[0]} in common: the same trials; allowed: "
            "another seed each."
        )
