"""What `emulator run --dry-run` prints: space, plan and cost of a campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emulator.cli.terminal import say_compiling, show, show_json

if TYPE_CHECKING:
    from emulator.campaign.config import CampaignConfig
    from emulator.campaign.runner import Campaign

RARE = 0.01
"""A rate of SDC-1 that is more usual than the worst case."""


def print_plan(campaign: Campaign, config: CampaignConfig, json: bool) -> None:
    """The plan of a campaign, for people or as JSON."""
    from emulator.array.registers import inventory
    from emulator.sampling.confidence_sequence import uniform_trials
    from emulator.sampling.planning import margin_of_error, sample_size
    from emulator.sampling.registry import COUNTED

    manifest = campaign.manifest()
    rare = None if config.until_ci is None else uniform_trials(config.until_ci, rate=RARE)
    space = campaign.space
    limit, memory = campaign.stop.limit(), campaign.memory_plan(config.workers)
    sites = space.live * len(campaign.samples)
    plan = {
        "space_size": space.size,
        "live": space.live,
        "live_share": space.live_share,
        "images": len(campaign.samples),
        "trials": limit,
        "chunks": manifest["chunks"],
        "sampler": manifest["sampler"],
        "layers": len(manifest["layers"]),
        "registers": manifest["registers"],
        "cycles": sum(layer["cycles"] for layer in manifest["layers"]),
        "memory": memory.to_json(),
        "uniform_half_width": None if limit is None else margin_of_error(min(limit, sites), sites),
        "uniform_trials": sample_size(sites, error=0.01),
        "uniform_trials_until_ci": None if config.until_ci is None else uniform_trials(config.until_ci),
        "probe": _probe(campaign, limit or rare, memory.workers),
    }
    if json:
        show_json(plan)
        return
    show(f"{space!r}")
    show(
        f"{plan['images']} images x {space.live:,} live sites; {plan['layers']} layers, {plan['cycles']:,} cycles"
    )
    names, every = plan["registers"], [entry.name for entry in inventory(campaign.array)]
    show(f"registers: {f'all {len(every)}' if names == every else ', '.join(names)}")
    show(f"memory: {memory}")
    sampler = dict(manifest["sampler"])
    settings = "".join(f", {key} {value}" for key, value in sampler.items() if key != "name")
    if sampler["name"] in COUNTED:
        chunks = campaign.chunks.settings()["count"]
        show(f"sampler: {sampler['name']}{settings}, every site by classes, in {chunks:,} chunks")
        return
    show(f"sampler: {sampler['name']}{settings}; stop: {campaign.stop}")
    margin = "" if limit is None else f"a half-width of {100 * plan['uniform_half_width']:.2g} % at most; "
    show(f"uniform trials: {margin}{plan['uniform_trials']:,} for 1 % (Leveugle et al., DATE'09)")
    if config.until_ci is not None and rare is not None:
        show(
            f"until {100 * config.until_ci:g} %: about {_rounded(plan['uniform_trials_until_ci'])} uniform trials at "
            f"worst, {_rounded(rare)} at a rate of {100 * RARE:g} % (the interval may be looked at any time); "
            "importance usually takes fewer"
        )
    if plan["probe"] is not None:
        show(_pace(plan["probe"], memory.workers, "" if limit else f" for {_rounded(rare or 0)} trials"))


def _probe(campaign: Campaign, trials: int | None, workers: int | None) -> dict[str, Any] | None:
    """How fast trials go in this process; None on a cluster, where others do them."""
    from emulator.campaign.probe import probe
    from emulator.compiling import telling_of_compiling

    if workers is None:
        return None
    with telling_of_compiling(say_compiling):
        found = probe(campaign)
    if found is None:
        return None
    seconds = None if trials is None else found.seconds_for(trials, workers)
    return {"trials": found.trials, "trials_per_second": found.trials_per_second, "seconds": seconds}


def _pace(probe: dict[str, Any], workers: int | None, of: str) -> str:
    processes = "one process" if workers == 1 else f"{workers} processes"
    lasts = f", {_duration(probe['seconds'])} in {processes}{of}" if probe["seconds"] is not None else ""
    return (
        f"time: about {_rounded(probe['trials_per_second'])} trials/s in one process here (probe of {probe['trials']} "
        f"trials of one image){lasts}, beside what workers and images take once"
    )


def _rounded(value: float) -> str:
    """To the two digits that an estimate is good for."""
    digits = f"{value:.2g}"
    return f"{float(digits):,.0f}" if value >= 10 else digits


def _duration(seconds: float) -> str:
    """In the unit that suits it."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{max(1, round(seconds))} s"
