"""What README.md and docs/ show is run, in order, in a folder that holds what a clone holds; or the page says why not.

`<!-- not run: why -->` before a block excuses it; its commands are parsed all the same. `<!-- file: NAME -->` makes a
file of it. An `output` block is what the block before it printed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from typer.main import get_command

from emulator.array.registers import inventory
from emulator.array.spec import ArraySpec
from emulator.cli.main import app
from emulator.sampling.registry import NAMES

ROOT = Path(__file__).parents[1]
# The page of the commands is made of their help, whose examples tests/cli/test_examples.py runs.
MADE = ROOT / "docs/reference/commands.md"
PAGES = [ROOT / "README.md", *sorted(set((ROOT / "docs").rglob("*.md")) - {MADE})]
COMMANDS: Any = get_command(app).commands
REGISTERS = {entry.name for entry in inventory(ArraySpec.preset("gemmini-16"))}
SAMPLERS = set(NAMES)

MARK = re.compile(r"<!-- (not run|file): (.+) -->")
# Blocks of these show something, and do nothing.
SHOWN = {"", "text"}
# Pages whose snippets take a minute or more.
SLOW = {ROOT / "docs/hardening.md"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """A fenced block; mark: "not run" or "file" and its text."""

    language: str
    text: str
    line: int
    mark: dict[str, str]


def snippets(page: Path) -> list[Snippet]:
    """As MyST finds them, without its directives."""
    found, mark = [], {}
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and not token.info.startswith("{"):
            assert token.map
            found.append(
                Snippet(language=token.info.strip(), text=token.content, line=token.map[0] + 1, mark=mark)
            )
        match = MARK.match(token.content) if token.type == "html_block" else None
        mark = dict([match.groups()]) if match else {}
    return found


def commands(snippet: Snippet) -> list[str]:
    """Each after its `$ `, continuation lines joined; a console block shows nothing else."""
    lines = snippet.text.replace("\\\n", " ").splitlines()
    assert all(line.startswith("$ ") for line in lines), snippet
    return [line.removeprefix("$ ") for line in lines]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass(slots=True, kw_only=True)
class Reader:
    """Someone who does what a page says, from top to bottom; names: those of its Python so far."""

    page: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    printed: str = ""

    def do(self, snippet: Snippet) -> None:
        if "file" in snippet.mark:
            Path(snippet.mark["file"]).write_text(snippet.text, encoding="utf-8")
        elif "not run" not in snippet.mark and snippet.language not in SHOWN:
            {"python": self.python, "console": self.console, "output": self.output}[snippet.language](snippet)

    def python(self, snippet: Snippet) -> None:
        # A traceback has the lines of the page.
        code = compile("\n" * snippet.line + snippet.text, str(self.page), "exec", dont_inherit=True)
        with redirect_stdout(StringIO()) as stdout:
            exec(code, self.names)
        self.printed = stdout.getvalue()

    def console(self, snippet: Snippet) -> None:
        self.printed = ""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        for command in commands(snippet):
            done = subprocess.run(
                ["bash", "-c", command], env=os.environ | {"PATH": path}, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{self.page}:{snippet.line}: {command}\n{done.stderr}"
            assert done.stdout or ">" in command, command
            self.printed += done.stdout

    def output(self, snippet: Snippet) -> None:
        assert self.printed.strip() == snippet.text.strip()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name(page), marks=[pytest.mark.slow] if page in SLOW else [])
        for page in PAGES
        if snippets(page)
    ],
)
def test_what_a_page_shows_can_be_done(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pages call a clone is, as far as their snippets see it, a folder with `models/` to write into."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    reader = Reader(page=page)
    for snippet in snippets(page):
        reader.do(snippet)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_is_done_or_excused(page: Path) -> None:
    """Another language than these would be shown without being run; nothing that can be read as a mark is lost."""
    found = snippets(page)
    assert {s.language for s in found if not s.mark} <= SHOWN | {"python", "console", "output"}
    marks = [mark for snippet in found for mark in snippet.mark.items()]
    assert marks == MARK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=f"{name(page)}:{snippet.line} {command[:40]}")
        for page in PAGES
        for snippet in snippets(page)
        if snippet.language == "console"
        for command in commands(snippet)
    ],
)
def test_a_command_has_the_options_it_is_shown_with(command: str) -> None:
    program, *words = shlex.split(command.split(" > ")[0], comments=True)
    if program == "emulator":
        verb, *arguments = words
        context = COMMANDS[verb].make_context(verb, arguments)
        assert context.args == []
        given = context.params.get("registers") or ()
        names = given if isinstance(given, list) else [given] if given else []
        assert {name for text in names for name in str(text).split(",")} - {"True"} <= REGISTERS
        assert context.params.get("sampler") in {None, *SAMPLERS}
    elif program != "dask":
        scripts = [ROOT / word for word in (program, *words) if word.startswith("tools/")]
        assert program in ("python", "source") or scripts
        text = "\n".join(path.read_text("utf-8") for script in scripts for path in behind(script, words))
        options = [word for word in words if word.startswith("--")]
        assert [word for word in options if not re.search(rf"{word}(?![\w-])", text)] == []


def behind(script: Path, words: list[str]) -> list[Path]:
    """A tool, and what it hands its options to."""
    benchmark = ROOT / f"tools/benchmarks/{words[0] if words else ''}.py"
    return [script, benchmark] if script.name == "bench" else [script]
