"""Figures as files: every one that the report shows, the same each time, with fonts that publishers take."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.campaign.results import Results
from emulator.campaign.trials import HeldTrials
from emulator.errors import BadConfig
from emulator.report.gallery import FORMATS, gallery, write_figures
from emulator.report.html import render_report

MAGIC = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}


@pytest.fixture(scope="module")
def few(importance: Results) -> Results:
    return replace(importance, table=HeldTrials(importance.trials.head(1000)))


@pytest.fixture(scope="module")
def page(few: Results) -> str:
    return render_report(few)


@pytest.mark.parametrize("format", FORMATS)
def test_each_figure_of_the_report_is_a_file_the_same_each_time(
    format: str, few: Results, page: str, tmp_path: Path
) -> None:
    first, second = (write_figures(few, tmp_path / name, format) for name in ("a", "b/c"))
    assert len(first) == 6
    for file, again in zip(first, second, strict=True):
        assert f'id="figure-{file.stem}"' in page
        assert file.suffix == f".{format}"
        assert file.read_bytes().startswith(MAGIC[format])
        assert file.read_bytes() == again.read_bytes()


def test_a_pdf_has_no_type_3_fonts(few: Results, tmp_path: Path) -> None:
    for file in write_figures(few, tmp_path, "pdf"):
        objects = file.read_bytes()
        for stream in objects.split(b"stream\n")[1::2]:
            try:
                objects += zlib.decompress(stream)
            except zlib.error:
                continue
        assert b"/TrueType" in objects or b"/CIDFontType2" in objects
        assert b"/Type3" not in objects


def test_another_format_or_a_file_in_the_way_is_refused(importance: Results, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="pdf, svg, png"):
        write_figures(importance, tmp_path, "eps")
    (tmp_path / "a").touch()
    with pytest.raises(BadConfig, match="can't be created"):
        write_figures(importance, tmp_path / "a", "pdf")


def test_a_campaign_without_pe_registers_has_no_map(importance: Results) -> None:
    sums = importance.trials[importance.trials["register"] == "accumulator"]
    alone = replace(importance, table=HeldTrials(sums))
    assert gallery(importance).keys() - gallery(alone).keys() == {"map"}
