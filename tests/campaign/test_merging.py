"""Campaigns of several seeds as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emulator as emu
from emulator.campaign.results import Results
from emulator.campaign.runner import Campaign
from emulator.errors import BadConfig
from emulator.faults.space import FaultSpace
from emulator.sampling.estimators import hansen_hurwitz
from emulator.sampling.exhaustive import Exhaustive
from emulator.sampling.stopping import ci_half_width, max_trials


def campaign(digits: Any, directory: Path, seed: int, **given: Any) -> Results:
    space = FaultSpace(digits.network, digits.array, registers=["pe_b"], layers=["fc"])
    settings = {"stop": max_trials(700), **given}
    made = Campaign(digits.network, digits.array, space, inputs=digits.data, limit=5, seed=seed, **settings)
    return made.collect(directory / str(seed), workers=1)


@pytest.fixture(scope="module")
def three(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    folder = tmp_path_factory.mktemp("merging")
    return [campaign(digits, folder, seed) for seed in (1, 2, 3)]


def test_merged_trials_are_those_of_one_longer_campaign(three: list[Results]) -> None:
    merged = emu.merge(*three)
    assert len(merged) == 2100 and merged.trials["trial_id"].is_unique
    assert merged.manifest["seed"] == [1, 2, 3]
    event = np.concatenate([run.trials["sdc1"].to_numpy(bool) for run in three])
    weight = np.concatenate([run.weight for run in three])
    assert merged.rate() == hansen_hurwitz(event, weight, max_weight=merged.max_weight)
    assert merged.summary()["n"].sum() == 2100
    worst = merged.critical(1)["fault_id"].iloc[0]
    assert merged.replay(worst).sdc1


def test_a_look_at_one_widens_all(digits: Any, three: list[Results], tmp_path: Path) -> None:
    looked = campaign(digits, tmp_path, 4, stop=ci_half_width(0.2))
    assert emu.merge(three[0], looked).rate().method == "betting" == emu.merge(looked, three[0]).rate().method


def test_what_can_not_be_added_is_refused(digits: Any, three: list[Results], tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="the seed 2 in common"):
        emu.merge(three[0], three[1], three[1])
    with pytest.raises(BadConfig, match=r"differs from .* in sampler"):
        emu.merge(three[0], campaign(digits, tmp_path, 7, sampler=emu.Uniform()))
    with pytest.raises(BadConfig, match="goes through every site"):
        emu.merge(three[0], campaign(digits, tmp_path, 8, sampler=Exhaustive(), stop=None))
