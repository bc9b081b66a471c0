"""The report: complete, self-contained, reproducible; figures are pure functions of results."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import PNGFormatter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emulator.array.fit import RawFit
from emulator.campaign.bit_avf import avf_by_bit
from emulator.campaign.fit_by_group import fit_by
from emulator.campaign.ranked_groups import MEASURED_SPAN
from emulator.campaign.results import Results
from emulator.campaign.trials import HeldTrials
from emulator.errors import BadConfig, BadData
from emulator.report.figures import canvas
from emulator.report.figures.convergence import convergence
from emulator.report.figures.masking import masking_funnel
from emulator.report.figures.pe_map import pe_heat_map
from emulator.report.figures.rates import MOST_ROWS, avf_by
from emulator.report.html import TOP_FAULTS, TOP_GROUPS, render_report, write_report

Draw = Callable[..., Axes]
FIGURES: dict[str, Draw] = {
    "map": pe_heat_map,
    "layer": partial(avf_by, key="layer"),
    "register": partial(avf_by, key="register"),
    "bit": partial(avf_by, key="bit"),
    "funnel": masking_funnel,
    "convergence": convergence,
}


class Page(HTMLParser):
    """Rows of each table's body, and every attribute and id of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, int] = {}
        self.attributes: list[tuple[str, str]] = []
        self.table, self.in_body = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "table":
            self.table = str(dict(attrs)["id"])
            self.rows[self.table] = 0
        self.in_body = tag == "tbody" or (self.in_body and tag != "thead")
        if tag == "tr" and self.in_body:
            self.rows[self.table] += 1

    def handle_endtag(self, tag: str) -> None:
        self.in_body = self.in_body and tag != "tbody"


def svg_of(axes: Axes) -> str:
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "test"}):
        axes.get_figure(root=True).savefig(file, format="svg", metadata={"Date": None})  # type: ignore[union-attr]
    return file.getvalue()


def without_events(results: Results) -> Results:
    return replace(results, table=HeldTrials(results.trials.assign(sdc1=False, sdc5=False, tie=False)))


def test_registers_with_raw_rates_of_their_own_add_up_to_the_fit(uniform: Results) -> None:
    """Against a sum over single registers: bits x raw rate x AVF."""
    raw = RawFit(flip_flop_fit_per_mbit=30, sram_fit_per_mbit=10, by_register=(("pe_c1", 0.0), ("pe_a", 7.0)))
    frame = uniform.summary("register").set_index("register")
    bits = frame["sites"] / uniform.space_size * uniform.register_bits
    rate = {"accumulator": 10, "pe_a": 7, "pe_c1": 0}
    one_by_one = sum(bits[name] * rate.get(name, 30) / 1e6 * frame["avf"][name] for name in frame.index)
    found = uniform.fit(raw)
    assert found.value == pytest.approx(one_by_one, rel=0.05)
    assert found.low < found.value < found.high
    alike = RawFit(flip_flop_fit_per_mbit=20, sram_fit_per_mbit=20)
    assert uniform.fit(alike) == uniform.fit(20)
    page = render_report(uniform, fit_per_mbit=raw)
    assert "flip-flops 30, SRAM 10, pe_c1 0, pe_a 7 FIT/Mbit raw" in page
    assert f"{found.value:.2g}"[:3] in page


@pytest.fixture(scope="session")
def page(importance: Results) -> str:
    return render_report(importance)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_a_pure_function(name: str, importance: Results) -> None:
    draw = FIGURES[name]
    before, settings = importance.trials.copy(), dict(mpl.rcParams)
    assert svg_of(draw(importance)) == svg_of(draw(importance))
    pd.testing.assert_frame_equal(importance.trials, before)
    assert dict(mpl.rcParams) == settings


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_draws_on_given_axes_with_labels(name: str, importance: Results) -> None:
    axes = Figure().add_subplot()
    assert FIGURES[name](importance, ax=axes) is axes
    assert axes.get_xlabel()
    assert any("%" in text for text in (axes.get_xlabel(), axes.get_ylabel())) or name == "map"


