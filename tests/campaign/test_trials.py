"""Trials are read a column at a time, as they were when the table was opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset
import pytest
from stored import MANIFEST, trials, write

from emulator.campaign.manifest import write_manifest
from emulator.campaign.parts import part_path
from emulator.campaign.schema import COLUMNS
from emulator.campaign.trials import HeldTrials, StoredTrials
from emulator.errors import BadData


def test_each_column_is_that_of_the_whole_table(campaign: Path) -> None:
    stored = StoredTrials(campaign)
    # Arrow's own reader of a folder of files.
    table = pyarrow.dataset.dataset(campaign / "trials").to_table().sort_by("trial_id")
    assert len(stored) == len(table) == 150
    for column in COLUMNS:
        if not column.nullable:
            assert stored.column(column.name).tolist() == table[column.name].to_pylist()
    frame = stored.rows()
    assert list(frame.columns) == [column.name for column in COLUMNS]
    assert frame["until_cycle"].dtype == "Int64"
    assert frame["until_cycle"].isna().tolist() == [v is None for v in table["until_cycle"].to_pylist()]


def test_chosen_rows_are_those_of_the_whole_table(campaign: Path) -> None:
    stored = StoredTrials(campaign)
    chosen = np.random.default_rng(0).random(150) < 0.2
    chosen[50:100] = False  # none of a whole part
    for found in (stored.rows(chosen), HeldTrials(stored.rows()).rows(chosen)):
        pd.testing.assert_frame_equal(found, stored.rows()[chosen], check_categorical=False)


def test_what_comes_later_is_not_part_of_it(campaign: Path) -> None:
    stored = StoredTrials(campaign)
    write(campaign, 3, trials(3))
    assert len(stored) == len(stored.column("sdc1")) == len(stored.rows()) == 150
    assert len(StoredTrials(campaign)) == 200


def test_parts_of_unequal_length_are_chosen_from_in_their_order(campaign: Path) -> None:
    write(campaign, 3, trials(3, n=7))
    stored = StoredTrials(campaign)
    chosen = np.arange(157) >= 148
    assert stored.rows(chosen)["trial_id"].tolist() == [148, 149, *range(150, 157)]


def test_a_part_that_is_written_again_is_told(campaign: Path) -> None:
    write(campaign, 3, trials(3, n=7))
    stored = StoredTrials(campaign)
    write(campaign, 3, trials(3))
    with pytest.raises(BadData, match="50 trials, 7 when it was opened"):
        stored.column("sdc1")


def test_another_campaign_in_its_place_is_told(campaign: Path) -> None:
    stored = StoredTrials(campaign)
    write_manifest(campaign, {**MANIFEST, "seed": 8})
    for chunk in range(3):
        write(campaign, chunk, trials(chunk))
    with pytest.raises(BadData, match="the manifest is not that of these trials"):
        stored.column("sdc1")


def test_a_damaged_column_is_told_when_it_is_asked_for(campaign: Path) -> None:
    path = part_path(campaign, 2)
    data = bytearray(path.read_bytes())
    data[200] ^= 0x10  # in a page of the first column
    path.write_bytes(data)
    stored = StoredTrials(campaign)
    assert len(stored.column("row")) == 150
    with pytest.raises(BadData, match=r"part-000002\.parquet: unreadable"):
        stored.column("trial_id")


def test_a_part_that_is_none_is_told_at_once(campaign: Path) -> None:
    part_path(campaign, 1).write_bytes(b"PAR1")
    with pytest.raises(BadData, match=r"part-000001\.parquet: unreadable"):
        StoredTrials(campaign)
