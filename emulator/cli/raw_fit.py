"""The file of raw soft-error rates that --fit takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.array.fit import RawFit
    from emulator.array.spec import ArraySpec


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
