"""The points of a sweep over bit-error rates that are finished; with a path, in a JSON file that is written whole after
each, so that a rerun has to find the others only."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emulator.campaign.error_rates import Curve, ErrorRates, Point
from emulator.campaign.files import as_json, read_object, write_atomically
from emulator.campaign.manifest import differences
from emulator.errors import BadConfig, BadData
from emulator.sampling.estimate import Estimate

SCHEMA = 1
_CLEAN = "without_upsets"


class ErrorRateStore:
    """without_upsets: the accuracy at rate 0.

    Raises BadConfig where `path` holds points of another sweep, or of a curve of the same name over other bits; BadData
    where it can't be read.
    """

    def __init__(self, sweep: ErrorRates, without_upsets: Estimate, path: Path | None = None) -> None:
        self.sweep = sweep
        self.path = path
        self._settings = as_json(_sweep(sweep), "sweep")
        self._head = {**self._settings, _CLEAN: as_json(without_upsets.to_json(), _CLEAN)}
        self._curves = {c.name: as_json({"sites": _sites(c), "points": []}, c.name) for c in sweep.curves}
        if path is not None:
            self._resume(path)

    @property
    def done(self) -> set[tuple[str, float]]:
        """Curve and rate of each point."""
        return {(name, p["bit_error_rate"]) for name, c in self._curves.items() for p in c["points"]}

    def add(self, curve: Curve, point: Point) -> None:
        """Raises BadConfig if the disk refuses."""
        self._curves[curve.name]["points"].append(as_json(point.to_json(), curve.name))
        if self.path is not None:
            write_atomically(self.path, (json.dumps(self.to_json(), indent=1) + "\n").encode())

    def curves(self) -> dict[str, list[Point]]:
        """By name, what there is of the curves of this sweep, by ascending rate."""
        return {
            curve.name: [
                Point.from_json(stored)
                for stored in sorted(
                    self._curves[curve.name]["points"], key=lambda point: float(point["bit_error_rate"])
                )
                if stored["bit_error_rate"] in curve.rates
            ]
            for curve in self.sweep.curves
        }

    def to_json(self) -> dict[str, Any]:
        """All of it, as in the file."""
        return {"schema": SCHEMA, **self._head, "curves": self._curves}

    def _resume(self, path: Path) -> None:
        remedy = "Choose another -o, or delete it."
        try:
            stored = read_object(path, remedy)
        except FileNotFoundError:
            return
        if stored.get("schema") != SCHEMA or not isinstance(stored.get("curves"), dict):
            raise BadData(f"{path}: not a file of `emulator ber` of this version. {remedy}")
        found = differences({key: stored.get(key) for key in self._settings}, self._settings)
        for name in self._curves.keys() & stored["curves"].keys():
            found += differences(stored["curves"][name]["sites"], self._curves[name]["sites"])
        # The accuracy follows from the sweep: another one says something only where the sweep is the same.
        found = found or differences({_CLEAN: stored.get(_CLEAN)}, {_CLEAN: self._head[_CLEAN]})
        if found:
            lines = "\n".join(f"  {key}: stored {a}, new {b}" for key, a, b in found)
            raise BadConfig(
                f"{path} holds points of another sweep; nothing was written. Different:\n{lines}\n{remedy}"
            )
        self._curves |= stored["curves"]


def _sweep(sweep: ErrorRates) -> dict[str, Any]:
    from emulator import __version__

    return {
        "version": __version__,
        "model": sweep.network.settings(),
        "inputs": sweep.samples.settings(),
        "against": "fault-free answers" if sweep.samples.labels is None else "labels",
        "inferences": sweep.passes * len(sweep.samples),
        "seed": sweep.seed,
    }


def _sites(curve: Curve) -> dict[str, Any]:
    """The bits of a curve."""
    space = curve.space
    return {
        "array": asdict(space.array),
        "registers": list(dict.fromkeys(stratum.register.name for stratum in space.strata)),
        "layers": list(dict.fromkeys(stratum.layer_name for stratum in space.strata)),
        "size": space.size,
        "live": space.live,
    }
