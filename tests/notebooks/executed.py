"""The notebooks of docs/notebooks, and how they are executed: each in an empty folder, as by a new reader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs/notebooks").glob("*.ipynb"))

# All that a notebook says about who ran it: the same on every machine.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

FLOATS = "floats"
"""Tag of cells whose numbers follow from a training: floats, whose last bits differ from CPU to CPU."""


def executed(path: Path) -> Any:
    """The notebook with new outputs; raises CellExecutionError where a cell does."""
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        NotebookClient(
            notebook, resources=where, kernel_name="python3", timeout=900, record_timing=False
        ).execute()
    notebook.metadata = METADATA
    return notebook


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell: Any) -> Iterator[str]:
    """What a cell says in words, a text for each output and kind; of cells tagged FLOATS without the numbers."""
    for output in cell.outputs:
        said = {"stream": output.get("text")} | {
            kind: text for kind, text in output.get("data", {}).items() if kind.startswith("text/")
        }
        # Files hold the kinds by the alphabet, kernels send them as they please.
        for text in (said[kind] for kind in sorted(said) if said[kind]):
            yield _NUMBERS.sub("#", text) if FLOATS in cell.metadata.get("tags", []) else text


# With what stands around them: a table's columns are as wide as its numbers, True and False are as chance has it.
_NUMBERS = re.compile(r"[\s\d.,:+-]*\d[\s\d.,e:+-]*|\b(?:inf|nan|True|False)\b|-{2,}|\s+")
