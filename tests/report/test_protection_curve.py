"""The Pareto curve shows the numbers that it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emulator.errors import BadConfig
from emulator.report.figures.files import save_figure
from emulator.report.figures.protection import protection_curve

SHARE, REMOVED = np.array([0.0, 0.001, 0.02, 0.5]), np.array([0.0, 0.4, 0.9, 1.0])


def test_it_shows_what_is_left_against_what_it_costs(tmp_path: Path) -> None:
    ax = protection_curve(SHARE, REMOVED, optimistic=REMOVED**0.5, marks={"2 %": (0.02, 0.9, 0.8, 0.95)})
    held_out, chose = ax.get_lines()
    # Nothing is protected at the left edge, which a log scale can't put at 0.
    assert held_out.get_xdata() == pytest.approx([0.1, 0.1, 2, 50])
    assert held_out.get_ydata() == pytest.approx([100, 60, 10, 0])
    assert (chose.get_ydata() <= held_out.get_ydata()).all()
    assert [text.get_text() for text in ax.texts] == ["2 %"]
    assert ax.get_xlabel() == "added area (% of the unprotected)"
    for name in ("a.svg", "b.svg"):
        save_figure(ax, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_without_any_cost_there_is_no_curve() -> None:
    with pytest.raises(BadConfig, match="one share above 0"):
        protection_curve(np.zeros(2), np.zeros(2))
