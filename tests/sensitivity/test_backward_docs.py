"""docs/gradients.md keeps its word."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.sensitivity import backward
from emulator.sensitivity.rules.registry import covered

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gradients.md").read_text(encoding="utf-8")


def test_the_table_of_operators_is_complete() -> None:
    table = PAGE.split("## Operators")[1].split("Ties:")[0]
    named = re.findall(r"[A-Za-z.]*[A-Z]\w+", re.sub(r"\([^)]*\)", "", table))
    assert sorted(named) == covered()


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (source,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    seen: dict[str, Any] = {}
    exec(source, seen)
    assert len(seen["found"]) == len(seen["names"]) > 3
    assert all(grad.any() and np.isfinite(grad).all() for grad in seen["found"])


def test_the_example_of_the_docstring_runs() -> None:
    assert doctest.testmod(backward).attempted > 0
    assert doctest.testmod(backward).failed == 0
