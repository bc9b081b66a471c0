"""A word out of a few: taken, or refused with what was probably meant."""

from __future__ import annotations

import pytest

from emulator.choices import did_you_mean, one_of
from emulator.errors import BadConfig


def test_a_known_word_is_taken_as_it_is() -> None:
    assert one_of(("rows", "columns"), "columns", "check") == "columns"


@pytest.mark.parametrize("word", ["colums", "COLUMNS", "", "row"])
def test_any_other_is_refused_with_those_that_are_allowed(word: str) -> None:
    with pytest.raises(BadConfig, match=rf"check '{word}'.*; allowed: rows, columns\. Choose"):
        one_of(("rows", "columns"), word, "check")


def test_the_closest_word_is_hinted_at_if_one_is_close() -> None:
    assert did_you_mean("colums", ["rows", "columns"]) == " (did you mean 'columns'?)"
    assert did_you_mean("ROWS", ["Rows", "columns"]) == " (did you mean 'Rows'?)"
    assert did_you_mean("xyz", ["rows", "columns"]) == ""
