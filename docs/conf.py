"""The site: the pages of this folder, the notebooks beside them, a reference made of docstrings and of the commands.

Built by tools/docs, without network.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from emulator import __version__

project = "Systolic fault emulator"
version = release = __version__
html_title = project

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["**.ipynb_checkpoints"]
smartquotes = False  # --option is two hyphens

# Notebooks are committed as they ran.
nb_execution_mode = "off"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Docstrings are plain prose with `names` in it.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
# References must lead somewhere, but for types of other packages and of rooms' inner files: these are text.
INNER = (
    r"array\.(host|layout|home|exposure|operands\.Streamed)|campaign\.(executors|in_order|memory|population)"
    r"|campaign\.(trials|validation)|graph\.(qgraph|wide|program|golden_pool)|report\.html"
    r"|harden\.(techniques|knapsack|held_out|curve|units|comparison\.(Group|Flags))"
    r"|sampling\.(evidence|counted|workbench\.T)|sensitivity\.outlook"
)
nitpick_ignore_regex = [(r"py:.*", r"(?!emulator\.).*"), (r"py:.*", rf"emulator\.({INNER}).*")]

html_theme = "furo"
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"


def write_commands(_: Any) -> None:
    """reference/commands.md: what --help says, by typer's own generator; examples as code."""
    page = Path(__file__).parent / "reference/commands.md"
    typer = [sys.executable, "-m", "typer", "emulator.cli.main", "utils", "docs", "--name", "emulator"]
    made = subprocess.run([*typer, "--title", "Commands"], check=True, capture_output=True, text=True).stdout
    made = re.sub(r"\*\*Commands\*\*:\n\n(\* .+\n)+\n", "", made)  # cut short there, whole below
    text = re.sub(r"^Example: (.+)$", r"Example:\n\n```console\n$ \1\n```", made, flags=re.MULTILINE)
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def name_arrays(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, *text: str | None) -> Any:
    """numpy.typing's alias again, where annotations were evaluated to what stands behind it; defaults that parse."""
    array = re.compile(r"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[(~?[\w.]+)\]\]")
    return tuple(part and array.sub(r"NDArray[\1]", part).replace("=<factory>", "=...") for part in text)


def name_arguments(_app: Any, _what: str, _name: str, obj: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings explain an argument, or a field, after its name and a colon: make these stand out."""
    try:
        names = "|".join(map(re.escape, inspect.signature(obj).parameters))
    except (TypeError, ValueError):
        return
    if names:
        explained = re.compile(rf"(?:^|(?<=[.;:,] ))((?:{names})(?:, (?:{names}))*):(?= |$)")
        lines[:] = [explained.sub(r"**\1**:", line) for line in lines]


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", name_arguments)
    app.connect("autodoc-process-signature", name_arrays)
    app.connect("builder-inited", write_commands)
