"""A golden answer with NaN or infinity: margins stay numbers, importance sampling can weigh its images."""

from __future__ import annotations

import numpy as np

from emulator.propagate.outcome import in_lsb


def test_margins_of_an_answer_with_nan_and_infinity_are_finite() -> None:
    found = in_lsb(np.float32([np.nan, -np.inf, 2.0, 3.0, np.inf]))
    np.testing.assert_array_equal(found, [2, 2, 2, 3, 3])
    np.testing.assert_array_equal(in_lsb(np.float32([np.nan, -np.inf])), [0, 0])
