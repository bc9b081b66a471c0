"""Faults as people write them on a command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.array.groups import dead_column, dead_pe, dead_row
from emulator.array.spec import ArraySpec
from emulator.array.upset import FLIP, KINDS, Upset
from emulator.choices import did_you_mean, one_of
from emulator.errors import BadConfig
from emulator.faults.space import layer_index

EXAMPLE = 'Example: "layer=conv1 register=pe_b row=3 col=4 cycle=100 bit=7".'
EVERY_LAYER = "all"

_PLACE = ("register", "row", "col")
# A dead part: the function that makes its upsets, and the keys it takes.
_GROUPS: dict[str, tuple[Callable[..., tuple[Upset, ...]], tuple[str, ...]]] = {
    "dead-pe": (dead_pe, ("row", "col")),
    "dead-row": (dead_row, ("row",)),
    "dead-column": (dead_column, ("col",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Upsets that were named together: of MAC layer `layer`, or, where that is None, of every layer; text is what was
    written."""

    text: str
    layer: int | None
    layer_name: str | None
    upsets: tuple[Upset, ...]


def parse_fault(text: str, layers: list[str], array: ArraySpec) -> Named:
    """`layer=conv1 register=pe_b row=3 col=4 cycle=100 bit=7`; layer by name or index; bit=3,7 for several bits.

    kind=stuck-at-1 and until_cycle=120 for other than flips: these may be without cycle (from the start) and without
    layer, or with layer=all: they act in every layer then. `dead-pe row=3 col=4`, `dead-row row=3`, `dead-column col=4`
    are dead parts, with a layer or without. Raises BadConfig.
    """
    group, pairs = _tokens(text)
    layer = pairs.pop("layer", EVERY_LAYER)
    upsets = _group(text, group, pairs, array) if group else (_upset(text, pairs),)
    if layer != EVERY_LAYER:
        index = layer_index(layers, layer)
        return Named(text=text, layer=index, layer_name=layers[index], upsets=upsets)
    if any(upset.kind == FLIP for upset in upsets):
        raise BadConfig(
            f"fault {text!r}: a flip of every layer; allowed: one layer, a flip happens once. Add layer=, or "
            f"kind=stuck-at-0 or stuck-at-1. {EXAMPLE}"
        )
    return Named(text=text, layer=None, layer_name=None, upsets=upsets)


def _tokens(text: str) -> tuple[str | None, dict[str, str]]:
    """(the dead part's name, key=value pairs)."""
    words = text.split()
    group = words.pop(0) if words and "=" not in words[0] else None
    pairs: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not value or key in pairs:
            raise BadConfig(f"fault {text!r}: {word!r}; allowed: key=value, each key once. {EXAMPLE}")
        pairs[key] = value
    return group, pairs


def _group(text: str, name: str, pairs: dict[str, str], array: ArraySpec) -> tuple[Upset, ...]:
    if name not in _GROUPS:
        raise BadConfig(
            f"fault {text!r}: {name!r}; allowed: key=value, or first of all one of {', '.join(_GROUPS)}. "
            'Example: "dead-column col=4".'
        )
    make, keys = _GROUPS[name]
    if set(pairs) != set(keys):
        raise BadConfig(
            f"fault {text!r}: {_wrong(pairs, set(keys), set(keys))}; allowed for {name}: exactly {', '.join(keys)}, "
            "and layer. It is dead in every cycle."
        )
    return make(array, **{key: _whole(text, pairs[key]) for key in keys})


def _upset(text: str, pairs: dict[str, str]) -> Upset:
    kind = one_of(KINDS, pairs.get("kind", FLIP), f"fault {text!r}: kind")
    optional = {"kind", "until_cycle"} | ({"cycle"} if kind != FLIP else set())
    needed = {*_PLACE, "bit", "cycle"} - optional
    if not needed <= set(pairs) <= needed | optional:
        raise BadConfig(
            f"fault {text!r}: {_wrong(pairs, needed, needed | optional)}; allowed: layer, {', '.join(_PLACE)}, cycle, "
            f"bit, and where wanted kind and until_cycle; a stuck-at may do without layer and cycle. {EXAMPLE}"
        )
    return Upset(
        register=pairs["register"],
        row=_whole(text, pairs["row"]),
        col=_whole(text, pairs["col"]),
        bits=tuple(_whole(text, bit) for bit in pairs["bit"].split(",")),
        kind=kind,
        cycle=_whole(text, pairs.get("cycle", "0")),
        until_cycle=_whole(text, pairs["until_cycle"]) if "until_cycle" in pairs else None,
    )


def _wrong(pairs: dict[str, str], needed: set[str], allowed: set[str]) -> str:
    """What is too much and what is missing among the keys."""
    unknown = [f"no key {key!r}{did_you_mean(key, allowed)}" for key in pairs if key not in allowed]
    missing = sorted(needed - set(pairs))
    return "; ".join([*unknown, *([f"without {', '.join(missing)}"] if missing else [])])


def _whole(text: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise BadConfig(
            f"fault {text!r}: row, col, cycle, bit and until_cycle are whole numbers. {EXAMPLE}"
        ) from None
