"""What a notebook shows: read by an HTML parser, compared with what the objects say of themselves."""

from __future__ import annotations

from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import emulator as emu
from emulator.notebook import titled_table


class Page(HTMLParser):
    """The title, the header and the rows of one table; anything else than its tags is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.title, self.more = "", ""
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in {"p", "b", "table", "thead", "tbody", "tr", "th", "td"} and not attrs
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "b" in self.open:
            self.title += data
        elif self.open[-1:] == ["p"]:
            self.more += data
        else:
            self.rows[-1][-1] += data


def shown(value: Any) -> Page:
    return Page(value._repr_html_())


def test_a_network_shows_its_layers(digits: Any) -> None:
    page = shown(digits.network)
    assert page.title == repr(digits.network)
    assert "3 MAC layers" in page.title
    assert [row[0] for row in page.rows] == ["layer", "0 conv1", "1 conv2", "2 fc"]
    assert sum(int(row[-1].replace(",", "")) for row in page.rows[1:]) == digits.network.graph.macs


def test_an_array_shows_its_fields_with_the_names_of_its_repr() -> None:
    spec = emu.ArraySpec.preset("gemmini-16")
    page = shown(spec)
    assert [row[0] for row in page.rows[1:]] == [field.name for field in fields(spec)]
    assert all(f"{name}=" in repr(spec) for name, _ in page.rows[1:])
    assert ["acc_rows", "1,024"] in page.rows
    assert ["clock_hz", "1e+09"] in page.rows


def test_a_fault_space_shows_the_sites_of_each_layer(digits: Any) -> None:
    space = emu.FaultSpace(digits.network, digits.array)
    page = shown(space)
    assert page.title == repr(space)
    for column, total in ((2, space.size), (3, space.live)):
        assert sum(int(row[column].replace(",", "")) for row in page.rows[1:]) == total
    assert page.rows[1][4].endswith(" %")


def test_results_show_the_rates_of_layers_and_of_the_whole(digits: Any, tmp_path: Path) -> None:
    space = emu.FaultSpace(digits.network, digits.array, registers=["accumulator"])
    campaign = emu.Campaign(
        digits.network, digits.array, space, inputs=digits.inputs[:3], stop=emu.max_trials(200)
    )
    results = campaign.collect(tmp_path, workers=1)
    page = shown(results)
    assert page.title == repr(results) and "200 trials" in page.title
    assert page.rows[-2:] == [
        ["all layers", str(results.rate())],
        ["whole population", str(results.population_rate())],
    ]
    assert [row[0] for row in page.rows[1:-2]] == list(
        results.trials["layer_name"].drop_duplicates().sort_values()
    )


def test_a_check_shows_its_verdict_and_its_layers(digits: Any) -> None:
    report = emu.check(digits.network, digits.array, digits.data, limit=2)
    page = shown(report)
    assert page.title == repr(report)
    assert "ok: 6 of 6 tensors equal" in page.title
    given, *cells = [dict(zip(page.rows[0], row, strict=True)) for row in page.rows[1:]]
    assert given["layer"] == "input input"
    assert [row["layer"] for row in cells] == ["conv1", "conv2", "fc"]
    assert [int(row["cycles"].replace(",", "")) for row in cells] == [x["cycles"] for x in report.layers]
    assert all(row["acc bits"].endswith(f" of {digits.array.acc_bits}") for row in cells)


def test_nothing_shown_of_a_network_depends_on_where_it_lies(digits: Any) -> None:
    assert str(digits.path.parent) in digits.network.path
    assert str(digits.path.parent) not in repr(digits.network)


def test_names_are_escaped() -> None:
    page = shown(replace(emu.ArraySpec(), name="<script>alert('&')</script>"))
    assert "<script>" in page.title
    assert ["name", "<script>alert('&')</script>"] in page.rows


@pytest.mark.parametrize(("rows", "more"), [(20, ""), (25, "and 5 more")])
def test_long_tables_are_cut(rows: int, more: str) -> None:
    page = Page(titled_table("title", ["a"], [[i] for i in range(rows)]))
    assert len(page.rows) == 21
    assert page.more == more
