"""What a command is given is not what it may write over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from emulator.errors import BadConfig
from emulator.graph.onnx_file import files_beside


def refuse_to_overwrite(output: Path, given: Iterable[object]) -> None:
    """Raises BadConfig where `output` is one of the files among `given`, under whatever name, or one in which a model
    among them keeps its tensors: they would be lost.

    given: models and data as a command takes them; what is no path is no file. Other files are replaced.
    """
    if not output.exists():
        return
    paths = [Path(each) for each in given if isinstance(each, str | Path)]
    for path in [
        *paths,
        *(beside for each in paths if each.suffix == ".onnx" for beside in files_beside(each)),
    ]:
        if path.exists() and os.path.samefile(output, path):
            raise BadConfig(
                f"output {str(output)!r} is the file {str(path)!r} that is read; allowed: any other file. "
                "Choose another name."
            )
