"""Options that several commands share, so that a flag means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Argument(help="int8 ONNX model, QDQ or QOperator", show_default=False)]
Inputs = Annotated[
    Path,
    typer.Option(
        "--inputs", help="npz: array named like the model's input, else `inputs`", show_default=False
    ),
]
Array = Annotated[str, typer.Option("--array", help="array preset, or a .toml file of ArraySpec fields")]
Registers = Annotated[
    str | None, typer.Option("--registers", help="comma-separated, e.g. pe_b,accumulator", show_default="all")
]
Layers = Annotated[
    str | None, typer.Option("--layers", help="comma-separated names or indices", show_default="all")
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="use the first N images", show_default="all")
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine", help="auto: the closed form where there is one; closed-form; cycle: clock by clock"
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="seed of every random choice")]
Shape = Annotated[
    list[str] | None,
    typer.Option("--shape", help="NAME=1,3,224,224 where an input has free dimensions; repeatable"),
]
Answer = Annotated[
    str | None,
    typer.Option(
        "--answer", help="output that is the answer", show_default="the first of several real numbers"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout")]
ModelNow = Annotated[
    Path | None, typer.Option("--model", help="where the model is now", show_default="as recorded")
]
InputsNow = Annotated[
    Path | None, typer.Option("--inputs", help="where the data is now", show_default="as recorded")
]
Directory = Annotated[Path, typer.Argument(help="directory of a campaign", show_default=False)]


def split(text: str | None) -> list[str] | None:
    """`a,b` to ["a", "b"]; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