def test_a_notebook_shows_a_figure_as_a_picture_on_white(importance: Results) -> None:
    """As IPython does: the formatter asks the object, and takes data and metadata."""
    formatter = PNGFormatter()
    axes = avf_by(importance)
    data, metadata = formatter(axes)
    picture = mpl.image.imread(io.BytesIO(data), format="png")
    assert picture[0, 0].tolist() == [1, 1, 1, 1]
    assert metadata["width"] * 1.4 < picture.shape[1] < 100 * axes.get_figure(root=True).get_figwidth() * 2  # type: ignore[union-attr]
    assert formatter(avf_by(importance))[0] == data


@pytest.mark.parametrize("name", FIGURES)
def test_no_label_leaves_the_figure(name: str, importance: Results) -> None:
    axes = FIGURES[name](importance)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= -0.01 and drawn.x1 <= width + 0.01
    assert drawn.y0 >= -0.01 and drawn.y1 <= height + 0.01


def _with_a_weak_corner(results: Results) -> Results:
    """Above and right in the array a quarter of the faults changes the answer."""
    trials = results.trials
    corner = (trials["row"] < 8) & (trials["col"] >= 8) & (trials["trial_id"] % 4 == 0)
    return replace(results, table=HeldTrials(trials.assign(sdc1=trials["sdc1"] | corner)))


