"""What the faults of a campaign come from, as its manifest counts it: sites, live ones, and those that are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from emulator.errors import BadConfig

T = TypeVar("T")
Group = tuple[Any, ...]

COUNTED_KEYS = ("layer", "register")
"""The manifest counts the sites of groups by these."""
_ENTRY = {"layer": "layer_name", "register": "register"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """manifest: that of the campaign. chunks: those that are stored; of use where each is an image and layer."""

    manifest: dict[str, Any]
    chunks: Sequence[int]

    @property
    def size(self) -> int:
        """Register bits x cycles of one input."""
        return int(self.manifest["space"]["size"])

    @property
    def live(self) -> int:
        """Those that can reach a written result; the rest is masked by construction."""
        return int(self.manifest["space"]["live"])

    @property
    def images(self) -> int:
        return int(self.manifest["inputs"]["samples"])

    def sites_by(self, names: list[str]) -> dict[Group, tuple[int, int]]:
        """(sites, live) of each group, in network order; names: COUNTED_KEYS."""
        sites: dict[Group, tuple[int, int]] = {}
        for entry in self.manifest["space"]["breakdown"]:
            key = tuple(entry[_ENTRY[name]] for name in names)
            total, live = sites.get(key, (0, 0))
            sites[key] = (total + int(entry["sites"]), live + int(entry["live"]))
        return self.in_order(names, sites)

    def of_group(self, names: list[str], group: Group) -> tuple[int, int]:
        """The live sites of a group over all images, and how many of them lie in chunks that are done. Raises BadConfig
        where they can't be counted before they have been judged."""
        if not set(names) <= {*COUNTED_KEYS, "input_id"}:
            raise BadConfig(
                f"group by {names}: unknown how many sites belong to a group until all are judged; allowed here: "
                "layer, register, input_id. Finish the campaign, or judge every site (sampler exhaustive)."
            )
        wanted = dict(zip(names, group, strict=True))
        population = covered = 0
        for entry in self.manifest["space"]["breakdown"]:
            if any(entry[_ENTRY[name]] != wanted[name] for name in COUNTED_KEYS if name in wanted):
                continue
            images = self._done.get(entry["layer"], set())
            if "input_id" in wanted:
                images = images & {int(wanted["input_id"])}
            population += int(entry["live"]) * (1 if "input_id" in wanted else self.images)
            covered += int(entry["live"]) * len(images)
        return population, covered

    @cached_property
    def _done(self) -> dict[int, set[int]]:
        """For each layer with live sites, the images that are done."""
        layers = list(dict.fromkeys(e["layer"] for e in self.manifest["space"]["breakdown"] if e["live"]))
        done: dict[int, set[int]] = {layer: set() for layer in layers}
        for chunk in self.chunks:
            image, of = divmod(chunk, len(layers))
            done[layers[of]].add(image)
        return done

    @property
    def all_done(self) -> bool:
        """Has a campaign that goes through all images and layers come to its end?"""
        return all(len(images) == self.images for images in self._done.values())

    def in_order(self, names: list[str], groups: dict[Group, T]) -> dict[Group, T]:
        """Layers as they run, registers as in the inventory, other keys ascending."""
        places = {
            "layer": {entry["name"]: i for i, entry in enumerate(self.manifest["layers"])},
            "register": {name: i for i, name in enumerate(self.manifest["registers"])},
        }
        ranks = [places.get(name, {}) for name in names]
        order = sorted(
            groups,
            key=lambda key: [
                rank.get(part, len(rank)) if rank else part for rank, part in zip(ranks, key, strict=True)
            ],
        )
        return {key: groups[key] for key in order}
