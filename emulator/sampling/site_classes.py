"""The live sites of an image and layer, sorted into classes of one effect.

A word's flips are struck together, and what they store is kept once (`Classes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emulator.faults.fault import FaultBatch, joined_faults
from emulator.faults.space import Stratum
from emulator.faults.strike import strike_words
from emulator.faults.strikes import Extent, extent_of, strikes_of
from emulator.faults.words import word_blocks
from emulator.propagate.classes import Changes, Classes, changes_at
from emulator.sampling.workbench import Workbench

Ints = npt.NDArray[np.int64]

# At once: what their flips change stays in the second cache.
WORDS = 1 << 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteClasses:
    """The classes of one image and layer, and their share of each register.

    changes: what the sites of each class store. One row for each class and register that meet: register after register,
    of: the class, faults: one site, extent: how much it spoils, sites: how many there are.
    """

    image: int
    changes: Changes = field(repr=False)
    of: Ints = field(repr=False)
    faults: FaultBatch
    extent: Extent
    sites: Ints


def some_rows(found: SiteClasses, rows: npt.NDArray[np.intp]) -> SiteClasses:
    """Those rows, and the classes that they are of."""
    classes, of = np.unique(found.of[rows], return_inverse=True)
    return SiteClasses(
        image=found.image,
        changes=changes_at(found.changes, classes),
        of=of,
        faults=found.faults[rows],
        extent=Extent._make(part[rows] for part in found.extent),
        sites=found.sites[rows],
    )


def classes_of(bench: Workbench, image: int, strata: Sequence[Stratum]) -> SiteClasses:
    """All live sites of strata of one layer, struck on one image and sorted into classes."""
    inference = bench.inference(image)
    classes = Classes(bench.golden.program, inference)
    of, sites = [], []
    faults: list[FaultBatch] = []
    extents: list[Extent] = []
    for stratum in strata:
        classes.count_anew()
        met = []
        for block in word_blocks(stratum, WORDS):
            strikes = strike_words(bench.golden, inference, bench.array, block)
            layer, cycles = np.full(len(strikes.hang), stratum.layer), np.repeat(block.cycles, block.bits)
            classes.add(layer, strikes.errors, cycles)
            fresh, first = classes.fresh
            met.append(fresh.copy())
            faults.append(block.flips(first))
            extents.append(extent_of(strikes_of(strikes, first)))
        of.append(np.concatenate(met))
        sites.append(classes.sizes[of[-1]])
    return SiteClasses(
        image=image,
        changes=classes.changes,
        of=np.concatenate(of),
        faults=joined_faults(faults),
        extent=Extent(*map(np.concatenate, zip(*extents, strict=True))),
        sites=np.concatenate(sites),
    )
