"""A campaign directory as settings: what `run` was told is what it is told again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emulator.array.spec import ArraySpec
from emulator.campaign.config import CampaignConfig, make_config
from emulator.campaign.manifest import check_manifest, write_manifest
from emulator.campaign.resumed import resumed
from emulator.campaign.runner import Campaign
from emulator.errors import BadConfig
from emulator.faults.space import FaultSpace
from emulator.sampling.importance import Importance
from emulator.sampling.registry import NAMES, settable
from emulator.sampling.stopping import ci_half_width, max_trials


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {
            "sampler": "importance",
            "alpha": 0.3,
            "sensitivity": "finite-difference",
            "until_ci": 0.01,
            "max_time": 5,
        },
        {"sampler": "stratified", "trials": 700, "min_critical": 3, "seed": 5},
        {"sampler": "stratified", "floor": 3.0},
        {"sampler": "adaptive", "prior": 5, "alpha": 0.7},
        {
            "sampler": "importance",
            "learn": True,
            "floor": 0.01,
            "unsolved": 0.1,
            "lookahead": 0,
            "candidates": 3,
        },
        {"sampler": "uniform"},
        {"sampler": "sweep", "trials": 900, "layers": ["fc"]},
        {"sampler": "exhaustive", "registers": ["accumulator"], "array": "gemmini-8"},
    ],
)
def test_a_campaign_is_made_of_its_manifest_again(
    digits: Any, tmp_path: Path, chosen: dict[str, Any]
) -> None:
    values = {"model": digits.path, "inputs": digits.data, "limit": 3, "output": tmp_path, **chosen}
    manifest = make_config(values, "test").campaign().manifest()
    write_manifest(tmp_path, manifest)
    told = {key: value for key, value in chosen.items() if key in settable(manifest["sampler"]["name"])}
    assert told.items() <= manifest["sampler"].items()
    again = resumed(tmp_path, {})
    assert again.output == tmp_path
    assert again.campaign().manifest() == manifest


@pytest.mark.parametrize("name", NAMES)
def test_whatever_a_sampler_can_be_told_a_file_can_tell(name: str) -> None:
    assert set(settable(name)) <= CampaignConfig.model_fields.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine(Importance):
    """Of a user: by a name of its own, or with a setting that no sampler of ours has."""

    mine: int = 3


@pytest.mark.parametrize("name", ["mine", "importance"])
def test_a_sampler_of_a_user_is_resumed_in_python(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Mine, "name", name)
    space = FaultSpace(digits.network, digits.array, layers="fc")
    made = Campaign(digits.network, digits.array, space, inputs=digits.inputs[:2], sampler=Mine())
    write_manifest(tmp_path, made.manifest())
    with pytest.raises(BadConfig, match=f"the sampler '{name}' of this campaign is not one of.* in Python"):
        resumed(tmp_path, {"inputs": digits.data})


def test_another_sampler_is_told_as_another_campaign(digits: Any, tmp_path: Path) -> None:
    values = {"model": digits.path, "inputs": digits.data, "limit": 3, "output": tmp_path}
    write_manifest(tmp_path, make_config(values, "test").campaign().manifest())
    with pytest.raises(BadConfig, match=r'sampler\.name: stored "importance", new "uniform"'):
        check_manifest(tmp_path, resumed(tmp_path, {"sampler": "uniform"}).campaign().manifest())


def test_what_no_flag_says_is_asked_for(digits: Any, tmp_path: Path) -> None:
    array = ArraySpec(name="mine", rows=8, cols=8)
    space = FaultSpace(digits.network, array, layers="fc")
    stop = max_trials(100) & ci_half_width(0.1)
    write_manifest(
        tmp_path, Campaign(digits.network, array, space, inputs=digits.inputs[:2], stop=stop).manifest()
    )
    given: dict[str, Any] = {}
    for words, name, value in (
        ("were no file", "inputs", digits.data),
        ("'mine' of this campaign is no preset", "array", "gemmini-8"),
        ("'all'", "trials", 200),
    ):
        with pytest.raises(BadConfig, match=words):
            resumed(tmp_path, given)
        given[name] = value
    assert resumed(tmp_path, given).trials == 200
