"""The curves of accuracy against bit-error rate show the numbers that they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emulator.campaign.error_rates import Point
from emulator.report.figures.error_rates import error_rate_curves
from emulator.report.figures.files import save_figure
from emulator.sampling.estimate import Estimate


def estimate(value: float) -> Estimate:
    return Estimate(
        value=value, low=value - 0.05, high=value + 0.02, confidence=0.95, n=9, ess=9.0, method="clustered"
    )


def curve(*accuracy: float) -> list[Point]:
    return [
        Point(
            bit_error_rate=10.0 ** (i - 9),
            upsets=40 * 10.0**i,
            live_upsets=4 * 10.0**i,
            accuracy=estimate(value),
            sdc1=estimate(0.5),
            due=estimate(0.4),
        )
        for i, value in enumerate(accuracy)
    ]


def test_it_shows_accuracy_and_interval_against_the_rate(tmp_path: Path) -> None:
    ax = error_rate_curves({"a": curve(0.9, 0.8, 0.3), "b": curve(0.9, 0.5, 0.1)}, clean=estimate(0.92))
    first, second, clean = ax.get_lines()
    assert first.get_xdata() == pytest.approx([1e-9, 1e-8, 1e-7])
    assert first.get_ydata() == pytest.approx([90, 80, 30])
    assert second.get_label() == "b" and first.get_color() != second.get_color()
    assert set(clean.get_ydata()) == {92}
    band = ax.collections[0].get_paths()[0].vertices
    assert {round(float(y)) for y in band[:, 1]} == {85, 92, 75, 82, 25, 32}
    assert ax.get_xscale() == "log" and "accuracy" in ax.get_ylabel() and not ax.child_axes
    for name in ("a.svg", "b.svg"):
        save_figure(error_rate_curves({"a": curve(0.9, 0.8)}, clean=estimate(0.92)), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_single_curve_has_its_live_upsets_above() -> None:
    ax = error_rate_curves({"a": curve(0.9, 0.8)}, labelled=False)
    (above,) = ax.child_axes
    ax.figure.draw_without_rendering()
    assert above.get_xlabel() == "live upsets an inference"
    assert np.array(above.get_xlim()) == pytest.approx(np.array(ax.get_xlim()) * 4e9)
    assert "answers as without upsets" in ax.get_ylabel()


def test_voltages_take_the_place_of_rates() -> None:
    ax = error_rate_curves({"a": curve(0.9, 0.8)}, volts={1e-9: 0.7, 1e-8: 0.65})
    assert ax.get_lines()[0].get_xdata() == pytest.approx([0.7, 0.65])
    assert ax.get_xlabel() == "supply voltage (V)" and ax.get_xscale() == "linear"


def test_no_two_of_many_curves_look_alike() -> None:
    lines = error_rate_curves({str(i): curve(0.9) for i in range(20)}).get_lines()
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}) == 20
