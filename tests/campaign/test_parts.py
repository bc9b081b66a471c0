"""Parts: whole files or none; damage is found and redone."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from stored import MANIFEST, trials, write

from emulator.campaign.manifest import campaign_digest, write_manifest
from emulator.campaign.parts import (
    complete_chunks,
    encoded_part,
    end_with,
    part_path,
    read_part,
    read_parts,
    stored_chunks,
)
from emulator.campaign.schema import COLUMNS
from emulator.errors import BadConfig, BadData


def every(campaign: Path) -> pa.Table:
    names = [column.name for column in COLUMNS]
    return pa.concat_tables(read_parts(campaign, stored_chunks(campaign), campaign_digest(campaign), names))


def test_trials_come_back_in_chunk_order_with_units(campaign: Path) -> None:
    table = every(campaign)
    assert table.column_names == [column.name for column in COLUMNS]
    assert table["trial_id"].to_pylist() == list(range(150))
    assert table["register"].to_pylist() == ["pe_0"] * 50 + ["pe_1"] * 50 + ["pe_2"] * 50
    assert table["until_cycle"].to_pylist()[:6] == [None, 0, None, 2, None, 4]
    for column in COLUMNS:
        metadata = table.schema.field(column.name).metadata
        assert metadata == {b"unit": column.unit.encode(), b"description": column.description.encode()}


def test_a_part_reads_back_as_it_was_written(campaign: Path) -> None:
    written, got = trials(1), read_part(campaign, 1)
    assert list(got) == [column.name for column in COLUMNS]
    for name, values in written.items():
        assert got[name].tolist() == [
            None if v is not None and name == "until_cycle" and v < 0 else v for v in values.tolist()
        ], name
    before = part_path(campaign, 1).read_bytes()
    write(campaign, 1, got)
    assert part_path(campaign, 1).read_bytes() == before
    with pytest.raises(BadData, match="unreadable"):
        read_part(campaign, 9)


def test_equal_data_gives_equal_bytes(campaign: Path) -> None:
    before = part_path(campaign, 1).read_bytes()
    write(campaign, 1, trials(1))
    assert part_path(campaign, 1).read_bytes() == before


def test_a_negative_until_cycle_is_null(campaign: Path) -> None:
    write(campaign, 0, {**trials(0), "until_cycle": np.full(50, -1)})
    assert every(campaign)["until_cycle"][:50].null_count == 50


def test_a_part_of_another_campaign_is_set_aside(campaign: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_manifest(other, {**MANIFEST, "seed": 99})
    write(other, 1, trials(1))
    part_path(campaign, 1).write_bytes(part_path(other, 1).read_bytes())
    assert complete_chunks(campaign, lambda _: 50) == [0, 2]


def test_a_truncated_or_flipped_part_is_set_aside(campaign: Path) -> None:
    truncated, flipped = part_path(campaign, 0), part_path(campaign, 2)
    truncated.write_bytes(truncated.read_bytes()[:-100])
    data = bytearray(flipped.read_bytes())
    data[200] ^= 0x10  # inside a page: only a checksum sees it
    flipped.write_bytes(data)
    with pytest.raises(BadData, match=r"part-000000\.parquet: unreadable"):
        every(campaign)
    assert complete_chunks(campaign, lambda _: 50) == [1]
    assert sorted(p.name for p in (campaign / "trials").iterdir()) == [
        "part-000000.parquet.corrupt",
        "part-000001.parquet",
        "part-000002.parquet.corrupt",
    ]


def test_a_part_whose_names_are_no_text_is_set_aside(campaign: Path) -> None:
    path = part_path(campaign, 1)
    data = path.read_bytes()
    assert data.count(b"trial_id") > 1
    path.write_bytes(data.replace(b"trial_id", b"tri\xff\xfe_id"))
    with pytest.raises(BadData, match=r"part-000001\.parquet: unreadable"):
        every(campaign)
    assert complete_chunks(campaign, lambda _: 50) == [0, 2]


def test_some_columns_read_back_as_all_do(campaign: Path) -> None:
    some, whole = read_part(campaign, 1, ["until_cycle", "register"]), read_part(campaign, 1)
    assert sorted(some) == ["register", "until_cycle"]
    for name, values in some.items():
        assert values.tolist() == whole[name].tolist()
    part_path(campaign, 1).replace(part_path(campaign, 2))
    with pytest.raises(BadData, match="another chunk"):
        read_part(campaign, 2, ["register"])


def test_a_short_chunk_is_not_complete_but_kept(campaign: Path) -> None:
    write(campaign, 2, trials(2, n=7))
    assert complete_chunks(campaign, lambda chunk: 50) == [0, 1]
    assert complete_chunks(campaign, lambda chunk: 7 if chunk == 2 else 50) == [0, 1, 2]


def test_a_part_under_the_wrong_number_is_set_aside(campaign: Path) -> None:
    part_path(campaign, 1).rename(part_path(campaign, 5))
    assert complete_chunks(campaign, lambda _: 50) == [0, 2]


def test_an_empty_part_under_the_wrong_number_is_set_aside(campaign: Path) -> None:
    write(campaign, 3, trials(3, n=0))
    part_path(campaign, 3).rename(part_path(campaign, 7))
    assert complete_chunks(campaign, lambda _: None) == [0, 1, 2]


def test_leftovers_of_a_killed_run_are_removed(campaign: Path) -> None:
    leftovers = [campaign / ".manifest.json.17.tmp", campaign / "trials" / ".part-000009.parquet.17.tmp"]
    for path in leftovers:
        path.write_bytes(b"half")
    assert complete_chunks(campaign, lambda _: 50) == [0, 1, 2]
    assert not any(path.exists() for path in leftovers)


def test_a_campaign_ends_with_its_last_chunk(campaign: Path) -> None:
    end_with(campaign, 0)
    assert complete_chunks(campaign, lambda _: 50) == [0]
    assert complete_chunks(campaign / "absent", lambda _: 50) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"row": None}, "missing columns .'row'"),
        ({"rows": np.zeros(50)}, "unknown columns .'rows'"),
        ({"row": np.zeros(49, np.int32)}, "shapes"),
        ({"row": np.full(50, 1 << 40)}, "chunk 0"),
        ({"kind": np.full(50, None)}, "50 nulls"),
    ],
)
def test_bad_columns_are_refused(change: dict[str, Any], words: str) -> None:
    columns = {k: v for k, v in {**trials(0), **change}.items() if v is not None}
    with pytest.raises(BadData, match=words):
        encoded_part(0, columns, "digest")


def test_a_full_disk_is_one_clear_error_and_leaves_no_trace(
    campaign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadConfig, match="No space left"):
        write(campaign, 3, trials(3))
    assert len(list((campaign / "trials").iterdir())) == 3


def test_a_chunk_beyond_six_digits_is_found_again(campaign: Path) -> None:
    write(campaign, 1_234_567, trials(1_234_567))
    assert stored_chunks(campaign) == [0, 1, 2, 1_234_567]


def test_parts_that_agree_on_another_campaign_blame_the_manifest(campaign: Path) -> None:
    write_manifest(campaign, {**MANIFEST, "seed": 8})
    with pytest.raises(BadData, match=r"not that of these trials \(edited or swapped\?\).*copy its manifest"):
        read_part(campaign, 1)
    write(campaign, 0, trials(0))
    with pytest.raises(
        BadData, match=r"part-000001\.parquet: unreadable \(its trials belong to another campaign"
    ):
        read_part(campaign, 1)
