"""A table of supply voltages and bit-error rates: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.campaign.voltage import read_voltages
from emulator.errors import BadData


def test_rates_ascend_with_their_voltages(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("supply_v, bit_error_rate\r\n0.7,1e-9\r\n0.6,1e-6\r\n0.65, 3e-8\r\n")
    assert list(read_voltages(path).items()) == [(1e-9, 0.7), (3e-8, 0.65), (1e-6, 0.6)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with nothing"),
        ("0.7,1e-9\n", "begins with"),
        ("mv,bit_error_rate\n700,1e-9\n", "begins with"),
        ("supply_v,bit_error_rate\n", "no voltages"),
        ("supply_v,bit_error_rate\n0.7,1e-9\n0.6\n", "line 3"),
        ("supply_v,bit_error_rate\n0.7,zero\n", "line 2"),
        ("supply_v,bit_error_rate\n0.7,0\n", "line 2"),
        ("supply_v,bit_error_rate\n0.7,1\n", "line 2"),
        ("supply_v,bit_error_rate\n-0.7,1e-9\n", "line 2"),
        ("supply_v,bit_error_rate\nnan,1e-9\n", "line 2"),
        ("supply_v,bit_error_rate\n700,1e-9\n", "line 2.*not millivolts"),
        ("supply_v,bit_error_rate\n0.7,1e-6\n0.6,1e-9\n", "rises with the voltage"),
        ("supply_v,bit_error_rate\n0.7,1e-9\n0.7,1e-8\n", "line 3.*again"),
        ("supply_v,bit_error_rate\n0.7,1e-9\n0.6,1e-9\n", "line 3.*again"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "v.csv"
    path.write_text(text)
    with pytest.raises(BadData, match=said):
        read_voltages(path)


def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.csv", tmp_path / "binary.csv"):
        with pytest.raises(BadData, match="unreadable"):
            read_voltages(path)
