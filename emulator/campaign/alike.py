"""What two campaigns differ in besides the network, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emulator.campaign.manifest import Manifest, differences
from emulator.choices import few

Sides = tuple[str, str]


def unlike(one: Manifest, other: Manifest, *, sides: Sides) -> list[str]:
    """Array, registers, layers and images that are not the same, with their values; none where the same faults can
    strike the same images. sides: what the two campaigns are called, e.g. before and after."""
    # Where layers or sites differ of one array, registers and names, only their numbers tell.
    return [*_parts(one, other, sides)] or [
        *_leaves(one, other, "layers", sides),
        *_leaves(one, other, "space", sides),
    ]


def _parts(one: Manifest, other: Manifest, sides: Sides) -> Iterator[str]:
    yield from _leaves(one, other, "array", sides)
    if one["registers"] != other["registers"]:
        yield _names("registers", one["registers"], other["registers"], sides)
    mine, yours = ([layer["name"] for layer in manifest["layers"]] for manifest in (one, other))
    if mine != yours:
        yield _names("layers", mine, yours, sides)
    if one["inputs"]["sha256"] != other["inputs"]["sha256"]:
        yield _images(one["inputs"], other["inputs"], sides)


def _leaves(one: Manifest, other: Manifest, key: str, sides: Sides) -> list[str]:
    """The values that differ, in one text, or none."""
    found = differences({key: one[key]}, {key: other[key]})
    values = [f"{name} is {first} {sides[0]} and {second} {sides[1]}" for name, first, second in found]
    return [few(values)] if values else []


def _names(what: str, one: list[str], other: list[str], sides: Sides) -> str:
    """Those of one side only; where there are none, they come in another order."""
    only = (few([name for name in mine if name not in yours]) for mine, yours in ((one, other), (other, one)))
    told = [f"{names} only {side}" for names, side in zip(only, sides, strict=True) if names]
    return f"{what}: {' and '.join(told) or 'in another order'}"


def _images(one: Manifest, other: Manifest, sides: Sides) -> str:
    first, second = (f"{inputs['samples']} of {Path(inputs['path']).name}" for inputs in (one, other))
    if first == second:
        return f"images: {first} {sides[0]} and {sides[1]}, but not the same"
    return f"images: {first} {sides[0]} and {second} {sides[1]}"