def test_the_heat_map_shows_the_rate_of_each_pe(uniform: Results) -> None:
    weak = _with_a_weak_corner(uniform)
    trials = weak.trials
    axes = pe_heat_map(weak)
    assert "typical cell" in axes.get_title()
    image = axes.images[0].get_array()
    assert image is not None
    block = 16 // image.shape[0]
    struck = trials[trials["register"].astype(str).str.startswith("pe_")]
    corner = struck[(struck["row"] // block == 0) & (struck["col"] // block == 1)]
    assert image[0, 1] == pytest.approx(100 * corner["sdc1"].mean())


def test_pes_that_cannot_be_told_apart_have_one_colour_and_the_map_says_so(uniform: Results) -> None:
    """The same faults, wherever in the array; then few of those that do differ."""
    rng = np.random.default_rng(3)
    anywhere = uniform.trials.assign(sdc1=rng.permutation(uniform.trials["sdc1"].to_numpy()))
    for trials in (anywhere, _with_a_weak_corner(uniform).trials.head(100)):
        axes = pe_heat_map(replace(uniform, table=HeldTrials(trials)))
        (image,) = axes.images
        assert np.asarray(image.get_array()).shape == (1, 1)
        struck = trials[trials["register"].astype(str).str.startswith("pe_")]
        assert float(np.asarray(image.get_array())[0, 0]) == pytest.approx(100 * struck["sdc1"].mean())
        assert "can't be told apart" in axes.get_title()
        assert len(axes.get_figure(root=True).axes) == 1  # type: ignore[union-attr]


def test_the_heat_map_needs_a_pe_register(importance: Results) -> None:
    sums = importance.trials[importance.trials["register"] == "accumulator"]
    alone = replace(importance, table=HeldTrials(sums))
    with pytest.raises(BadData, match="--registers"):
        pe_heat_map(alone)
    assert 'id="figure-map"' not in render_report(alone)


def _drawn(axes: Axes) -> np.ndarray:
    """The points of a figure, (points, 2)."""
    return np.asarray(axes.collections[1].get_offsets())


@pytest.mark.parametrize("key", ["layer", "register"])
def test_a_point_is_the_avf_of_its_row(key: Any, uniform: Results) -> None:
    axes = avf_by(uniform, key=key)
    frame = uniform.summary(by=[key])
    rows = {text.get_text(): place for place, text in enumerate(axes.get_yticklabels())}
    # In network order, not by rate.
    assert list(rows) == list(frame[key])
    for name, avf in zip(frame[key], frame["avf"], strict=True):
        assert _drawn(axes)[rows[name]] == pytest.approx((100 * avf, rows[name]))


def test_a_point_is_the_avf_of_its_bit(importance: Results) -> None:
    points = _drawn(avf_by(importance, key="bit"))
    found = avf_by_bit(importance)
    assert points == pytest.approx(np.array([(bit, 100 * e.value) for bit, e in found.items()]))


def test_of_many_rows_those_with_most_sdc1_are_drawn(uniform: Results) -> None:
    names = [f"layer{i}" for i in range(MOST_ROWS + 5)]
    silent = set(names[3:8])
    layer = np.array(names)[np.arange(len(uniform)) % len(names)]
    entries = uniform.manifest["space"]["breakdown"]
    even = [{**entries[0], "layer_name": name, "sites": 10, "live": 5} for name in names]
    manifest = {
        **uniform.manifest,
        "space": {"size": 10 * len(names), "live": 5 * len(names), "breakdown": even},
        "layers": [{"name": name} for name in names],
    }
    trials = uniform.trials.assign(layer_name=layer, sdc1=[name not in silent for name in layer])
    axes = avf_by(replace(uniform, manifest=manifest, table=HeldTrials(trials)))
    assert [text.get_text() for text in axes.get_yticklabels()] == [n for n in names if n not in silent]


def test_avfs_that_lie_far_apart_are_drawn_on_a_log_scale_with_hollow_zeros(uniform: Results) -> None:
    register = uniform.trials["register"].astype(str)
    trials = uniform.trials.assign(sdc1=(register == "pe_c1") & (np.arange(len(register)) % 2 == 0))
    far = [
        {**entry, "sites": entry["live"] if entry["register"] == "pe_c1" else 50 * entry["sites"]}
        for entry in uniform.manifest["space"]["breakdown"]
    ]
    size = sum(entry["sites"] for entry in far)
    manifest = {**uniform.manifest, "space": {**uniform.manifest["space"], "size": size, "breakdown": far}}
    axes = avf_by(replace(uniform, manifest=manifest, table=HeldTrials(trials)), key="register")
    assert axes.get_xscale() == "log"
    edge, colours = axes.get_xlim()[0], axes.collections[1].get_facecolors()
    for (x, _), text, colour in zip(_drawn(axes), axes.get_yticklabels(), colours, strict=True):
        hollow = tuple(colour[:3]) == (1, 1, 1)
        assert hollow == (text.get_text() != "pe_c1") == (x == edge)
    assert avf_by(uniform).get_xscale() == "linear"


def test_the_rate_in_fit_is_raw_rate_times_bits_times_avf(importance: Results) -> None:
    # Rows x columns x width; pe_b and pe_d are 8 bits wide in row 0.
    bits = 256 * 8 + 2 * (16 * 8 + 240 * 20) + 2 * 256 * 32 + 1024 * 16 * 32
    assert f"{bits / 1e6:.3g}" == "0.553"
    avf = importance.population_rate()
    fit = importance.fit(20)
    assert fit == pytest.approx([20 * bits / 1e6 * rate for rate in (avf.value, avf.low, avf.high)])
    assert str(fit) == f"{fit.value:.2e} [{fit.low:.2e}, {fit.high:.2e}] FIT"
    for raw, page in ((20, render_report(importance)), (500, render_report(importance, fit_per_mbit=500))):
        (cell,) = re.findall(r"at (\d+) FIT/Mbit raw</p>\s*<p class=.big.>([\d.]+) <small>FIT</small>", page)
        assert cell[0] == str(raw)
        assert float(cell[1]) == pytest.approx(raw * bits / 1e6 * avf.value, rel=0.05)
        low, high = re.findall(r"interval ([\d.]+) to ([\d.]+)\s*</p>", page)[0]
        assert float(low) == pytest.approx(raw * bits / 1e6 * avf.low, rel=0.05)
        assert float(high) == pytest.approx(raw * bits / 1e6 * avf.high, rel=0.05)
        assert "0.553 Mbit" in page
    with pytest.raises(BadConfig, match="0 or more"):
        render_report(importance, fit_per_mbit=-1)


def test_avf_by_an_unknown_key_are_refused(importance: Results) -> None:
    with pytest.raises(BadConfig, match="allowed"):
        avf_by(importance, key="tile")  # type: ignore[arg-type]


def test_the_answer_comes_first_with_interval_and_trials(page: str, importance: Results) -> None:
    first = page[: page.index("<table")]
    for rate in (importance.population_rate(), importance.rate()):
        value, low, high = rate.percent()
        assert f"{value} <small>%</small>" in first
        assert f"95 % interval {low} to {high} %" in first
    assert "n = 20\u202f000" in first


def test_the_page_loads_nothing(page: str) -> None:
    for name, value in Page(page).attributes:
        if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            assert value.startswith(("#", "data:image/png;base64,")), (name, value[:60])
    assert (
        not re.search(r"url\((?!#)", page)
        and "@import" not in page
        and "http" not in page.split("<svg")[0][page.index("<title") :]
    )


def test_every_table_is_complete(page: str, importance: Results) -> None:
    groups = len(importance.summary())
    assert Page(page).rows == {
        "protect": min(groups, TOP_GROUPS),
        "critical": min(int(importance.trials["sdc1"].sum()), TOP_FAULTS),
        "masked": 6,
    }
    assert f"{groups - TOP_GROUPS} more rows" in page


def test_every_critical_fault_has_its_command(page: str, importance: Results) -> None:
    for fault_id in importance.critical(TOP_FAULTS)["fault_id"]:
        assert f"emulator replay {importance.directory} {fault_id}</code>" in page


def test_every_figure_is_inline_well_formed_and_has_its_own_ids(page: str) -> None:
    svgs = re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL)
    assert len(svgs) == len(FIGURES)
    for svg in svgs:
        ElementTree.fromstring(svg)
        assert canvas.INK not in svg and "var(--ink)" in svg
    ids = [value for name, value in Page(page).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = {value[1:] for name, value in Page(page).attributes if name == "href" and value[0] == "#"}
    used |= set(re.findall(r"url\(#([^)]*)\)", page))
    assert used <= set(ids)


def test_equal_results_give_equal_bytes(page: str, importance: Results) -> None:
    assert render_report(Results.open(importance.directory)) == page


def test_a_comparison_draws_the_other_campaign(importance: Results, uniform: Results) -> None:
    assert "uniform (compared)" in render_report(importance, uniform)
    assert "(computed)" in render_report(importance)


def _protect_rows(page: str) -> list[tuple[bool, list[str]]]:
    """(grey?, cells) of each row of the table of what to protect."""
    table = page.split('<table id="protect">')[1].split("</table>")[0]
    rows = re.findall(r"<tr( class=.unmeasured.)?>(.*?)</tr>", table.split("<tbody>")[1], re.DOTALL)
    texts = [(bool(grey), re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)) for grey, row in rows]
    return [(grey, [re.sub(r"<.*?>", "", cell).strip() for cell in cells]) for grey, cells in texts]


def test_a_row_of_one_trial_does_not_lead_though_its_estimate_is_the_largest(importance: Results) -> None:
    """One heavy trial where about one was to be expected, against light ones elsewhere."""
    lone = ("fc1", "pe_a")
    trials = importance.trials.head(2000)
    inside = (trials["layer_name"] == lone[0]) & (trials["register"] == lone[1])
    light = trials["sdc1"] & (np.exp(trials["log_weight"]) < 0.35)
    kept = trials.assign(sdc1=inside | light)[~inside | (np.cumsum(inside) == 1)]
    kept = kept.assign(log_weight=kept["log_weight"].where(~inside, 1.0))
    results = replace(importance, table=HeldTrials(kept))
    frame = results.summary().set_index(["layer", "register"])
    assert frame.loc[lone, "n"] == 1
    assert frame["share"].idxmax() == lone
    rows = _protect_rows(render_report(results))
    assert (rows[0][1][0], rows[0][1][1]) != lone
    assert [grey for grey, cells in rows if (cells[0], cells[1]) == lone] == [True]


def test_rows_are_ranked_by_what_the_trials_prove_and_grey_where_they_prove_little(
    importance: Results,
) -> None:
    frame = importance.summary().set_index(["layer", "register"])
    expected_events = frame["sites"] * frame["avf_low"]
    shown = _protect_rows(render_report(importance))
    proven = [float(expected_events[cells[0], cells[1]]) for _, cells in shown]
    total = float((frame["sites"] * frame["avf"].fillna(0)).sum())
    for first, second in pairwise(proven):
        assert second <= first + 0.001 * total
    for grey, cells in shown:
        row = frame.loc[(cells[0], cells[1])]
        assert grey == (row["avf_high"] > MEASURED_SPAN * row["avf_low"])
    assert {grey for grey, _ in shown} == {True, False}
    shares = [float(cells[2].split()[0]) for _, cells in shown]
    sums = [float(cells[3].split()[0]) for _, cells in shown]
    assert sums == pytest.approx(np.cumsum(shares), abs=0.05 * len(shares))


def test_where_raw_rates_differ_rows_are_ranked_by_their_part_of_sdc_fit(importance: Results) -> None:
    even = render_report(importance)
    first = _protect_rows(even)[0][1][1]
    page = render_report(importance, fit_per_mbit=RawFit(by_register=((first, 0.0),)))
    rows = [cells for _, cells in _protect_rows(page)]
    assert (
        f"left out, with raw rate 0: {first}" in page
        and "These raw rates do not spread upsets evenly" in page
    )
    assert first not in [cells[1] for cells in rows]
    # One register a thousand times as often upset as the others leads, and has nearly all of it.
    last = rows[-1][1]
    heavy = RawFit(flip_flop_fit_per_mbit=0.001, sram_fit_per_mbit=0.001, by_register=((last, 1e6),))
    rows = [cells for _, cells in _protect_rows(render_report(importance, fit_per_mbit=heavy))]
    assert rows[0][1] == last
    fits = {cells[1]: float(cells[7].split("[")[0]) for cells in rows if cells[7] != "unknown"}
    assert fits[last] > 0
    assert even.count("they need not add up to 100 %") >= 2  # the table and the figure of where faults end
    # Of one rate nothing changes.
    assert _protect_rows(render_report(importance, fit_per_mbit=RawFit.of_all(7))) == _protect_rows(even)
    assert "SDC-FIT</th>" not in even and "left out" not in even


@pytest.mark.parametrize("keys", ["register", "layer", ["layer", "register"], "bit"])
def test_the_fit_of_groups_adds_up_to_that_of_all(keys: Any, uniform: Results) -> None:
    raw = RawFit(flip_flop_fit_per_mbit=30, sram_fit_per_mbit=3, by_register=(("pe_a", 0.0),))
    names = [keys] if isinstance(keys, str) else keys
    groups = fit_by(uniform, names, raw)
    whole = uniform.fit(raw)
    assert sum(fit.value for fit in groups.values() if not isnan(fit.value)) == pytest.approx(
        whole.value, rel=0.1
    )
    assert all(fit.low <= fit.value <= fit.high or isnan(fit.value) for fit in groups.values())
    alone = fit_by(uniform, ["register"], raw)
    assert alone["pe_a",] == (0, 0, 0)
    row = uniform.summary("register").set_index("register").loc["accumulator"]
    bits = row["sites"] / uniform.space_size * uniform.register_bits
    assert alone["accumulator",].high == pytest.approx(3e-6 * bits * row["avf_high"])


def test_the_most_critical_faults_stand_in_the_order_that_their_caption_says(importance: Results) -> None:
    few = replace(importance, table=HeldTrials(importance.trials.head(600)))
    table = render_report(few).split('<table id="critical">')
    assert (
        "before ties; of each, answers that leave the clean run's five best (SDC-5) before others" in table[0]
    )
    rows = re.findall(r"<tr>(.*?)</tr>", table[1].split("<tbody>")[1].split("</table>")[0], re.DOTALL)
    order = [
        (">tie<" in row, ">SDC-5<" not in row, -float(re.findall(r'data-sort="([\d.]+)"', row)[-1]))
        for row in rows
    ]
    assert order == sorted(order)
    assert len({within for _, within, _ in order}) == 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 5, 20_000])
