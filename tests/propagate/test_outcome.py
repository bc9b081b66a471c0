"""Outcomes against a plain-Python reading of the definitions, ties included."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from emulator.graph.qgraph import QTensor
from emulator.propagate.outcome import judge, margin

LOGITS = st.integers(2, 12).flatmap(
    lambda classes: st.tuples(
        npst.arrays(np.int8, classes, elements=st.integers(-128, 127) | st.integers(0, 3)),
        npst.arrays(np.int8, (5, classes), elements=st.integers(-128, 127) | st.integers(0, 3)),
    )
)


def answer(classes: int, scale: float) -> QTensor:
    return QTensor(name="logits", shape=(1, classes), scale=scale, zero_point=5, offset=0)


def first_largest(values: list[int]) -> int:
    return values.index(max(values))


def confidences(values: list[int], scale: float) -> list[float]:
    real = [(v - 5) * scale for v in values]
    powers = [exp(r - max(real)) for r in real]
    return [p / sum(powers) for p in powers]


@given(logits=LOGITS, scale=st.sampled_from([0.01, 0.125, 1.0]))
@settings(max_examples=400)
def test_every_outcome_is_as_defined(logits: tuple[np.ndarray, np.ndarray], scale: float) -> None:
    golden, faulty = logits
    found = judge(answer(len(golden), scale), golden, faulty)
    before = golden.tolist()
    top = first_largest(before)
    first_five = sorted(range(len(before)), key=lambda c: (-before[c], c))[:5]
    for i, after in enumerate(faulty.tolist()):
        new_top = first_largest(after)
        assert found.top1[i] == new_top
        assert found.sdc1[i] == (new_top != top)
        assert found.sdc5[i] == (new_top not in first_five)
        shared = {c for c, v in enumerate(before) if v == max(before)} & {
            c for c, v in enumerate(after) if v == max(after)
        }
        assert found.tie[i] == (new_top != top and bool(shared))
        old, new = confidences(before, scale)[top], confidences(after, scale)[top]
        for flags, share in ((found.sdc10, 0.1), (found.sdc20, 0.2)):
            if abs(abs(new - old) - share * old) > 1e-6:
                assert flags[i] == (abs(new - old) > share * old)


@given(logits=LOGITS)
def test_the_golden_answer_is_never_an_error(logits: tuple[np.ndarray, np.ndarray]) -> None:
    golden, _ = logits
    found = judge(answer(len(golden), 0.1), golden, golden[np.newaxis])
    flags = (found.sdc1, found.tie, found.sdc5, found.sdc10, found.sdc20)
    assert not any(flag.any() for flag in flags)


def test_an_order_of_equal_logits_is_a_tie_and_an_overtaken_one_is_not() -> None:
    golden = np.array([3, 9, 9, 0], np.int8)
    faulty = np.array([[3, 8, 9, 0], [3, 9, 10, 0], [10, 9, 9, 0], [9, 9, 9, 0], [3, 9, 9, 9]], np.int8)
    found = judge(answer(4, 0.1), golden, faulty)
    # Class 2 was as good as class 1 before; class 0 was not, unless class 1 or 2 is still as good as it.
    assert found.sdc1.tolist() == [True, True, True, True, False]
    assert found.tie.tolist() == [True, True, False, True, False]


@pytest.mark.parametrize(
    ("logits", "want"), [([1, 2], 1), ([7, 7, 3], 0), ([-128, 127], 255), ([5, 9, 8], 1)]
)
def test_margin_is_first_minus_second(logits: list[int], want: int) -> None:
    assert margin(np.array(logits, np.int8)) == want
