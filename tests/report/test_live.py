"""A report that follows a running campaign: it says that it does, keeps up, and ends as the ordinary page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from emulator.campaign.manifest import write_manifest
from emulator.campaign.one_writer import only_writer
from emulator.campaign.parts import part_path
from emulator.campaign.results import Results
from emulator.campaign.trials import HeldTrials
from emulator.errors import BadConfig, BadData
from emulator.report import live
from emulator.report.html import render_report


class Run:
    """A run into `directory`, of which one thing happens in each pause of whoever follows it."""

    def __init__(self, directory: Path, whole: Results, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.whole = directory, whole
        self.lock = ExitStack()
        self.events: Iterator[Callable[[], object]] = iter(())
        self.pages: list[str] = []
        self.lines: list[str] = []
        self.page = directory / "report.html"
        monkeypatch.setattr(live.time, "sleep", self._pause)

    def start(self) -> None:
        self.lock.enter_context(only_writer(self.directory))
        write_manifest(self.directory, self.whole.manifest)

    def finish_chunk(self, chunk: int) -> Callable[[], object]:
        target = part_path(self.directory, chunk)
        return lambda: (
            target.parent.mkdir(exist_ok=True),
            shutil.copy(part_path(self.whole.directory, chunk), target),
        )

    def follow(self, *events: Callable[[], object]) -> None:
        self.events = iter(events)
        live.follow(self.directory, self.page, every=7, told=self.lines.append)

    def _pause(self, seconds: float) -> None:
        assert seconds == 7
        if self.page.exists():
            self.pages.append(self.page.read_text(encoding="utf-8"))
        next(self.events)()


@pytest.fixture
def run(tmp_path: Path, importance: Results, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    found = Run(tmp_path / "run", importance, monkeypatch)
    yield found
    found.lock.close()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_it_keeps_up_and_ends_as_the_ordinary_page(run: Run) -> None:
    run.follow(run.start, run.finish_chunk(0), run.finish_chunk(1), run.lock.close)
    first, second = run.pages
    for page, done in ((first, "2 000"), (second, "4 000")):
        assert f"Live: {done} of 20 000 trials. Written 20" in page
        assert '<meta http-equiv="refresh" content="7">' in page
    last = run.page.read_text(encoding="utf-8")
    assert last == render_report(Results.open(run.directory))
    assert "refresh" not in last and "Live:" not in last


def test_without_trials_it_waits_and_says_so(run: Run) -> None:
    run.follow(run.start, lambda: None, run.finish_chunk(0), run.lock.close)
    assert "no trials yet" in run.lines[0]
    assert len(run.pages) == 1
    assert run.lines[1] == f"2 000 of 20 000 trials: {run.page}"


def test_ctrl_c_leaves_the_ordinary_page(run: Run) -> None:
    run.start()
    run.finish_chunk(0)()
    with pytest.raises(KeyboardInterrupt):
        run.follow(interrupt)
    assert "refresh" in run.pages[0]
    assert run.page.read_text(encoding="utf-8") == render_report(Results.open(run.directory))


def test_ctrl_c_before_the_first_trials_leaves_nothing(run: Run) -> None:
    with pytest.raises(KeyboardInterrupt):
        run.follow(interrupt)
    assert not run.directory.exists()


def test_a_part_that_goes_while_it_is_read_is_no_end(run: Run) -> None:
    run.start()
    run.finish_chunk(0)()
    broken = part_path(run.directory, 1)
    broken.write_bytes(b"half")
    run.follow(broken.unlink, run.lock.close)
    assert run.lines[0].startswith("not read this time: ")
    assert len(run.pages) == 1


def test_damage_that_stays_is_told_at_the_end(run: Run) -> None:
    run.start()
    run.finish_chunk(0)()
    part_path(run.directory, 1).write_bytes(b"half")
    with pytest.raises(BadData, match="unreadable"):
        run.follow(run.lock.close)


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        ({"any": [{"max_trials": 5000}, {"ci_half_width": 0.001}]}, "2 000 of at most 5 000 trials"),
        ({"ci_half_width": 0.001}, "2 000 trials"),
    ],
)
def test_it_says_how_far_as_far_as_that_is_known(run: Run, stop: dict[str, object], words: str) -> None:
    results = run.whole
    manifest = {**results.manifest, "stop": stop}
    some = Results(
        directory=results.directory, manifest=manifest, table=HeldTrials(results.trials.head(2000))
    )
    assert live._done(some) == words


def test_a_pause_of_nothing_is_refused(run: Run) -> None:
    with pytest.raises(BadConfig, match="1 second or more"):
        live.follow(run.directory, run.page, every=0)
