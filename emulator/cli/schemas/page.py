"""The answers as a Markdown page: a table of keys for each, and one for each part that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from emulator.cli.schemas.registry import ANSWERS

Facts = dict[str, Any]
_REF = "#/$defs/"
_PLAIN = {
    "number": "number",
    "integer": "integer",
    "string": "string",
    "boolean": "true or false",
    "null": "null",
}

_HEAD = """\
# What --json prints

<!-- Made by: emulator schema > docs/json.md -->

Standard output is exactly one JSON object; everything else goes to standard error. `emulator schema COMMAND --json`
has the same as JSON Schema. Keys are there always, but for those marked *optional*.

A command that fails prints `{"error": "what, and how to fix it", "exit_code": 2}` in its place; one that is used
wrongly (an unknown option, a word where a number belongs) only says so on standard error.
"""


def page(commands: Sequence[str]) -> str:
    """The answers of these commands, then what they are made of, each part once."""
    models = [model for command in commands for model in ANSWERS[command]]
    known = models_json_schema([(model, "validation") for model in models])[1]["$defs"]
    names = {model.__name__ for model in models}
    lines = [_HEAD]
    for command in commands:
        lines.append(f"## emulator {command}\n")
        lines += [_section(model.__name__, known[model.__name__]) for model in ANSWERS[command]]
    parts = [_section(name, facts) for name, facts in sorted(known.items()) if name not in names]
    return "\n".join([*lines, *(["## Parts\n", *parts] if parts else [])])


def _section(name: str, facts: Facts) -> str:
    rows = [
        f"| `{key}` | {_type(of)}{'' if key in facts.get('required', ()) else ', *optional*'} | {_meaning(of)} |"
        for key, of in facts.get("properties", {}).items()
    ]
    table = ["", "| key | type | meaning |", "|---|---|---|", *rows] if rows else []
    return "\n".join([f"### {name}\n", facts.get("description", ""), *table, ""])


def _meaning(facts: Facts) -> str:
    return " ".join(str(facts.get("description", "")).split())


def _type(facts: Facts) -> str:
    """In words, with links to the parts."""
    match facts:
        case {"$ref": reference}:
            name = reference.removeprefix(_REF)
            return f"[{name}](#{name.lower()})"
        case {"anyOf": choices}:
            return " or ".join(_type(choice) for choice in choices)
        case {"enum": words}:
            return ", ".join(f'"{word}"' for word in words)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"object of {_type(values)}"
        case {"type": "object"}:
            return "object"
    return _PLAIN[facts["type"]]
