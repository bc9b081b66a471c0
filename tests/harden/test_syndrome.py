"""What checksums see and correct, against whole matrices in plain Python, and against what the text promises."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from dense_corrector import MODULUS, anywhere, as_matrix, corrected, dense, strikes_at
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import BadData
from emulator.faults.strikes import UNSOLVED
from emulator.gemm import GemmShape
from emulator.harden.checksum import Check
from emulator.harden.syndrome import Checked, Shapes, Verdict, checked, shapes_of

CHECKS: tuple[Check, ...] = ("rows", "columns", "both")
# Few values, so that sums often cancel; 2^31 is its own opposite.
DELTAS = st.sampled_from([1, -1, 2, -2, 3, -(1 << 31), (1 << 31) - 1])


def shapes(faults: int, m: int, n: int, groups: int = 1) -> Shapes:
    return shapes_of([GemmShape(m=m, k=1, n=n, groups=groups)], np.zeros(faults, np.int64))


def verdict(
    places: list[tuple[int, int, int]], m: int, n: int, groups: int = 1, check: Check = "both"
) -> str:
    found = checked(strikes_at([places]), shapes(1, m, n, groups), check)
    return Verdict(int(found.verdict[0])).name


@st.composite
def struck(draw: st.DrawFn) -> tuple[list[GemmShape], list[int], list[list[tuple[int, int, int]]]]:
    """Faults of two layers of a few rows and columns, with up to six errors each."""
    sides = st.integers(1, 4)
    layers = [GemmShape(m=draw(sides), k=1, n=draw(sides), groups=draw(st.integers(1, 3))) for _ in range(2)]
    layer, places = [], []
    for _ in range(draw(st.integers(0, 5))):
        layer.append(draw(st.integers(0, 1)))
        x = layers[layer[-1]]
        cells = st.tuples(st.integers(0, x.m - 1), st.integers(0, x.groups * x.n - 1))
        at = draw(st.lists(cells, max_size=6, unique=True))
        places.append([(*cell, draw(DELTAS)) for cell in at])
    return layers, layer, places


@pytest.mark.parametrize("check", CHECKS)
@given(struck())
def test_verdicts_and_what_is_left_are_those_of_whole_matrices(check: Check, case: Any) -> None:
    layers, layer, places = case
    strikes = strikes_at(places)
    found = checked(strikes, shapes_of(layers, np.array(layer, np.int64)), check)
    for f, index in enumerate(layer):
        x = layers[index]
        errors = dense(strikes, f, x.m, x.n, x.groups)
        name, left = corrected(errors, check)
        assert Verdict(int(found.verdict[f])).name == name
        ours = dense(found.left, f, x.m, x.n, x.groups)
        assert ours == left
        assert found.seen[f] == (name in ("DETECTED", "CORRECTED", "MISCORRECTED"))
        located(found, f, errors, check)


def located(found: Checked, fault: int, errors: list[list[list[int]]], check: Check) -> None:
    """The lines with a syndrome, in order, are those whose errors do not cancel."""
    sums: dict[str, list[tuple[int, int, int]]] = {"rows": [], "columns": []}
    for group, matrix in enumerate(errors):
        sums["rows"] += [(group, r, sum(row) % MODULUS) for r, row in enumerate(matrix)]
        sums["columns"] += [(group, c, sum(col) % MODULUS) for c, col in enumerate(zip(*matrix, strict=True))]
    for name, lines in (("rows", found.rows), ("columns", found.columns)):
        mine = lines.fault == fault
        ours = zip(lines.group[mine], lines.line[mine], lines.syndrome[mine] % MODULUS, strict=True)
        assert [tuple(map(int, x)) for x in ours] == [
            x for x in sums[name] if x[2] and check in (name, "both")
        ]


def test_correction_is_right_just_where_the_text_says() -> None:
    """Every matrix of 2 x 3 errors of -1, 0, 1: corrected if and only if the errors lie in one row, or in one column,
    whose sum is not 0."""
    every = [m for m in product((-1, 0, 1), repeat=6) if any(m)]
    places = [[(i // 3, i % 3, e) for i, e in enumerate(m) if e] for m in every]
    found = checked(strikes_at(places), shapes(len(places), 2, 3), "both")
    for where, code in zip(places, found.verdict.tolist(), strict=True):
        one_line = len({m for m, _, _ in where}) == 1 or len({n for _, n, _ in where}) == 1
        right = one_line and sum(e for _, _, e in where) != 0
        assert (code == Verdict.CORRECTED) == right, where
    assert set(found.verdict.tolist()) == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "places, m, n, groups, expected",
    [
        ([(1, 2, 5)], 4, 4, 1, "CORRECTED"),
        ([(1, 0, 5), (1, 3, -4)], 4, 4, 1, "CORRECTED"),
        ([(0, 2, 5), (3, 2, 7)], 4, 4, 1, "CORRECTED"),
        # One row whose errors cancel in its sum: columns see them, nothing says where.
        ([(1, 0, 5), (1, 3, -5)], 4, 4, 1, "DETECTED"),
        ([(1, 0, 1 << 31), (1, 3, -(1 << 31))], 4, 4, 1, "DETECTED"),
        # Two rows and two columns.
        ([(0, 0, 5), (1, 1, 7)], 4, 4, 1, "DETECTED"),
        # Row 1 hides: the corrector believes that all is in row 0.
        ([(0, 0, 5), (1, 0, 7), (1, 1, -7)], 4, 4, 1, "MISCORRECTED"),
        ([(0, 0, 5), (0, 1, -5), (1, 0, -5), (1, 1, 5)], 4, 4, 1, "MISSED"),
        # Where there is one row, or one column, nothing need be located.
        ([(0, 0, 5), (0, 3, -5)], 1, 4, 1, "CORRECTED"),
        ([(0, 0, 5), (3, 0, -5)], 4, 1, 1, "CORRECTED"),
        # Each product has its own checksums; errors of two of them don't cancel, nor hinder each other.
        ([(0, 0, 5), (0, 2, -5)], 4, 2, 2, "CORRECTED"),
        ([(0, 0, 5), (0, 2, 5), (0, 3, -5), (1, 2, -5), (1, 3, 5)], 4, 2, 2, "MISCORRECTED"),
        ([(0, 0, 5), (0, 2, 5), (1, 3, -5)], 4, 2, 2, "DETECTED"),
        ([], 4, 4, 1, "CLEAN"),
    ],
)
def test_cases_by_hand(
    places: list[tuple[int, int, int]], m: int, n: int, groups: int, expected: str
) -> None:
    assert verdict(places, m, n, groups) == expected


@pytest.mark.parametrize("check, line", [("rows", 0), ("columns", 1)])
def test_one_kind_of_sums_detects_and_corrects_where_one_line_is_all_there_is(
    check: Check, line: int
) -> None:
    assert verdict([(1, 2, 5)], 4, 4, check=check) == "DETECTED"
    cancels = [(1, 0, 5), (1, 3, -5)] if check == "rows" else [(0, 1, 5), (3, 1, -5)]
    assert verdict(cancels, 4, 4, check=check) == "MISSED"
    assert verdict([(2, 0, 5)], 4, 1, check=check) == ("CORRECTED" if check == "rows" else "DETECTED")
    assert verdict([(0, 2, 5)], 1, 4, check=check) == ("DETECTED" if check == "rows" else "CORRECTED")


def test_what_is_out_of_reach_is_missed_and_a_hang_stays_one() -> None:
    faults = strikes_at(
        [[(0, 0, 5)], [(0, 0, 5)], [], [(0, 0, 5)]], at_output=np.array([True, False, False, False])
    )
    hang = strikes_at([[], []], hang=np.array([True, False]))
    beyond = np.array([False, True, False, False])
    found = checked(faults, shapes(4, 2, 2), "both", beyond=beyond)
    assert found.verdict.tolist() == [Verdict.MISSED, Verdict.MISSED, Verdict.CLEAN, Verdict.CORRECTED]
    assert np.diff(found.left.ptr).tolist() == [1, 1, 0, 0]
    assert checked(hang, shapes(2, 2, 2), "both").verdict.tolist() == [Verdict.HANG, Verdict.CLEAN]


def test_what_is_left_is_what_the_accumulators_lack() -> None:
    strikes = strikes_at([[(0, 0, 5), (1, 0, 7), (1, 1, -7)]])
    left = checked(strikes, shapes(1, 4, 2), "both").left
    expected = np.zeros((4, 2), np.int32)
    # Taken back: 12 and -7, all in row 0.
    expected[:2] = [[-7, 7], [7, -7]]
    np.testing.assert_array_equal(as_matrix(dense(left, 0, 4, 2, 1)), expected)
    assert anywhere(dense(left, 0, 4, 2, 1))


def test_faults_that_were_not_struck_are_refused() -> None:
    with pytest.raises(BadData, match="1 not struck"):
        checked(strikes_at([[]], engine=np.array([UNSOLVED])), shapes(1, 2, 2), "both")
    with pytest.raises(BadData, match="2 faults, shapes of 3"):
        checked(strikes_at([[], []]), shapes(3, 2, 2), "both")