def test_a_campaign_without_events_reports_a_bound(importance: Results, uniform: Results, n: int) -> None:
    for results in (importance, uniform):
        quiet = without_events(replace(results, table=HeldTrials(results.trials.head(n))))
        page = render_report(quiet)
        assert (
            "No trial changed the network" in page
            and f"0 to {quiet.population_rate().percent()[2]} %" in page
        )
        assert Page(page).rows["protect"] == TOP_GROUPS and "nan" not in page.lower().split("<svg")[0]


def test_a_chunk_that_is_gone_is_told(page: str, importance: Results) -> None:
    assert "missing" not in page
    told = render_report(replace(importance, gap="chunk 1 of 4 is missing: 500 trials"))
    assert "chunk 1 of 4 is missing: 500 trials." in told


def test_campaigns_of_one_sampler_are_told_apart_by_their_directories(importance: Results) -> None:
    def legend(own: str, other: str) -> list[str]:
        one, two = (replace(importance, directory=Path(name)) for name in (own, other))
        return [text.get_text() for text in convergence(one, compare=two).get_legend().get_texts()]

    assert legend("runs/a", "runs/b") == ["a", "b (compared)"]
    assert legend("first/a", "second/a") == ["first/a", "second/a (compared)"]
    other = replace(importance, directory=Path("runs/seed8"))
    assert "against the seed8 campaign" in render_report(importance, other)


