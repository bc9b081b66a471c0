"""Do two campaigns differ in nothing but the network?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emulator.campaign.manifest import differences
from emulator.campaign.results import Results
from emulator.choices import few
from emulator.errors import BadConfig


def check_alike(before: Results, after: Results) -> None:
    """Raises BadConfig for campaigns that differ in more than the network, naming what, or of which one goes through
    all sites, unless both do to the end."""
    everything = [results.sampler == "exhaustive" and not results.incomplete for results in (before, after)]
    for results in (before, after):
        if results.counted and not all(everything):
            raise BadConfig(
                f"{results.directory} goes through all sites by classes, and these are those of one network; allowed: "
                "two campaigns that draw, or two of the sampler exhaustive that are finished. Run it with importance."
            )
    # Where layers or sites differ of one array, registers and names, only their numbers tell.
    other = [*_unlike(before.manifest, after.manifest)] or [
        *_leaves(before.manifest, after.manifest, "layers"),
        *_leaves(before.manifest, after.manifest, "space"),
    ]
    if other:
        raise BadConfig(
            f"{before.directory} and {after.directory} differ in more than the network: {'; '.join(other)}; allowed: "
            "the same array, registers, layers and images. Run both alike."
        )


def _unlike(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    yield from _leaves(before, after, "array")
    if before["registers"] != after["registers"]:
        yield _names("registers", before["registers"], after["registers"])
    layers = [[layer["name"] for layer in manifest["layers"]] for manifest in (before, after)]
    if layers[0] != layers[1]:
        yield _names("layers", *layers)
    if before["inputs"]["sha256"] != after["inputs"]["sha256"]:
        yield _images(before["inputs"], after["inputs"])


def _leaves(before: dict[str, Any], after: dict[str, Any], key: str) -> list[str]:
    """The values that differ, in one text, or none."""
    found = differences({key: before[key]}, {key: after[key]})
    return [few([f"{name} is {first} before and {second} after" for name, first, second in found])] * bool(
        found
    )


def _names(what: str, before: list[str], after: list[str]) -> str:
    """Those of one side only; where there are none, they come in another order."""
    only = (
        few([name for name in one if name not in other]) for one, other in ((before, after), (after, before))
    )
    sides = [f"{names} only {side}" for names, side in zip(only, ("before", "after"), strict=True) if names]
    return f"{what}: {' and '.join(sides) or 'in another order'}"


def _images(before: dict[str, Any], after: dict[str, Any]) -> str:
    first, second = (f"{inputs['samples']} of {Path(inputs['path']).name}" for inputs in (before, after))
    if first == second:
        return f"images: {first} before and after, but not the same"
    return f"images: {first} before and {second} after"
