"""Raw soft-error rates: --fit-per-mbit and --fit, and the file that --fit takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli.terminal import NOTHING, was_given

if TYPE_CHECKING:
    from emulator.array.fit import RawFit
    from emulator.array.spec import ArraySpec

PerMbit = Annotated[
    float, typer.Option(min=0, help="raw upsets of every stored bit, FIT per Mbit: that of your process")
]
File = Annotated[
    Path | None,
    typer.Option(
        help="in its place a .toml of raw FIT per Mbit: flip-flop, sram, register names",
        show_default=NOTHING,
    ),
]


def chosen(context: typer.Context, directory: Path, fit_per_mbit: float, fit: Path | None) -> RawFit:
    """What both options of a command say of a campaign's array; BadParameter where both are given."""
    from emulator.array.fit import RawFit
    from emulator.array.spec import ArraySpec
    from emulator.campaign.manifest import read_manifest

    if fit is None:
        return RawFit.of_all(fit_per_mbit)
    if was_given(context, "fit_per_mbit"):
        raise typer.BadParameter("not with --fit-per-mbit; give one of them", param_hint="--fit")
    return read_raw_fit(fit, ArraySpec(**read_manifest(directory)["array"]))


def read_raw_fit(path: Path, spec: ArraySpec) -> RawFit:
    """The raw rates of this array's registers in a TOML file; BadConfig if it can't be read or names others."""
    import tomllib

    from emulator.array.fit import RawFit
    from emulator.array.registers import inventory
    from emulator.errors import BadConfig

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"FIT file {str(path)!r} can't be read: {error}. Give a TOML file.") from error
    return RawFit.from_table(values, [entry.name for entry in inventory(spec)])
