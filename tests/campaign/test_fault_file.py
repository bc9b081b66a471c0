"""Faults from a Parquet file: what is read, and what is refused. pandas writes the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from emulator.array.upset import Upset
from emulator.campaign.fault_file import read_faults
from emulator.errors import BadData
from emulator.faults.fault import Fault

LAYERS = ["conv1", "fc"]
ROW: dict[str, Any] = {"layer": 1, "register": "pe_b", "row": 3, "col": 2, "bits": 0b101, "cycle": 40}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "faults.parquet"
    pd.DataFrame(list(rows)).to_parquet(path)
    return path


def test_a_row_is_a_fault_and_bits_a_mask(tmp_path: Path) -> None:
    (found,) = read_faults(written(tmp_path, ROW), LAYERS)
    upset = Upset(register="pe_b", row=3, col=2, bits=(0, 2), cycle=40)
    assert (found.fault, found.image) == (Fault(layer=1, upset=upset), None)


def test_a_layer_may_be_named_and_a_fault_may_last_and_name_its_input(tmp_path: Path) -> None:
    lasting = ROW | {"layer": "conv1", "kind": "stuck-at-1", "until_cycle": 50, "input_id": 7, "note": "else"}
    flip = lasting | {"kind": "flip", "until_cycle": None, "input_id": None}
    first, second = read_faults(written(tmp_path, lasting, flip), LAYERS)
    assert (first.fault.layer, first.fault.upset.kind, first.fault.upset.until_cycle) == (0, "stuck-at-1", 50)
    assert (first.image, second.image, second.fault.upset.until_cycle) == (7, None, None)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"layer": 1}], "lacks register, row, col, bits, cycle"),
        ([ROW, ROW | {"layer": 5}], "row 1: layer 5 is not a MAC layer"),
        ([ROW | {"bits": 0}], "row 0: Upset: bits"),
        ([ROW | {"kind": "stuck"}], "row 0: Upset: kind='stuck'"),
        ([ROW | {"cycle": None}], "row 0: "),
    ],
)
def test_what_is_no_fault_is_refused_with_its_row(
    rows: list[dict[str, Any]], words: str, tmp_path: Path
) -> None:
    with pytest.raises(BadData, match=words):
        read_faults(written(tmp_path, *rows), LAYERS)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1nothing")
    for name in ("a.parquet", "absent.parquet"):
        with pytest.raises(BadData, match=f"{name}' can't be read: .*Give a Parquet file"):
            read_faults(tmp_path / name, LAYERS)
    empty = pd.DataFrame({name: [] for name in ROW})
    empty.to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(BadData, match="has no rows"):
        read_faults(tmp_path / "empty.parquet", LAYERS)
