"""One campaign a directory, and nothing else is written to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stored import MANIFEST

from emulator.campaign.manifest import SCHEMA, check_manifest, read_manifest, write_manifest
from emulator.campaign.parts import (
    complete_chunks,
    stored_chunks,
)
from emulator.campaign.trials import StoredTrials
from emulator.errors import BadConfig, BadData


def test_a_run_killed_before_its_manifest_can_start_again(tmp_path: Path) -> None:
    (tmp_path / ".manifest.json.17.tmp").write_bytes(b"{")
    assert not check_manifest(tmp_path, MANIFEST)


def test_the_same_campaign_resumes_and_extends(campaign: Path) -> None:
    assert check_manifest(campaign, MANIFEST)
    write_manifest(campaign, {**MANIFEST, "stop": {"max_trials": 99}})
    assert read_manifest(campaign)["stop"] == {"max_trials": 99}


def test_another_campaign_is_refused_and_each_difference_named(campaign: Path) -> None:
    other = {**MANIFEST, "seed": 8, "model": {"name": "m", "sha256": "bb"}, "new": [1]}
    before = (campaign / "manifest.json").read_bytes()
    with pytest.raises(BadConfig) as refused:
        check_manifest(campaign, other)
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
        check_manifest(tmp_path, MANIFEST)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(BadConfig, match="is a file"):
        check_manifest(tmp_path / "thesis.tex", MANIFEST)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b""])
def test_a_corrupt_manifest_is_one_clear_error_that_mends_it(
    campaign: Path, tmp_path: Path, content: bytes
) -> None:
    (campaign / "manifest.json").write_bytes(content)
    with pytest.raises(BadData, match=r"manifest\.json.* another -o and copy its manifest\.json here"):
        check_manifest(campaign, MANIFEST)
    write_manifest(tmp_path / "b", MANIFEST)
    (tmp_path / "b" / "manifest.json").replace(campaign / "manifest.json")
    assert check_manifest(campaign, MANIFEST)
    assert complete_chunks(campaign, lambda _: 50) == [0, 1, 2]


@pytest.mark.parametrize("schema", [SCHEMA - 1, SCHEMA + 1, str(SCHEMA), None])
def test_a_manifest_of_another_version_is_one_clear_error(campaign: Path, schema: Any) -> None:
    write_manifest(campaign, {**MANIFEST, "schema": schema})
    words = r"manifest\.json: schema {}, of another version; allowed: {}\. Choose another -o"
    for read in (read_manifest, StoredTrials, lambda path: check_manifest(path, MANIFEST)):
        with pytest.raises(BadData, match=words.format(repr(schema), SCHEMA)):
            read(campaign)
    assert len(stored_chunks(campaign)) == 3


def test_missing_manifest_and_trials_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="not a campaign directory"):
        read_manifest(tmp_path)
    write_manifest(tmp_path, MANIFEST)
    with pytest.raises(BadData, match="no trials yet"):
        StoredTrials(tmp_path)


def test_the_manifest_is_readable_json(campaign: Path) -> None:
    assert json.loads((campaign / "manifest.json").read_text())["registers"] == ["pe_a", "pe_b"]
