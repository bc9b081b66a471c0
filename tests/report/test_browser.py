"""The page as a browser shows it: headless Chromium, on a phone, a laptop and paper, light and dark."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from emulator.array.fit import RawFit
from emulator.campaign.results import Results
from emulator.campaign.runner import Campaign
from emulator.faults.space import FaultSpace
from emulator.report.html import Live, write_report
from emulator.sampling.stopping import max_trials

pytestmark = pytest.mark.slow

# CSS pixels; paper: A4 at 96 dpi within the margins of the page's own @page.
PHONE, LAPTOP = {"width": 375, "height": 812}, {"width": 1280, "height": 800}
PAPER = {"width": round((210 - 2 * 12) / 25.4 * 96), "height": round((297 - 2 * 12) / 25.4 * 96)}
SIZES = {"phone": (PHONE, "screen"), "laptop": (LAPTOP, "screen"), "paper": (PAPER, "print")}


@dataclass(frozen=True, kw_only=True)
class Report:
    """A page and what it shows."""

    results: Results
    path: Path
    raw: RawFit


@pytest.fixture(scope="session")
def counted_in_trials(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A real campaign on all registers of the bundled network."""
    space = FaultSpace(digits.network, digits.array)
    inputs, stop = digits.inputs[:20], max_trials(1500)
    campaign = Campaign(digits.network, digits.array, space, inputs=inputs, stop=stop, seed=7)
    return campaign.collect(tmp_path_factory.mktemp("browser") / "a", workers=1)


