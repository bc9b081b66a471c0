"""An Upset refuses what no register can suffer, and says what is allowed."""

import pytest

from emulator.array.layout import check_upset, segments
from emulator.array.spec import ArraySpec
from emulator.array.upset import Upset
from emulator.errors import BadConfig

SPEC = ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=6)


def test_repr_round_trips() -> None:
    upset = Upset(register="pe_b", row=3, col=2, bits=(7, 9), kind="stuck-at-1", cycle=4, until_cycle=9)
    assert eval(repr(upset)) == upset


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": ()},
        {"bits": (1, 1)},
        {"kind": "stuck"},
        {"cycle": -1},
        {"until_cycle": 3},
        {"kind": "stuck-at-0", "cycle": 4, "until_cycle": 3},
    ],
    ids=repr,
)
def test_an_impossible_upset_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadConfig, match=r"allowed: .*\. "):
        Upset(**({"register": "pe_a", "row": 0, "col": 0, "bits": (0,)} | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("register", "row", "col", "bit"),
    [
        ("pe_x", 0, 0, 0),
        ("pe_a", 4, 0, 0),
        ("pe_a", 0, 3, 0),
        ("pe_a", 0, 0, 8),
        ("pe_b", 0, 0, 8),
        ("pe_b", 1, 0, 18),
        ("pe_a", -1, 0, 0),
        ("buf_a", 0, 1, 0),
        ("buf_b", 3, 0, 0),
        ("skew_a", 0, 0, 0),
        ("skew_a", 3, 3, 0),
        ("skew_valid", 3, 0, 0),
        ("deskew_data", 2, 0, 0),
        ("out_b", 3, 0, 0),
        ("accumulator", 6, 0, 0),
    ],
)
def test_a_place_outside_the_array_is_refused(register: str, row: int, col: int, bit: int) -> None:
    with pytest.raises(BadConfig, match="allowed"):
        check_upset(SPEC, Upset(register=register, row=row, col=col, bits=(bit,)))


def test_the_ends_of_every_register_class_are_accepted() -> None:
    last = {"buf_a": (3, 0), "buf_b": (2, 0), "buf_d": (2, 0), "skew_a": (3, 2), "deskew_data": (0, 1)}
    last |= {name: (2, 1) for name in segments(SPEC) if name.startswith("skew_") and name != "skew_a"}
    last |= {"out_b": (4, 2), "out_c": (4, 2), "accumulator": (5, 2)}
    for name, segment in segments(SPEC).items():
        row, col = last.get(name, (3, 2))
        check_upset(SPEC, Upset(register=name, row=row, col=col, bits=(segment.width(row) - 1,)))
