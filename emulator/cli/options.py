"""Options that several commands share, so that a flag means the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from emulator.cli import completion

Model = Annotated[Path, typer.Argument(help="int8 ONNX model, QDQ or QOperator", show_default=False)]
Inputs = Annotated[
    Path,
    typer.Option(
        "--inputs", help="npz: array named like the model's input, else `inputs`", show_default=False
    ),
]
Array = Annotated[
    str,
    typer.Option(
        "--array",
        help="array preset, or a .toml file of ArraySpec fields",
        autocompletion=completion.one_of("emulator.array.presets", "PRESETS"),
    ),
]
Registers = Annotated[
    str | None,
    typer.Option(
        "--registers",
        help="comma-separated, e.g. pe_b,accumulator; flip-flop or sram: all of that kind",
        show_default="all",
        autocompletion=completion.registers,
    ),
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
        "--engine",
        help="auto: the closed form where there is one; closed-form; cycle: clock by clock",
        autocompletion=completion.one_of("emulator.campaign.explain", "ASKABLE"),
    ),
]
SensitivityName = Annotated[
    str,
    typer.Option(
        "--sensitivity",
        help="gradient, or finite-difference",
        autocompletion=completion.one_of("emulator.sensitivity.jacobian", "Sensitivity"),
    ),
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        help="processes, auto, dask://HOST:PORT or dask-local",
        autocompletion=completion.words("auto", "dask-local", "dask://"),
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


def share(text: str, flag: str, *, none: bool = False) -> float:
    """`1%` or `0.01`; none: 0 may be too. Raises BadConfig, which names the flag."""
    from emulator.errors import BadConfig

    number = text.strip()
    try:
        found = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not (0 < found <= 1 or (none and found == 0)):
        least = "of 0" if none else "above 0"
        raise BadConfig(f"{flag} {text}; allowed: a share {least}, up to 100%, such as 5% or 0.05.")
    return found


def check_files(file: Path | None, figure: Path | None, *, given: Sequence[Path | None] = ()) -> None:
    """Raise before any work is done for nothing, or a file that is given is lost."""
    from emulator.errors import BadConfig
    from emulator.graph.overwriting import refuse_to_overwrite

    for path in (file, figure):
        if path is not None and not path.parent.is_dir():
            raise BadConfig(
                f"{str(path)!r}: {str(path.parent)!r} is not a folder. Create it, or choose another."
            )
        if path is not None:
            refuse_to_overwrite(path, given)
    if figure is not None:
        from emulator.report.figures.files import check_figure_path

        check_figure_path(figure)
