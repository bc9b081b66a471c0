"""The store: whole files or none, one campaign a directory, damage is found and redone."""

import errno
import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emulator.campaign import store
from emulator.campaign.schema import COLUMNS, MASKED_AT
from emulator.errors import BadConfig, BadData

MANIFEST = {
    "schema": 4,
    "model": {"name": "m", "sha256": "aa"},
    "registers": ("pe_a", "pe_b"),
    "seed": 7,
    "stop": {"max_trials": 10},
    "looked": False,
}
Columns = dict[str, npt.NDArray[Any]]


def trials(chunk: int, n: int = 50) -> Columns:
    rng = np.random.default_rng(chunk)
    text = {"masked_at": np.array(MASKED_AT)[rng.integers(0, 6, n)], "register": np.full(n, f"pe_{chunk}")}
    columns: Columns = {}
    for column in COLUMNS:
        if column.type in ("string", "dictionary"):
            columns[column.name] = text.get(column.name, np.full(n, "x", dtype=object))
        elif column.type == "bool":
            columns[column.name] = rng.random(n) < 0.5
        else:
            columns[column.name] = rng.integers(0, 100, n).astype(column.type)
    columns["trial_id"] = chunk * n + np.arange(n)
    columns["chunk"] = np.full(n, chunk)
    columns["until_cycle"] = np.ma.masked_array(np.arange(n) - 1, np.arange(n) % 2 == 0)
    return columns


def write(directory: Path, chunk: int, columns: Columns) -> None:
    store.write_part(directory, chunk, store.encoded_part(chunk, columns, store.campaign_digest(directory)))


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    directory = tmp_path / "runs" / "a"
    store.write_manifest(directory, MANIFEST)
    for chunk in (2, 0, 1):
        write(directory, chunk, trials(chunk))
    return directory


def test_trials_come_back_in_chunk_order_with_units(campaign: Path) -> None:
    table = store.read_parts(campaign)
    assert table.column_names == [column.name for column in COLUMNS]
    assert table["trial_id"].to_pylist() == list(range(150))
    assert table["register"].to_pylist() == ["pe_0"] * 50 + ["pe_1"] * 50 + ["pe_2"] * 50
    assert table["until_cycle"].to_pylist()[:6] == [None, 0, None, 2, None, 4]
    for column in COLUMNS:
        metadata = table.schema.field(column.name).metadata
        assert metadata == {b"unit": column.unit.encode(), b"description": column.description.encode()}


def test_a_part_reads_back_as_it_was_written(campaign: Path) -> None:
    written, got = trials(1), store.read_part(campaign, 1)
    assert list(got) == [column.name for column in COLUMNS]
    for name, values in written.items():
        assert got[name].tolist() == [
            None if v is not None and name == "until_cycle" and v < 0 else v for v in values.tolist()
        ], name
    before = store.part_path(campaign, 1).read_bytes()
    write(campaign, 1, got)
    assert store.part_path(campaign, 1).read_bytes() == before
    with pytest.raises(BadData, match="unreadable"):
        store.read_part(campaign, 9)


def test_equal_data_gives_equal_bytes(campaign: Path) -> None:
    before = store.part_path(campaign, 1).read_bytes()
    write(campaign, 1, trials(1))
    assert store.part_path(campaign, 1).read_bytes() == before


def test_a_negative_until_cycle_is_null(campaign: Path) -> None:
    write(campaign, 0, {**trials(0), "until_cycle": np.full(50, -1)})
    assert store.read_parts(campaign)["until_cycle"][:50].null_count == 50


