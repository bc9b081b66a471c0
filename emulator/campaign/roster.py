"""The workers of a Dask cluster as they come and go. Those that could find something else are sent away."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from emulator.campaign.versions import versions_here
from emulator.choices import few
from emulator.errors import first_line

Versions = Mapping[str, str]


class Roster:
    """client: a `distributed.Client`."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.versions: Versions = versions_here()
        self.known: set[str] = set()

    def present(self) -> int:
        """How many workers there are now. Warns of each that has left since it was last asked, and of each of other
        versions, which is ended."""
        now = set(self.client.nthreads())
        if gone := self.known - now:
            warnings.warn(_farewell(sorted(gone)), stacklevel=2)
        unfit = self._unfit(now - self.known)
        for address, why in unfit.items():
            warnings.warn(
                f"worker {address} {why}: it might find something else, and is ended. Install the same there",
                stacklevel=2,
            )
        if unfit:
            self.client.retire_workers(list(unfit))
        self.known = now - unfit.keys()
        return len(self.known)

    def _unfit(self, addresses: Iterable[str]) -> dict[str, str]:
        """Those of these workers that can't take part, and why not."""
        asked = sorted(addresses)
        found = self.client.run(versions_here, workers=asked, on_error="return") if asked else {}
        # One that can't be reached is leaving already.
        answers = {address: answer for address, answer in found.items() if not isinstance(answer, OSError)}
        return {address: why for address in answers if (why := unlike(answers[address], self.versions))}


def unlike(there: Versions | Exception, here: Versions) -> str:
    """What a worker has that the campaign has not, as `has ...`; "" where all is the same. there: an exception where
    it could not say."""
    if isinstance(there, Exception):
        return f"can't say what it has ({first_line(there)})"
    different = [name for name in sorted({*here, *there}) if there.get(name) != here.get(name)]
    told = [
        f"{name} {there.get(name, 'absent')} (the campaign {here.get(name, 'absent')})" for name in different
    ]
    return f"has {', '.join(told)}" if told else ""


def _farewell(gone: list[str]) -> str:
    if len(gone) == 1:
        return f"worker {gone[0]} left; chunks that it had not finished are judged again by others"
    return f"{len(gone)} workers left ({few(gone)}); chunks that they had not finished are judged again by others"
