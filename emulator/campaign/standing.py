"""How far a campaign is: running, finished and by which stop rule, or interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from emulator.sampling.stopping import in_words

if TYPE_CHECKING:
    from emulator.campaign.results import Results

State = Literal["running", "finished", "interrupted"]


def state_of(results: Results) -> State:
    """Of what the directory held when it was opened; interrupted where chunks are missing too."""
    if results.running:
        return "running"
    lacks = results.gap or results.incomplete or "finished_trials" not in results.manifest
    return "interrupted" if lacks else "finished"


def stopped_by(results: Results) -> dict[str, Any] | None:
    """Settings of the rule that ended it; None: it isn't finished."""
    found: dict[str, Any] | None = results.manifest.get("stopped_by")
    return found if state_of(results) == "finished" else None


def state_in_words(results: Results) -> str:
    """One line."""
    state = state_of(results)
    if state == "running":
        return f"running now; stop: {in_words(results.manifest['stop'])}"
    if state == "interrupted":
        return f"interrupted: `emulator run {results.directory}` carries on"
    return f"finished: {len(results):,} {results.unit}; {shortfall(results) or _ended(results)}"


def shortfall(results: Results) -> str:
    """How a finished campaign fell short of a width that it was to reach; "" where it didn't."""
    by, asked = stopped_by(results), _half_width(results.manifest["stop"])
    reached = results.rate()
    if by is None or asked is None or reached.half_width <= asked:
        return ""
    width = f"half-width {100 * reached.half_width:.2g} %, not the {100 * asked:g} % asked for"
    return f"stopped by {in_words(by)}: {width}"


def any_time(results: Results) -> str:
    """Why an interval is wider than the trials alone would make it."""
    looked = results.manifest["looked"]
    return " (it may stop on what it finds: the interval holds at any time)" if looked else ""


def _ended(results: Results) -> str:
    by = stopped_by(results)
    return f"stop: {in_words(results.manifest['stop'] if by is None else by)}"


def _half_width(stop: dict[str, Any]) -> float | None:
    """The narrowest that a stored rule, or one of its parts, asks for."""
    if "ci_half_width" in stop:
        return float(stop["ci_half_width"])
    parts = [*stop.get("any", []), *stop.get("all", [])]
    return min((width for part in parts if (width := _half_width(part)) is not None), default=None)
