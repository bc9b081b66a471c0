"""What a command is given is not what it may write over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from emulator.errors import BadConfig


def refuse_to_overwrite(output: Path, given: Iterable[object]) -> None:
    """Raises BadConfig where `output` is one of the files among `given`, under whatever name: they would be lost.

    given: models and data as a command takes them; what is no path is no file. Other files are replaced.
    """
    for path in (Path(each) for each in given if isinstance(each, str | Path)):
        if output.exists() and path.exists() and os.path.samefile(output, path):
            raise BadConfig(
                f"output {str(output)!r} is the file {str(path)!r} that is read; allowed: any other file. "
                "Choose another name."
            )
