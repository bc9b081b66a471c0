"""Which trial an id means."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emulator.campaign.replay import replay, whole_id
from emulator.campaign.trials import HeldTrials
from emulator.errors import BadConfig, BadData
from emulator.sampling.stopping import max_trials

TRIALS = HeldTrials(pd.DataFrame({"fault_id": np.array(["16a", "16acaf", "16b00", "16b00", "7"], object)}))


@pytest.mark.parametrize("given", ["16a", "16acaf", "16ACAF", "16b00", "7"])
def test_a_whole_id_is_taken_without_a_word(given: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert whole_id(TRIALS, given) == given.lower()


def test_the_beginning_of_one_id_is_taken_and_told() -> None:
    with pytest.warns(UserWarning, match="'16ac': taken for 16acaf"):
        assert whole_id(TRIALS, "16ac") == "16acaf"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("16", r"3 of the trials begin so \(16a, 16acaf, 16b00"),
        ("16acaf0", "not among the 5 trials; allowed: .*fault_id, e.g. 16a. .*emulator inject"),
        ("", "not among the 5 trials"),
    ],
)
def test_other_ids_are_refused(given: str, words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        whole_id(TRIALS, given)


def test_an_edited_manifest_is_noticed_before_another_fault_is_explained(digits: Any, tmp_path: Path) -> None:
    from test_runner import campaign

    found = campaign(digits, max_trials(200)).collect(tmp_path / "run", workers=1)
    some = found.column("fault_id")[0]
    manifest = json.loads((tmp_path / "run/manifest.json").read_text("utf-8"))
    manifest["array"]["rows"] = 32
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(BadData, match="the manifest is not that of these trials"):
        replay(tmp_path / "run", some)
