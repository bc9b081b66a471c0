"""A word out of a few: found by name, or refused with what is allowed and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

from emulator.errors import BadConfig

Word = TypeVar("Word", bound=str)


def one_of(allowed: Sequence[Word], text: str, name: str) -> Word:
    """`text` as one of the allowed words, of what `name` says; raises BadConfig for another."""
    for word in allowed:
        if text == word:
            return word
    listed = ", ".join(allowed)
    raise BadConfig(f"{name} {text!r}{did_you_mean(text, allowed)}; allowed: {listed}. Choose one of them.")


def allowed_of_many(text: str, allowed: Sequence[str], listing: str) -> str:
    """What to append where `text` is none of many allowed words: the one that was probably meant, a few, and the
    command that lists them; all of them where nothing is close."""
    meant = did_you_mean(text, allowed)
    return f"{meant}; allowed: {f'{few(allowed)} (all: `{listing}`)' if meant else ', '.join(allowed)}"


def few(items: Sequence[object]) -> str:
    """The first three of a list, and dots where there are more."""
    return ", ".join([*map(str, items[:3]), *(["..."] if len(items) > 3 else [])])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The closest of the known words, whatever their case, as a hint to append, nothing where none is close."""
    folded = {one.casefold(): one for one in known}
    close = get_close_matches(word.casefold(), list(folded), n=1)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""
