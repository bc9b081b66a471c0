"""An Upset refuses what no register can suffer, and says what is allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emulator.array.registers import check_upset, inventory
from emulator.array.spec import ArraySpec
from emulator.array.upset import Upset
from emulator.errors import BadConfig

SPEC = ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=6, act_buffer_rows=20, wgt_buffer_rows=24)


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


# (register, row, col, bits of the register there): the last place of each kind of geometry, docs/machine.md section 10.
LAST = [
    ("pe_a", 3, 2, 8),
    ("pe_b", 0, 2, 8),
    ("pe_b", 3, 2, 18),
    ("pe_c2", 3, 2, 32),
    ("pe_shift", 3, 2, 5),
    ("buf_a", 3, 0, 8),
    ("buf_b", 2, 0, 8),
    ("buf_valid", 0, 0, 1),
    ("skew_a", 3, 2, 8),
    ("skew_valid", 2, 1, 1),
    ("out_b", 4, 2, 18),
    ("deskew_data", 0, 1, 18),
    ("deskew_data", 1, 0, 18),
    ("deskew_valid", 0, 1, 1),
    ("seq_pc", 0, 0, 24),
    ("seq_act_address", 0, 0, 5),
    # (rows + cols + 1) div rows + 3 = 5 requests on their way: three bits, eight entries.
    ("tag_kept", 7, 0, 3),
    ("tag_base", 7, 0, 3),
    ("write_mask", 1, 2, 4),
    ("write_final", 1, 0, 1),
    ("write_sum", 0, 2, 32),
    ("requant_result", 7, 2, 8),
    ("requant_row", 8, 0, 24),
    ("accumulator", 5, 2, 32),
    ("act_buffer", 19, 3, 8),
    ("wgt_buffer", 23, 2, 8),
    ("transposer", 3, 3, 8),
    ("transposer_control", 0, 4, 1),
]


@pytest.mark.parametrize(("register", "row", "col", "bits"), LAST)
def test_the_last_place_is_accepted_and_the_one_beyond_it_refused(
    register: str, row: int, col: int, bits: int
) -> None:
    last = Upset(register=register, row=row, col=col, bits=(bits - 1,))
    check_upset(SPEC, last)
    for beyond in (replace(last, col=col + 1), replace(last, bits=(0, bits)), replace(last, row=-1)):
        with pytest.raises(BadConfig, match="allowed: "):
            check_upset(SPEC, beyond)


@pytest.mark.parametrize(
    ("register", "row", "col", "bit"),
    [
        ("pe_x", 0, 0, 0),
        ("pe_a", 4, 0, 0),
        ("buf_a", 4, 0, 0),
        ("buf_b", 3, 0, 0),
        ("skew_a", 0, 0, 0),
        ("skew_valid", 3, 0, 0),
        ("deskew_data", 2, 0, 0),
        ("out_b", 3, 0, 0),
        ("accumulator", 6, 0, 0),
        ("requant_shift", 0, 0, 0),
    ],
)
def test_a_place_outside_the_array_is_refused(register: str, row: int, col: int, bit: int) -> None:
    with pytest.raises(BadConfig, match="allowed"):
        check_upset(SPEC, Upset(register=register, row=row, col=col, bits=(bit,)))


def test_every_register_accepts_its_first_and_last_bit() -> None:
    for entry in inventory(SPEC):
        for index in (0, entry.total_bits - 1):
            row, col, bit = (int(x) for x in entry.place(index))
            check_upset(SPEC, Upset(register=entry.name, row=row, col=col, bits=(bit,)))
