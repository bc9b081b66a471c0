"""What a shell offers for an option when Tab is pressed: presets, samplers, registers and other words of a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args

import typer

Complete = Callable[[str], list[str]]


def one_of(module: str, name: str) -> Complete:
    """Completes to the words in `name` of `module`, a tuple, mapping or Literal; imported when Tab is pressed."""

    def complete(incomplete: str) -> list[str]:
        return _starting(incomplete, _words(module, name))

    return complete


def several_of(module: str, name: str) -> Complete:
    """The same of a list with commas: its last word."""

    def complete(incomplete: str) -> list[str]:
        return _last(incomplete, _words(module, name))

    return complete


def words(*allowed: str) -> Complete:
    """Completes to these words."""

    def complete(incomplete: str) -> list[str]:
        return _starting(incomplete, allowed)

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
    return _last(incomplete, [entry.name for entry in inventory(spec)])


def techniques(incomplete: str) -> list[str]:
    """The last word of a list of techniques of protection, of those that come with the package."""
    from emulator.harden.techniques import read_techniques

    return _last(incomplete, read_techniques().techniques)


def _words(module: str, name: str) -> Iterable[str]:
    from importlib import import_module

    found: Any = getattr(import_module(module), name)
    return get_args(found) or list(found)


def _starting(incomplete: str, allowed: Iterable[str]) -> list[str]:
    return [word for word in allowed if word.startswith(incomplete)]


def _last(incomplete: str, allowed: Iterable[str]) -> list[str]:
    *before, last = incomplete.split(",")
    given = set(before)
    return [",".join([*before, word]) for word in allowed if word.startswith(last) and word not in given]
