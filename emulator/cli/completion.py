"""What a shell offers for an option when Tab is pressed: presets, samplers, registers and other words of a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args

import typer

Complete = Callable[[], list[str]]


def one_of(module: str, name: str) -> Complete:
    """Completes to the words in `name` of `module`, a tuple, mapping or Literal; imported when Tab is pressed.

    Words that do not fit what is typed are left out by typer, here and below.
    """

    def complete() -> list[str]:
        from importlib import import_module

        found: Any = getattr(import_module(module), name)
        return list(get_args(found) or found)

    return complete


def words(*allowed: str) -> Complete:
    """Completes to these words."""

    def complete() -> list[str]:
        return list(allowed)

    return complete


def registers(ctx: typer.Context, incomplete: str) -> list[str]:
    """The last word of a list of registers, of the array that stands before it, else of the usual one."""
    from emulator.array.registers import inventory
    from emulator.campaign.config import load_array
    from emulator.errors import BadConfig

    try:
        spec = load_array(ctx.params.get("array") or "gemmini-16")
    except BadConfig:
        return []
    return _last(incomplete, ["flip-flop", "sram", *(entry.name for entry in inventory(spec))])


def techniques(incomplete: str) -> list[str]:
    """The last word of a list of techniques of protection, of those that come with the package."""
    from emulator.harden.techniques import read_techniques

    return _last(incomplete, read_techniques().techniques)


def _last(incomplete: str, allowed: Iterable[str]) -> list[str]:
    """A list with commas, and each word that it has not yet."""
    *before, _ = incomplete.split(",")
    return [",".join([*before, word]) for word in allowed if word not in before]
