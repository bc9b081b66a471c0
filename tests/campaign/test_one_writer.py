"""One run at a time writes into a directory."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest
from stored import MANIFEST

from emulator.campaign.manifest import check_manifest
from emulator.campaign.one_writer import being_written, only_writer
from emulator.errors import BadConfig


def test_a_second_writer_is_refused_and_told(campaign: Path) -> None:
    with only_writer(campaign), pytest.raises(BadConfig, match="another run is writing here"):
        only_writer(campaign).__enter__()
    with only_writer(campaign):
        check_manifest(campaign, MANIFEST)


def test_whether_a_directory_is_being_written_is_seen_from_outside(campaign: Path, tmp_path: Path) -> None:
    assert not being_written(tmp_path / "nowhere")
    with only_writer(campaign):
        assert being_written(campaign)
    assert not being_written(campaign)


def test_who_just_looks_keeps_no_writer_out(campaign: Path) -> None:
    with (campaign / ".lock").open("wb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        away = threading.Timer(0.03, fcntl.flock, (looking, fcntl.LOCK_UN))
        away.start()
        with only_writer(campaign):
            assert being_written(campaign)
        away.join()


def test_a_lock_alone_is_an_empty_directory(tmp_path: Path) -> None:
    with only_writer(tmp_path / "new"):
        assert not check_manifest(tmp_path / "new", MANIFEST)
