"""A campaign directory as settings: what `run` was told is what it is told again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emulator.array.spec import ArraySpec
from emulator.campaign.config import make_config
from emulator.campaign.manifest import write_manifest
from emulator.campaign.resumed import resumed
from emulator.campaign.runner import Campaign
from emulator.errors import BadConfig
from emulator.faults.space import FaultSpace
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
    again = resumed(tmp_path, {})
    assert again.output == tmp_path
    assert again.campaign().manifest() == manifest


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