def test_a_part_of_another_campaign_is_set_aside(campaign: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    store.write_manifest(other, {**MANIFEST, "seed": 99})
    write(other, 1, trials(1))
    store.part_path(campaign, 1).write_bytes(store.part_path(other, 1).read_bytes())
    assert store.complete_chunks(campaign, lambda _: 50) == [0, 2]


def test_a_truncated_or_flipped_part_is_set_aside(campaign: Path) -> None:
    truncated, flipped = store.part_path(campaign, 0), store.part_path(campaign, 2)
    truncated.write_bytes(truncated.read_bytes()[:-100])
    data = bytearray(flipped.read_bytes())
    data[200] ^= 0x10  # inside a page: only a checksum sees it
    flipped.write_bytes(data)
    with pytest.raises(BadData, match=r"part-000000\.parquet: unreadable"):
        store.read_parts(campaign)
    assert store.complete_chunks(campaign, lambda _: 50) == [1]
    assert sorted(p.name for p in (campaign / "trials").iterdir()) == [
        "part-000000.parquet.corrupt",
        "part-000001.parquet",
        "part-000002.parquet.corrupt",
    ]


def test_a_part_whose_names_are_no_text_is_set_aside(campaign: Path) -> None:
    path = store.part_path(campaign, 1)
    data = path.read_bytes()
    assert data.count(b"trial_id") > 1
    path.write_bytes(data.replace(b"trial_id", b"tri\xff\xfe_id"))
    with pytest.raises(BadData, match=r"part-000001\.parquet: unreadable"):
        store.read_parts(campaign)
    assert store.complete_chunks(campaign, lambda _: 50) == [0, 2]


def test_some_columns_read_back_as_all_do(campaign: Path) -> None:
    some, every = store.read_part(campaign, 1, ["until_cycle", "register"]), store.read_part(campaign, 1)
    assert sorted(some) == ["register", "until_cycle"]
    for name, values in some.items():
        assert values.tolist() == every[name].tolist()
    store.part_path(campaign, 1).replace(store.part_path(campaign, 2))
    with pytest.raises(BadData, match="another chunk"):
        store.read_part(campaign, 2, ["register"])


def test_a_short_chunk_is_not_complete_but_kept(campaign: Path) -> None:
    write(campaign, 2, trials(2, n=7))
    assert store.complete_chunks(campaign, lambda chunk: 50) == [0, 1]
    assert store.complete_chunks(campaign, lambda chunk: 7 if chunk == 2 else 50) == [0, 1, 2]


def test_a_part_under_the_wrong_number_is_set_aside(campaign: Path) -> None:
    store.part_path(campaign, 1).rename(store.part_path(campaign, 5))
    assert store.complete_chunks(campaign, lambda _: 50) == [0, 2]


def test_leftovers_of_a_killed_run_are_removed(campaign: Path) -> None:
    leftovers = [campaign / ".manifest.json.17.tmp", campaign / "trials" / ".part-000009.parquet.17.tmp"]
    for path in leftovers:
        path.write_bytes(b"half")
    assert store.complete_chunks(campaign, lambda _: 50) == [0, 1, 2]
    assert not any(path.exists() for path in leftovers)


def test_a_run_killed_before_its_manifest_can_start_again(tmp_path: Path) -> None:
    (tmp_path / ".manifest.json.17.tmp").write_bytes(b"{")
    assert not store.check_manifest(tmp_path, MANIFEST)


def test_a_campaign_ends_with_its_last_chunk(campaign: Path) -> None:
    store.end_with(campaign, 0)
    assert store.complete_chunks(campaign, lambda _: 50) == [0]
    assert store.complete_chunks(campaign / "absent", lambda _: 50) == []


def test_the_same_campaign_resumes_and_extends(campaign: Path) -> None:
    assert store.check_manifest(campaign, MANIFEST)
    store.write_manifest(campaign, {**MANIFEST, "stop": {"max_trials": 99}})
    assert store.read_manifest(campaign)["stop"] == {"max_trials": 99}


def test_another_campaign_is_refused_and_each_difference_named(campaign: Path) -> None:
    other = {**MANIFEST, "seed": 8, "model": {"name": "m", "sha256": "bb"}, "new": [1]}
    before = (campaign / "manifest.json").read_bytes()
    with pytest.raises(BadConfig) as refused:
        store.check_manifest(campaign, other)
    for line in (
        "seed: stored 7, new 8",
        'model.sha256: stored "aa", new "bb"',
        "new: stored absent, new [1]",
        "-o",
    ):
        assert line in str(refused.value)
    assert "model.name" not in str(refused.value)
    assert (campaign / "manifest.json").read_bytes() == before


def test_a_foreign_directory_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(BadConfig, match="not a campaign directory; nothing was written"):
        store.check_manifest(tmp_path, MANIFEST)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(BadConfig, match="is a file"):
        store.check_manifest(tmp_path / "thesis.tex", MANIFEST)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b""])
