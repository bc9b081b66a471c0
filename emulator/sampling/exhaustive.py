"""Every live site of every image, by classes: sites that store the same values are judged once and counted.

A word's flips are struck together, and what they store is kept once (`Classes`); only that is propagated. The answer is
that of all sites one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.faults.fault import FaultBatch, joined_faults
from emulator.faults.space import FaultSpace, Stratum
from emulator.faults.strike import strike_words
from emulator.faults.strikes import Extent, extent_of, strikes_of
from emulator.faults.words import word_blocks
from emulator.propagate.classes import Changes, Classes
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhaustive:
    """Every live site once: what is found is exact. A chunk is one image and one layer."""

    name = "exhaustive"

    def settings(self) -> dict[str, Any]:
        return {"name": self.name}

    def chunks(self, space: FaultSpace, images: int) -> int:
        """How many chunks there are. Raises BadConfig for layers that classes can't be told apart in."""
        wide = [s.layer_name for s in space.strata if not space.graph.layers[s.layer].compiled]
        if wide:
            raise BadConfig(
                f"layer {wide[0]!r} runs outside the kernels; allowed for an exhaustive campaign: layers of 8-bit "
                "operands with int8 results. Restrict the layers, or draw from them with the sampler uniform."
            )
        return images * len(_live(space))

    def classes(self, bench: Workbench, chunk: int) -> SiteClasses:
        """Those of one chunk; images come one after the other."""
        layers = _live(bench.space)
        image, of = divmod(chunk, len(layers))
        return classes_of(bench, image, layers[of])


def _live(space: FaultSpace) -> list[list[Stratum]]:
    """The strata of each layer that have live sites."""
    live = (stratum for stratum in space.strata if stratum.live)
    return [list(strata) for _, strata in groupby(live, key=lambda stratum: stratum.layer)]


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
