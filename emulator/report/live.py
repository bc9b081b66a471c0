"""The report of a campaign that is running: written again and again, and a last time as the ordinary page."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from emulator.array.fit import FIT_PER_MBIT, RawFit
from emulator.campaign.one_writer import being_written
from emulator.campaign.parts import stored_chunks
from emulator.campaign.results import Results
from emulator.errors import BadConfig, BadData
from emulator.report.html import Live, write_report
from emulator.sampling.estimate import grouped


def follow(
    directory: Path,
    path: Path,
    *,
    every: int = 5,
    compare: Results | None = None,
    fit_per_mbit: float | RawFit = FIT_PER_MBIT,
    told: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write the report of `directory` to `path` with a pause of `every` seconds (1 or more), until no run writes there.

    Waits for the first trials, for as long as it takes. The last page, also after KeyboardInterrupt, which is raised
    again, is the one that `write_report` gives. told: takes a line where there is something to say. Raises BadConfig
    for other pauses, and as `write_report`; BadData if the campaign is damaged and nothing is at work on it.
    """
    if every < 1:
        raise BadConfig(f"every={every}; allowed: 1 second or more. Try 5.")
    write = partial(write_report, path=path, compare=compare, fit_per_mbit=fit_per_mbit)
    try:
        _wait(directory, every, told)
        while being_written(directory):
            _write_live(directory, write, every, told)
            time.sleep(every)
    except KeyboardInterrupt:
        if stored_chunks(directory):
            write(Results.open(directory))
            told(f"the last page stands as it is: {path}")
        raise
    return write(Results.open(directory))


def _wait(directory: Path, every: int, told: Callable[[str], None]) -> None:
    if not stored_chunks(directory):
        told(f"{directory}: no trials yet, waiting for the first (Ctrl-C ends)")
    while not stored_chunks(directory):
        time.sleep(every)


def _write_live(directory: Path, write: Callable[..., Path], every: int, told: Callable[[str], None]) -> None:
    try:
        results = Results.open(directory)
        live = Live(done=_done(results), written=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", every=every)
        told(f"{live.done}: {write(results, live=live)}")
    except BadData as error:  # a part may go while it is read; what is damaged for good is told at the end
        told(f"not read this time: {error}")


def _done(results: Results) -> str:
    """How far the campaign is, as far as its stop rule says where it ends."""
    if results.counted:
        chunks = len(stored_chunks(results.directory))
        return (
            f"{grouped(chunks)} of {grouped(results.manifest['chunks']['count'])} layers of images are judged"
        )
    stop = results.manifest["stop"]
    limit = _limit(stop)
    most = (
        ""
        if limit is None
        else f" of {grouped(limit)}"
        if "max_trials" in stop
        else f" of at most {grouped(limit)}"
    )
    return f"{grouped(len(results))}{most} trials"


def _limit(stop: dict[str, Any]) -> int | None:
    """The trials after which a stored stop rule ends a campaign whatever it finds; None: no such number."""
    if "max_trials" in stop:
        return int(stop["max_trials"])
    limits = [limit for rule in stop.get("any", []) if (limit := _limit(rule)) is not None]
    return min(limits, default=None)
