"""Campaigns that go through every live site of every image by classes of one effect: one chunk an image and layer."""

from __future__ import annotations

from itertools import groupby
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig
from emulator.faults.space import FaultSpace, Stratum
from emulator.sampling.site_classes import SiteClasses, classes_of
from emulator.sampling.workbench import Workbench


class Judged(NamedTuple):
    """rows (chosen,) of a `SiteClasses` that are judged, ascending; inclusion (chosen,): the probability of each to
    be; score (chosen,): as in SampledFaults."""

    rows: npt.NDArray[np.intp]
    inclusion: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]


class Counted(Protocol):
    """A sampler that chooses among the classes of a chunk."""

    @property
    def name(self) -> str: ...

    def settings(self) -> dict[str, Any]:
        """What distinguishes it in a manifest."""
        ...

    def per_site_floor(self, sites: int) -> float:
        """Of a campaign over `sites` sites, images counted: a row of T sites is judged with at least
        min(1, floor * T)."""
        ...

    def choose(self, bench: Workbench, found: SiteClasses, rng: np.random.Generator) -> Judged:
        """Which rows of a chunk are judged, each independently of the others."""
        ...


def count_chunks(space: FaultSpace, images: int) -> int:
    """How many chunks there are. Raises BadConfig for layers that classes can't be told apart in."""
    wide = [s.layer_name for s in space.strata if not space.graph.layers[s.layer].compiled]
    if wide:
        raise BadConfig(
            f"layer {wide[0]!r} runs outside the kernels; allowed where sites are counted: layers of 8-bit operands "
            "with int8 results. Restrict the layers, or draw from them with the sampler uniform."
        )
    return images * len(live_layers(space))


def classes_of_chunk(bench: Workbench, chunk: int) -> SiteClasses:
    """All classes of a chunk; images come one after the other."""
    layers = live_layers(bench.space)
    image, of = divmod(chunk, len(layers))
    return classes_of(bench, image, layers[of])


def sites_of_chunk(space: FaultSpace, chunk: int) -> int:
    """The live sites of a chunk."""
    layers = live_layers(space)
    return sum(stratum.live for stratum in layers[chunk % len(layers)])


def live_layers(space: FaultSpace) -> list[list[Stratum]]:
    """The strata of each layer that have live sites."""
    live = (stratum for stratum in space.strata if stratum.live)
    return [list(strata) for _, strata in groupby(live, key=lambda stratum: stratum.layer)]
