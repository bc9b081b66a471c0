"""What is protected or left as a whole: classes of registers, their bits, rows, words, PEs, or the run of a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from emulator.array.registers import Register, register
from emulator.array.spec import ArraySpec
from emulator.campaign.results import Results
from emulator.choices import one_of
from emulator.errors import BadConfig
from emulator.harden.places import Level, Places, level_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

Cuts = Literal["register", "register-bit", "row-bit", "word", "bit"]
By = Literal[Cuts, "pe", "layer"]
ALLOWED: tuple[str, ...] = (*get_args(Cuts), "pe", "layer")

# Cuts that a unit lies in, coarsest first: those that say how much it is exposed, and those that say what becomes of
# upsets in it. The exposure of a whole register is counted. A word is in use or not with all its bits; a bit matters by
# its significance.
_EXPOSED: dict[Cuts, tuple[Level, ...]] = {
    "register": (),
    "register-bit": ("register-bit",),
    "row-bit": ("row", "row-bit"),
    "word": ("row", "word"),
    "bit": ("row", "word", "bit"),
}
_STRUCK: dict[Cuts, tuple[Level, ...]] = {
    "register": ("register",),
    "register-bit": ("register", "register-bit"),
    "row-bit": ("register", "register-bit", "row-bit"),
    "word": ("register", "row", "word"),
    "bit": ("register", "register-bit", "row-bit", "bit"),
}
COUNTED_BY = ("register", "layer")
"""What a class of sites is known to lie in as a whole."""

# Of what is cut so finely.
MOST_BITS = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """Equal code words of a unit, and how they are stored: each (parts,). bits: all data bits of a part, words: how
    many code words, width: bits of the widest; of a layer bits are its cycles."""

    unit: Ints
    sram: npt.NDArray[np.bool_]
    words: Ints
    width: Ints
    bits: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Units:
    """by: how they are cut. of (trials,): the unit that a trial struck. parts: what they are made of. exposure
    (units,): live sites of each, weighed by raw rate, if they lay evenly in a register (as counted: of registers and
    layers); exactly 0 where none is or their rate is. exposed, struck: of cuts, coarsest first, (units,) the one that
    each lies in, as `expected` takes them. names: what tells units apart, (units,) each."""

    by: By
    of: Ints
    parts: Parts
    exposure: Floats
    exposed: tuple[Ints, ...]
    struck: tuple[Ints, ...]
    names: dict[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.names.values())))

    @property
    def in_time(self) -> bool:
        """Does protection cost cycles instead of area?"""
        return self.by == "layer"

    @property
    def bits(self) -> Ints:
        """(units,) data bits, or cycles."""
        return np.bincount(self.parts.unit, self.parts.bits, len(self)).astype(np.int64)

    def name(self, unit: int) -> dict[str, Any]:
        """What tells this one apart, as plain values; a unit has no row where it spans all."""
        found = {key: column[unit].item() for key, column in self.names.items()}
        return {key: value for key, value in found.items() if value != -1}


def units_of(results: Results, by: str, upset: Mapping[str, float]) -> Units:
    """The units of a campaign's registers; upset: the raw rate of each, relative to any. Raises BadConfig for
    another `by`, for one that has too many units, and for a campaign whose rows are classes of sites where these are
    not known to lie in one unit."""
    by = one_of(ALLOWED, by, "by")
    if results.counted and by not in COUNTED_BY:
        raise BadConfig(
            f"--by {by}: a row of this campaign is a class of sites that differ in it; allowed here: "
            f"{', '.join(COUNTED_BY)}. Or draw with the sampler importance."
        )
    if by == "layer":
        return _layers(results, upset)
    array = ArraySpec(**results.manifest["array"])
    entries = [register(array, name) for name in results.manifest["registers"]]
    bits = sum(entry.total_bits for entry in entries)
    if by in ("word", "bit", "row-bit") and bits > MOST_BITS:
        raise BadConfig(
            f"--by {by}: {bits:,} bits in the registers of this campaign; allowed: {MOST_BITS:,}. Take register-bit, "
            "or a campaign of fewer registers."
        )
    live = results.population.sites_by(["register"])
    exposure = np.array([live.get((entry.name,), (0, 0))[1] * upset[entry.name] for entry in entries])
    if by == "pe":
        return _pes(results, entries, array, exposure)
    return _cut(results, entries, cast(Cuts, by), exposure)


def _layers(results: Results, upset: Mapping[str, float]) -> Units:
    layers = results.manifest["layers"]
    index = np.array([layer["index"] for layer in layers])
    count = np.arange(len(layers))
    number = {layer["name"]: i for i, layer in enumerate(layers)}
    exposure = np.zeros(len(layers))
    for (layer, name), (_, live) in results.population.sites_by(["layer", "register"]).items():
        exposure[number[layer]] += live * upset[name]
    return Units(
        by="layer",
        of=np.searchsorted(index, results.column("layer")),
        parts=Parts(
            unit=count,
            sram=np.zeros(len(layers), bool),
            words=np.ones_like(count),
            width=np.ones_like(count),
            bits=np.array([layer["window_cycles"] for layer in layers]),
        ),
        exposure=exposure,
        exposed=(),
        struck=(count,),
        names={"layer": np.array([layer["name"] for layer in layers])},
    )


def _cut(results: Results, entries: Sequence[Register], by: Cuts, exposure: Floats) -> Units:
    """Registers cut at one level; the coarser ones above it. exposure (entries,)."""
    level = level_of(entries, by)
    # A place in each unit, which is in the same coarser units as all of it.
    places = level.first_places()
    coarser = {*_EXPOSED[by], *_STRUCK[by]} - {by}
    within = {name: level_of(entries, name).unit_at(places) for name in coarser}
    within[by] = np.arange(len(level))
    return Units(
        by=by,
        of=level.unit_at(_struck(results, entries)),
        parts=Parts(
            unit=np.arange(len(level)),
            sram=level.sram,
            words=level.words,
            width=level.width,
            bits=level.bits,
        ),
        exposure=level.bits * _of_a_bit(entries, exposure)[places.entry],
        exposed=tuple(within[name] for name in _EXPOSED[by]),
        struck=tuple(within[name] for name in _STRUCK[by]),
        names=level.names(places),
    )


def _of_a_bit(entries: Sequence[Register], exposure: Floats) -> Floats:
    """(entries,) the share of one bit."""
    return exposure / np.array([entry.total_bits for entry in entries], np.float64)


def _pes(results: Results, entries: Sequence[Register], array: ArraySpec, exposure: Floats) -> Units:
    """Each PE with all its registers, and each class of other registers. exposure (entries,)."""
    inside = np.array([entry.name.startswith("pe_") for entry in entries])
    if not inside.any():
        raise BadConfig(
            "--by pe: no register of a PE (pe_*) in this campaign; allowed: one with such registers. Run it with all."
        )
    words, classes = level_of(entries, "word"), level_of(entries, "register")
    others, cells = np.flatnonzero(~inside), array.rows * array.cols
    after = np.cumsum(~inside) - 1 + cells

    def unit_at(at: Places) -> Ints:
        return np.where(inside[at.entry], at.row * array.cols + at.col, after[at.entry])

    at = words.first_places()
    in_pe = inside[at.entry]
    unit = np.concatenate((unit_at(at)[in_pe], after[others]))
    columns = {
        name: np.concatenate((getattr(words, name)[in_pe], getattr(classes, name)[others]))
        for name in ("sram", "words", "width", "bits")
    }
    row, col = np.divmod(np.arange(cells), array.cols)
    rest = np.full(len(others), -1)
    of_bits = columns["bits"] * _of_a_bit(entries, exposure)[np.concatenate((at.entry[in_pe], others))]
    # All PEs are alike until trials say otherwise.
    alike = np.concatenate((np.zeros(cells, np.int64), 1 + np.arange(len(others))))
    return Units(
        by="pe",
        of=unit_at(_struck(results, entries)),
        parts=Parts(unit=unit, **columns),
        exposure=np.bincount(unit, of_bits).astype(np.float64),
        exposed=(np.arange(len(alike)),),
        struck=(alike, np.arange(len(alike))),
        names={
            "register": np.array(
                ["pe_*"] * cells + [entry.name for entry in entries if not entry.name.startswith("pe_")]
            ),
            "row": np.concatenate((row, rest)),
            "col": np.concatenate((col, rest)),
        },
    )


def _struck(results: Results, entries: Sequence[Register]) -> Places:
    """Where the trials struck."""
    import pandas as pd

    number = {entry.name: i for i, entry in enumerate(entries)}
    at = {name: results.column(name).astype(np.int64) for name in ("row", "col", "bits")}
    return Places(
        entry=np.asarray(pd.Series(results.column("register")).map(number), np.int64),
        row=at["row"],
        col=at["col"],
        # One bit a trial.
        bit=np.log2(at["bits"].astype(np.float64)).astype(np.int64),
    )
