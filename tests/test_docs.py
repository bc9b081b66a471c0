"""The site: it builds without a warning, the reference holds what is public, and what pages point to is there."""

from __future__ import annotations

import inspect
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import emulator as emu

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as tools/docs does, from nothing, where no network can be reached."""
    pytest.importorskip("sphinx", reason="needs tools/install docs")
    folder = tmp_path_factory.mktemp("site")
    nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "all")}
    (flags,) = re.findall(r"-m sphinx ((?:--[a-z-]+ )+)", (ROOT / "tools/docs").read_text("utf-8"))
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *flags.split(), ROOT / "docs", folder],
        env=os.environ | nowhere, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_a_page_for_every_source(site: Path) -> None:
    sources = [path for kind in ("*.md", "*.ipynb") for path in (ROOT / "docs").rglob(kind)]
    assert "docs/index.md" in {str(path.relative_to(ROOT)) for path in sources}
    missing = [
        path
        for path in sources
        if not (site / path.relative_to(ROOT / "docs")).with_suffix(".html").is_file()
    ]
    assert missing == []


@pytest.mark.slow
def test_the_commands_are_shown_with_their_options(site: Path) -> None:
    text = re.sub("<[^>]+>", "", (site / "reference/commands.html").read_text("utf-8"))
    for shown in ("emulator inject", "--until-ci", "emulator run model_int8.onnx --inputs test.npz"):
        assert shown in text


@pytest.mark.slow
def test_docstrings_are_shown_with_their_arguments_marked(site: Path) -> None:
    page = (site / "reference/python.html").read_text("utf-8")
    assert "<strong>calibrate</strong>: inputs with which a float model is quantised first" in page
    assert "dtype[" not in page


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs/reference/python.md").read_text("utf-8")
    shown = re.findall(r"^\.\. auto(?:class|function|exception):: emulator\.(\w+)$", text, re.MULTILINE)
    assert sorted(shown) == emu.__all__
    assert [name for name in shown if not inspect.getdoc(getattr(emu, name))] == []


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    linked = {link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if not link.startswith("http")}
    assert [link for link in linked if not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text)
    assert [
        name for name in named if not (ROOT / name).exists() and not (ROOT / "emulator" / name).exists()
    ] == []


def test_the_picture_is_small_enough_for_a_page() -> None:
    picture = (ROOT / "docs/report.png").read_bytes()
    width, _ = struct.unpack(">II", picture[16:24])
    assert width == 1200
    assert len(picture) < 300_000
