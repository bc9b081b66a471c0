"""The tables of tools/ground_truth, read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.sensitivity.crossing import crossing, preference_of
from emulator.sensitivity.fitted import learnt
from emulator.sensitivity.outlook import Outlook, outlook_at

Columns = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]

PILOT_ALPHA = 0.2


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTable:
    """One image. columns: as tools/ground_truth wrote them."""

    image: int
    columns: Columns
    _crossings: dict[int, Floats] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def critical(self) -> npt.NDArray[np.bool_]:
        """(classes,) SDC-1 that is no tie."""
        found: npt.NDArray[np.bool_] = self.columns["class_sdc1"] & ~self.columns["class_tie"]
        return found

    def crossing(self, lookahead: int) -> Floats:
        """(classes,) the score that is not fitted."""
        if lookahead not in self._crossings:
            self._crossings[lookahead] = crossing(self.outlook(lookahead))
        return self._crossings[lookahead]

    def outlook(self, lookahead: int, rows: Any = slice(None)) -> Outlook:
        """(rows,) what the sampler would foresee."""
        c = self.columns
        left = c[f"class_left{lookahead}"][rows]
        return Outlook(
            layer=c["class_layer"][rows].astype(np.int64),
            margin=np.full(len(left), float(c["margin"]), np.float32),
            left=left,
            movement=c[f"class_movement{lookahead}"][rows],
            changed=c["class_changed"][rows].astype(np.int64),
            alive=c[f"class_alive{lookahead}"][rows],
            foreseen=np.ones(len(left), np.bool_),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Tables:
    """Those of one model. about: what table.json says."""

    about: dict[str, Any]
    images: list[ImageTable]

    def register(self, name: str) -> int:
        """Its place in every column that has one a register."""
        return int(self.about["registers"].index(name))

    def some(self, which: str) -> list[ImageTable]:
        """The images that were drawn at "random", or the "lowest"."""
        return [table for table in self.images if table.image in self.about[which]]


def read_tables(folder: Path) -> Tables:
    """Everything that is there."""
    about = json.loads((folder / "table.json").read_text())
    images = []
    for image in about["random"] + about["lowest"]:
        path = folder / f"{image}.npz"
        if path.exists():
            with np.load(path) as arrays:
                images.append(ImageTable(image=image, columns=dict(arrays)))
    return Tables(about=about, images=images)


def fitted_on(
    tables: list[ImageTable], register: int, draws: int, rng: np.random.Generator
) -> Callable[[ImageTable], Floats]:
    """A score from a pilot of about so many importance draws from these images: fitted, or the crossing where that is
    no better."""
    parts, outcomes, weights = [], [], []
    preference = np.array([1 / (1 + float(table.columns["margin"])) for table in tables])
    preference /= preference.sum()
    for table, share, count in zip(tables, preference, rng.multinomial(draws, preference), strict=True):
        sites = table.columns["class_sites"][:, register].astype(np.float64)
        p = sites / sites.sum()
        wanted = p * preference_of(table.crossing(2))
        q = PILOT_ALPHA * p + (1 - PILOT_ALPHA) * wanted / wanted.sum()
        rows = rng.choice(len(q), count, p=q)
        parts.append(table.outlook(2, rows))
        outcomes.append(table.columns["class_sdc1"][rows])
        weights.append(p[rows] / q[rows] / (len(tables) * share))
    outlook = Outlook._make(map(np.concatenate, zip(*parts, strict=True)))
    order = rng.permutation(len(outlook.left))
    model = learnt(
        outlook_at(outlook, order), np.concatenate(outcomes)[order], np.concatenate(weights)[order]
    )
    if model is None:
        return lambda table: table.crossing(2)
    return lambda table: model.score(table.outlook(2))
