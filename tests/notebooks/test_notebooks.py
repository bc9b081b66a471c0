"""docs/notebooks: executed in order, of no particular machine, small; run again they say the same."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from executed import METADATA, NOTEBOOKS, code_cells, executed, texts

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

LINK = re.compile(r"\]\(([^)#]+)\)")
# Folders of a system that no sentence, and no relative path, begins with.
ABSOLUTE = re.compile(r"(?<![\w.<])/(?:home|root|tmp|work|usr|opt|var|Users|mnt|private)/")
LARGEST_PICTURE = 100_000


def read(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_there_is_one_for_each_story() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["hardening", "quantised_deployment", "resilience_study"]


@each_notebook
def test_it_was_executed_in_order_without_errors_or_warnings(path: Path) -> None:
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"execute_result", "display_data", "stream"}
    assert {output.name for output in outputs if output.output_type == "stream"} <= {"stdout"}


@each_notebook
def test_it_says_nothing_of_the_machine_it_ran_on(path: Path) -> None:
    notebook = read(path)
    assert dict(notebook.metadata) == METADATA
    said = [text for cell in code_cells(notebook) for text in texts(cell)]
    assert [text for text in said if ABSOLUTE.search(text) or " at 0x" in text] == []


@each_notebook
def test_it_begins_with_a_title_and_its_links_lead_somewhere(path: Path) -> None:
    words = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    assert read(path).cells[0].source.startswith("# ")
    assert [text for text in words[1:] if re.match(r"# ", text)] == []
    links = [link for text in words for link in LINK.findall(text)]
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


@each_notebook
def test_its_pictures_are_small(path: Path) -> None:
    outputs = [output for cell in code_cells(read(path)) for output in cell.outputs]
    pictures = [
        base64.b64decode(output.data["image/png"])
        for output in outputs
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    assert max(len(picture) for picture in pictures) < LARGEST_PICTURE


@pytest.mark.slow
@each_notebook
def test_run_again_it_says_the_same(path: Path) -> None:
    """The machine behind the committed outputs is another one, perhaps; the campaigns are not."""
    committed, again = code_cells(read(path)), code_cells(executed(path))
    for before, after in zip(committed, again, strict=True):
        assert list(texts(after)) == list(texts(before)), (
            f"{before.id}; tools/notebooks, if the change is meant"
        )