def test_what_can_not_be_compared_is_named_and_a_copy_of_the_images_can(importance: Results) -> None:
    inputs = importance.manifest["inputs"]

    def against(**other: Any) -> Results:
        return replace(importance, manifest={**importance.manifest, "inputs": {**inputs, **other}})

    render_report(importance, against(path="elsewhere/copy.npz"))
    with pytest.raises(BadConfig, match=r"images: \d+ of .*\.npz here and 7 of .*\.npz there"):
        render_report(importance, against(sha256="0" * 64, samples=7))


def test_labels_of_a_wide_log_axis_do_not_touch(uniform: Results) -> None:
    """From a millionth of a per cent to all."""
    register = uniform.trials["register"].astype(str)
    trials = uniform.trials.assign(sdc1=(register == "pe_c1") & (np.arange(len(register)) % 2 == 0))
    far = [
        {**entry, "sites": entry["live"] if entry["register"] == "pe_c1" else 10**5 * entry["sites"]}
        for entry in uniform.manifest["space"]["breakdown"]
    ]
    size = sum(entry["sites"] for entry in far)
    manifest = {**uniform.manifest, "space": {**uniform.manifest["space"], "size": size, "breakdown": far}}
    axes = avf_by(replace(uniform, manifest=manifest, table=HeldTrials(trials)), key="register")
    axes.get_figure(root=True).draw_without_rendering()  # type: ignore[union-attr]
    left, right = axes.get_xlim()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    labels = [text for place, text in ticks if left <= place <= right]
    assert len(labels) > 2
    assert not any("e" in text.get_text() for text in labels)
    boxes = [text.get_window_extent() for text in labels]
    assert all(first.x1 + 4 < second.x0 for first, second in pairwise(boxes))


def test_names_are_escaped(importance: Results) -> None:
    named = {**importance.manifest, "model": {"name": "<script>alert(1)</script>", "path": "&"}}
    assert "<script>alert" not in render_report(replace(importance, manifest=named))


def test_the_report_is_written(importance: Results, tmp_path: Path, page: str) -> None:
    path = write_report(importance, tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8") == page
    with pytest.raises(BadConfig, match="can't be written"):
        write_report(importance, tmp_path)


def test_weights_never_leave_the_bound_of_the_sampler(importance: Results, uniform: Results) -> None:
    both: list[Any] = [importance, uniform]
    for results in both:
        assert np.all(results.weight <= results.max_weight * (1 + 1e-9))
    shared = importance.rate(), uniform.rate()
    assert shared[0].low < shared[1].high and shared[1].low < shared[0].high