def test_a_corrupt_manifest_is_one_clear_error_that_mends_it(
    campaign: Path, tmp_path: Path, content: bytes
) -> None:
    (campaign / "manifest.json").write_bytes(content)
    with pytest.raises(BadData, match=r"manifest\.json.* another -o and copy its manifest\.json here"):
        store.check_manifest(campaign, MANIFEST)
    store.write_manifest(tmp_path / "b", MANIFEST)
    (tmp_path / "b" / "manifest.json").replace(campaign / "manifest.json")
    assert store.check_manifest(campaign, MANIFEST)
    assert store.complete_chunks(campaign, lambda _: 50) == [0, 1, 2]


@pytest.mark.parametrize("schema", [3, 5, "4", None])
def test_a_manifest_of_another_version_is_one_clear_error(campaign: Path, schema: Any) -> None:
    store.write_manifest(campaign, {**MANIFEST, "schema": schema})
    words = r"manifest\.json: schema {}, of another version; allowed: 4\. Choose another -o"
    for read in (store.read_manifest, store.read_parts, lambda path: store.check_manifest(path, MANIFEST)):
        with pytest.raises(BadData, match=words.format(repr(schema))):
            read(campaign)
    assert len(store.stored_chunks(campaign)) == 3


def test_missing_manifest_and_trials_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="not a campaign directory"):
        store.read_manifest(tmp_path)
    store.write_manifest(tmp_path, MANIFEST)
    with pytest.raises(BadData, match="no trials yet"):
        store.read_parts(tmp_path)


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
        store.encoded_part(0, columns, "digest")


def test_a_full_disk_is_one_clear_error_and_leaves_no_trace(
    campaign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadConfig, match="No space left"):
        write(campaign, 3, trials(3))
    assert len(list((campaign / "trials").iterdir())) == 3


def test_a_second_writer_is_refused_and_told(campaign: Path) -> None:
    with store.only_writer(campaign), pytest.raises(BadConfig, match="another run is writing here"):
        store.only_writer(campaign).__enter__()
    with store.only_writer(campaign):
        store.check_manifest(campaign, MANIFEST)


def test_whether_a_directory_is_being_written_is_seen_from_outside(campaign: Path, tmp_path: Path) -> None:
    assert not store.being_written(tmp_path / "nowhere")
    with store.only_writer(campaign):
        assert store.being_written(campaign)
    assert not store.being_written(campaign)


def test_who_just_looks_keeps_no_writer_out(campaign: Path) -> None:
    with (campaign / ".lock").open("wb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        away = threading.Timer(0.03, fcntl.flock, (looking, fcntl.LOCK_UN))
        away.start()
        with store.only_writer(campaign):
            assert store.being_written(campaign)
        away.join()


def test_a_lock_alone_is_an_empty_directory(tmp_path: Path) -> None:
    with store.only_writer(tmp_path / "new"):
        assert not store.check_manifest(tmp_path / "new", MANIFEST)


def test_the_manifest_is_readable_json(campaign: Path) -> None:
    assert json.loads((campaign / "manifest.json").read_text())["registers"] == ["pe_a", "pe_b"]