@pytest.fixture(scope="session", params=["real", "synthetic, compared"])
def report(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, counted_in_trials: Results
) -> Report:
    real = request.param == "real"
    results = counted_in_trials if real else request.getfixturevalue("importance")
    compare = None if real else request.getfixturevalue("uniform")
    path = tmp_path_factory.mktemp("page") / "report.html"
    # With raw rates that differ the table of what to protect has FIT.
    raw = RawFit(flip_flop_fit_per_mbit=15, sram_fit_per_mbit=3) if real else RawFit()
    path = write_report(results, path, compare, fit_per_mbit=raw)
    return Report(results=results, path=path, raw=raw)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("no Chromium on the path: run tools/install test,browser")
    with sync_playwright() as driver:
        # Root, as in containers, has no sandbox; what is opened is a file of ours.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page in a window, with all that it said and asked for."""

    def __init__(self, browser: Any, path: Path, size: dict[str, int], media: str, **options: Any) -> None:
        self.context = browser.new_context(viewport=size, **options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.emulate_media(media=media)
        self.page.goto(path.as_uri())

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.fixture(params=SIZES)
def opened(request: pytest.FixtureRequest, chromium: Any, report: Report) -> Iterator[Opened]:
    size, media = SIZES[request.param]
    with Opened(chromium, report.path, size, media) as found:
        yield found


def test_it_says_nothing_and_asks_for_nothing(opened: Opened, report: Report) -> None:
    assert opened.said == []
    assert opened.asked == [report.path.as_uri()]


def test_no_number_is_broken_over_two_lines(opened: Opened, report: Report) -> None:
    sites = opened.page.get_by_text(f"{report.results.space_size:,}".replace(",", "\u202f"), exact=True)
    high = sites.evaluate(
        "x => [x.getBoundingClientRect().height, parseFloat(getComputedStyle(x).lineHeight)]"
    )
    assert high[0] < 1.5 * high[1]


def test_nothing_is_wider_than_the_window(opened: Opened) -> None:
    width = opened.page.viewport_size["width"]
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_paper_holds_what_a_screen_scrolls_to(chromium: Any, report: Report) -> None:
    with Opened(chromium, report.path, PAPER, "print") as paper:
        wide = paper.page.evaluate(
            """() => [...document.querySelectorAll("table, svg, pre, .card")].filter(x => x.checkVisibility())
            .map(x => [x.id || x.className, x.getBoundingClientRect().right,
                       x.parentElement.getBoundingClientRect().right])"""
        )
    assert len(wide) > 15
    assert [name for name, right, limit in wide if right > limit + 1] == []


# The label, its box, and that of its figure, in CSS pixels.
_LABELS = """() => [...document.querySelectorAll("figure svg")].map(svg => {
  const box = r => [r.left, r.top, r.right, r.bottom];
  return [svg.closest("figure").id, box(svg.getBoundingClientRect()),
          [...svg.querySelectorAll("text")].map(t => [t.textContent, box(t.getBoundingClientRect())])];
})"""


def test_no_label_is_cut_or_lies_on_another(opened: Opened) -> None:
    figures = opened.page.evaluate(_LABELS)
    assert len(figures) == 6
    for name, (left, top, right, bottom), labels in figures:
        assert len(labels) > 5
        for text, (x0, y0, x1, y1) in labels:
            inside = x0 >= left - 0.5 and y0 >= top - 0.5 and x1 <= right + 0.5 and y1 <= bottom + 0.5
            assert inside, (name, text)
        for (one, a), (other, b) in combinations(labels, 2):
            across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            assert across < 1 or down < 1, (name, one, other)


def test_labels_are_large_enough_to_read(opened: Opened) -> None:
    sizes = opened.page.evaluate(
        """() => [...document.querySelectorAll("figure svg text")].map(t =>
        parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getBoundingClientRect().width
        / t.ownerSVGElement.viewBox.baseVal.width)"""
    )
    # 6 pt on paper.
    assert min(sizes) >= 8


@pytest.mark.parametrize("size", [PHONE, LAPTOP], ids=["phone", "laptop"])
def test_the_answer_is_in_the_first_screen(size: dict[str, int], chromium: Any, report: Report) -> None:
    with Opened(chromium, report.path, size, "screen") as first:
        for number, rate in enumerate((report.results.population_rate(), report.results.rate())):
            value, low, high = rate.percent()
            cell = first.page.locator(".answer > div").nth(2 * number)
            assert cell.locator(".big").inner_text() == f"{value} %"
            assert cell.locator(".interval").inner_text().endswith(f"95 % interval {low} to {high} %")
            box = cell.bounding_box()
            assert box["y"] + box["height"] <= size["height"]
        assert f"at {report.raw} raw" in first.page.locator(".answer").inner_text()


def _column(page: Any, table: str, place: int) -> list[str]:
    cells = page.locator(f"#{table} tbody td:nth-child({place + 1})")
    return [text.strip() for text in cells.all_inner_texts()]


def test_a_click_on_a_heading_sorts_by_it_and_another_turns_it_round(chromium: Any, report: Report) -> None:
    with Opened(chromium, report.path, LAPTOP, "screen") as found:
        page = found.page
        heads = page.locator("#protect th").all_inner_texts()
        place = heads.index("Trials")
        heading = page.locator("#protect th").nth(place)
        before = _column(page, "protect", place)
        assert len(before) > 10
        for way in ("descending", "ascending"):
            heading.locator("button").click()
            assert heading.get_attribute("aria-sort") == way
            numbers = [int(re.sub(r"\s", "", text)) for text in _column(page, "protect", place)]
            assert numbers == sorted(numbers, reverse=way == "descending")
            assert sorted(_column(page, "protect", place)) == sorted(before)
        page.locator("#critical th button").first.click()
        names = _column(page, "critical", 0)
        assert names == sorted(names)


def test_all_of_it_can_be_read_without_javascript(chromium: Any, report: Report) -> None:
    texts = []
    for script in (True, False):
        with Opened(chromium, report.path, LAPTOP, "screen", java_script_enabled=script) as found:
            texts.append(found.page.locator("main").inner_text())
            assert found.page.locator("th button").count() == (0 if not script else 9 + 9 + 3)
            assert all(svg.is_visible() for svg in found.page.locator("figure svg").all())
    assert texts[0] == texts[1]
    for fault_id in report.results.critical()["fault_id"]:
        assert fault_id in texts[1]


# Every element with text of its own: the text, its colour, its size in px, its weight, and the colours behind it,
# the nearest first.
_COLOURS = """() => [...document.querySelectorAll("body *")].filter(x => x.checkVisibility() &&
    ![...x.childNodes].every(n => n.nodeType != 3 || !n.textContent.trim()) && !["SCRIPT", "STYLE"].includes(x.tagName))
  .map(x => {
    const style = getComputedStyle(x), behind = [];
    for (let y = x; y; y = y.parentElement) behind.push(getComputedStyle(y).backgroundColor);
    return [x.textContent.trim(), x.ownerSVGElement ? style.fill : style.color, parseFloat(style.fontSize),
            Number(style.fontWeight), behind];
  })"""


def _channels(colour: str) -> tuple[float, ...]:
    """Red, green, blue in [0, 1], and what covers."""
    numbers = [float(x) for x in re.findall(r"[\d.]+", colour)]
    return (*(x / 255 for x in numbers[:3]), numbers[3] if len(numbers) > 3 else 1.0)


def _luminance(colour: str) -> float:
    """Relative luminance, W3C, Web Content Accessibility Guidelines 2.2, 'relative luminance'."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _channels(colour)[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio, WCAG 2.2: (L1 + 0.05) / (L2 + 0.05), the lighter first; 1 to 21."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_formula_of_contrast() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    # The grey that is known as the lightest which passes on white.
    assert contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme: str, chromium: Any, report: Report) -> None:
    with Opened(chromium, report.path, LAPTOP, "screen", color_scheme=scheme) as found:
        texts = found.page.evaluate(_COLOURS)
        page = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (_luminance(page) < 0.1) == (scheme == "dark")
    assert len(texts) > 300
    for text, colour, size, weight, behind in texts:
        ground = next(found for found in behind if _channels(found)[3] == 1)
        # WCAG 2.2, success criterion 1.4.3, level AA; large is 18 pt, or 14 pt and bold.
        large = size >= 24 or (size >= 18.66 and weight >= 700)
        assert contrast(colour, ground) >= (3.0 if large else 4.5), (text, colour, ground)


def test_paper_is_white_with_dark_text_whatever_the_theme(chromium: Any, report: Report) -> None:
    with Opened(chromium, report.path, PAPER, "print", color_scheme="dark") as paper:
        body = paper.page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
    assert body[0] == "rgb(255, 255, 255)"
    assert contrast(*body) > 10


@pytest.mark.parametrize("script", [True, False], ids=["javascript", "no javascript"])
def test_a_live_page_loads_itself_again(
    script: bool, chromium: Any, counted_in_trials: Results, tmp_path: Path
) -> None:
    path = tmp_path / "live.html"
    write_report(counted_in_trials, path, live=Live(done="1 of 2", written="now", every=1))
    with Opened(chromium, path, PHONE, "screen", java_script_enabled=script) as found:
        assert "1 of 2" in found.page.locator(".live").inner_text()
        assert found.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        write_report(counted_in_trials, path)
        found.page.locator(".live").wait_for(state="detached", timeout=10_000)
        assert found.page.locator(".answer").is_visible()
        assert found.said == []
