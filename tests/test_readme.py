"""README.md keeps its word: what it shows runs, what it points to is there."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


COMMANDS = [
    line.removeprefix("$ ")
    for block in blocks("console") + blocks("bash")
    for line in block.splitlines()
    if line.startswith("$ ")
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the README calls a clone, as far as its snippets see it: a folder with `models/` to write into."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    return tmp_path


def run(command: list[str], where: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=where, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )


@pytest.mark.parametrize("source", blocks("python"))
def test_python_runs_as_a_script(source: str, clone: Path) -> None:
    script = clone / "snippet.py"
    script.write_text(source, encoding="utf-8")
    done = run([sys.executable, script.name], clone)
    assert done.returncode == 0, done.stderr
    assert "FaultSpace(" in done.stdout
    assert "avf" in done.stdout
    assert "(SDC-1" in done.stdout


def test_every_command_line_runs(clone: Path) -> None:
    assert COMMANDS
    for command in COMMANDS:
        done = run(["bash", "-c", command], clone)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout or ">" in command, command
    assert (clone / "campaign.toml").stat().st_size
    assert (clone / "runs/first/report.html").stat().st_size


def test_nothing_is_shown_that_no_test_runs() -> None:
    assert {language for language, _ in BLOCKS} == {"", "python", "console"}
    # Only the two tools, which would run this test again, are shown without being run.
    (tools,) = blocks("")
    lines = [line.split("#")[0].split() for line in tools.splitlines()]
    assert lines == [["tools/demo"], ["tools/test"]]
    assert all(os.access(ROOT / line[0], os.X_OK) for line in lines)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/array.md",
        "docs/statistics.md",
        "docs/machine.md",
        "docs/registers.md",
        "docs/networks.md",
        "docs/gradients.md",
        "docs/hardening.md",
        "docs/sampling_study.md",
        "docs/benchmarks.md",
        "docs/json.md",
    ],
)
def test_links_and_named_files_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    linked = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")}
    assert [link for link in linked if not ((ROOT / page).parent / link).exists()] == []
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text)
    assert [
        name for name in named if not (ROOT / name).exists() and not (ROOT / "emulator" / name).exists()
    ] == []


def test_the_picture_is_small_enough_for_a_page() -> None:
    picture = (ROOT / "docs/report.png").read_bytes()
    width, _ = struct.unpack(">II", picture[16:24])
    assert width == 1200
    assert len(picture) < 300_000
