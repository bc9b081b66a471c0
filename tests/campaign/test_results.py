"""Results against a campaign of eight trials whose rates can be worked out by hand."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.campaign.manifest import SCHEMA, campaign_digest, check_manifest, write_manifest
from emulator.campaign.one_writer import only_writer
from emulator.campaign.parts import encoded_part, write_part
from emulator.campaign.results import Results
from emulator.campaign.schema import COLUMNS
from emulator.errors import BadConfig, BadData
from emulator.sampling.clustered import clustered
from emulator.sampling.confidence_sequence import ConfidenceSequence
from emulator.sampling.intervals import wilson

MANIFEST: dict[str, Any] = {
    "schema": SCHEMA,
    "model": {"name": "tiny"},
    "inputs": {"samples": 3},
    "array": {"name": "gemmini-8", "rows": 8, "cols": 8},
    "registers": ["pe_b", "pe_a"],
    "layers": [{"index": 0, "name": "stem"}, {"index": 1, "name": "head"}],
    "sampler": {"name": "uniform", "alpha": 1.0},
    "stop": {"max_trials": 8},
    "looked": False,
    "space": {
        "size": 1000,
        "live": 250,
        "breakdown": [
            {"layer": 0, "layer_name": "stem", "register": "pe_a", "sites": 400, "live": 200},
            {"layer": 0, "layer_name": "stem", "register": "pe_b", "sites": 300, "live": 0},
            {"layer": 1, "layer_name": "head", "register": "pe_a", "sites": 200, "live": 40},
            {"layer": 1, "layer_name": "head", "register": "pe_b", "sites": 100, "live": 10},
        ],
    },
}


def columns(**given: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        c.name: np.full(8, "x")
        if c.type in ("string", "dictionary")
        else np.zeros(8, bool if c.type == "bool" else int)
        for c in COLUMNS
    }
    return {
        **empty,
        "trial_id": np.arange(8),
        "fault_id": np.array([f"{i:02x}" for i in range(8)]),
        "layer": np.array([0] * 6 + [1] * 2),
        "layer_name": np.array(["stem"] * 6 + ["head"] * 2),
        "register": np.full(8, "pe_a"),
        "bits": np.array([1, 1, 2, 4, 128, 128, 128, 1]),
        "masked_at": np.array(["array", "requant", "requant", "clamp", "none", "none", "none", "network"]),
        "sdc1": np.array([0, 0, 0, 0, 1, 1, 1, 0], bool),
        "tie": np.array([0, 0, 0, 0, 1, 0, 0, 0], bool),
        "margin_golden": np.array([0, 0, 0, 0, 9, 3, 5, 0]),
        "until_cycle": np.array([-1] * 7 + [40]),
        **given,
    }


def campaign(directory: Path, manifest: dict[str, Any] = MANIFEST, **given: Any) -> Results:
    write_manifest(directory, manifest)
    part = encoded_part(0, columns(**given), campaign_digest(directory))
    write_part(directory, 0, part)
    return Results.open(directory)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return campaign(tmp_path)


def test_rates_over_live_sites_and_over_everything(results: Results) -> None:
    live, everywhere = results.rate(), results.population_rate()
    assert (live.value, live.low, live.high) == (3 / 8, *wilson(3, 8))
    assert (everywhere.value, everywhere.low) == (3 / 8 / 4, wilson(3, 8)[0] / 4)
    assert results.rate(ties=False).value == 2 / 8
    assert len(results) == 8


def test_a_campaign_that_stopped_on_what_it_found_has_the_interval_that_may(
    tmp_path: Path,
) -> None:
    results = campaign(tmp_path, {**MANIFEST, "looked": True})
    sequence = ConfidenceSequence()
    sequence.add([0, 0, 0, 0, 1, 1, 1, 0], np.ones(8))
    found = results.rate()
    assert found == sequence.estimate()
    assert (found.method, found.value) == ("betting", 3 / 8)
    assert results.masked()["requant"].method == "betting"
    assert results.population_rate().high == found.high / 4


def test_other_images_alike_are_less_certain_than_these(tmp_path: Path) -> None:
    images = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    results = campaign(tmp_path, input_id=images)
    found = results.rate(images="alike")
    assert found == clustered([0, 0, 0, 0, 1, 1, 1, 0], np.ones(8), images, heaviest_unseen=1)
    assert (found.method, found.value) == ("clustered", results.rate().value)
    assert found.half_width > results.rate().half_width
    assert results.to_json()["sdc1_live_images_alike"]["value"] == 3 / 8
    with pytest.raises(BadData, match="2 clusters or more"):
        campaign(tmp_path / "one", input_id=np.zeros(8, int)).rate(images="alike")


def test_masked_shares_add_up_and_dead_sites_are_counted(results: Results) -> None:
    masked = results.masked()
    assert {name: share.value for name, share in masked.items()} == {
        "dead": 0.75,
        "array": 1 / 32,
        "requant": 2 / 32,
        "clamp": 1 / 32,
        "network": 1 / 32,
        "none": 3 / 32,
    }
    assert masked["dead"].method == "exact"


def test_groups_come_in_network_order(results: Results) -> None:
    by_layer = results.by("layer")
    assert by_layer["layer"].tolist() == ["stem", "head"]
    assert by_layer["value"].tolist() == [2 / 6, 1 / 2]
    assert results.by("bit")["bit"].tolist() == [0, 1, 2, 7]
    assert results.by(["layer", "bit"], "tie")["value"].tolist() == [0, 0, 0, 0.5, 0, 0]


def test_summary_scales_to_all_sites_and_names_what_nobody_tried(results: Results) -> None:
    rows = results.summary().set_index(["layer", "register"])
    assert rows.index.tolist() == [("stem", "pe_b"), ("stem", "pe_a"), ("head", "pe_b"), ("head", "pe_a")]
    assert rows.loc[("stem", "pe_a"), "avf"] == pytest.approx(200 / 400 * 2 / 6)
    assert rows.loc[("stem", "pe_b"), ["value", "avf_high", "method"]].tolist() == [0.0, 0.0, "exact"]
    unseen = rows.loc[("head", "pe_b")]
    assert np.isnan(unseen["avf"]) and (unseen["n"], unseen["avf_high"], unseen["method"]) == (
        0,
        0.1,
        "no trials",
    )
    found = 200 * 2 / 6, 40 * 1 / 2
    assert rows.loc[("head", "pe_a"), "share"] == pytest.approx(found[1] / sum(found))
    assert results.summary("register")["sites"].tolist() == [400, 600]
    assert "avf" not in results.summary(["bit", "layer"])


def test_precision_counts_the_first_trials_of_a_uniform_campaign(results: Results) -> None:
    assert results.precision_at(4).value == 0
    assert results.precision_at(5).value == 1 / 5
    assert results.precision_at(100).n == 8


def test_precision_follows_the_scores_and_counts_a_repeated_fault_once(tmp_path: Path) -> None:
    manifest = {**MANIFEST, "sampler": {"name": "importance", "alpha": 0.5}}
    weight = np.array([1.5, 1.5, 1.5, 1.5, 0.2, 0.1, 0.1, 1.5])
    fault_id = np.array(["a", "b", "c", "d", "e", "f", "f", "g"])
    score = np.array([0.1, 0.2, 0.1, 0.1, 0.5, 0.9, 0.9, np.nan])
    results = campaign(tmp_path, manifest, log_weight=np.log(weight), score=score, fault_id=fault_id)
    first = results.precision_at(2)
    assert (first.value, first.n) == (1.0, 2)
    assert results.precision_at(3).value == 2 / 3
    assert results.precision_at(7).n == 7
    assert results.rate().value == pytest.approx((0.2 + 0.1 + 0.1) / 8)
    assert results.max_weight == 2.0
    with pytest.raises(BadConfig, match="1 or more"):
        results.precision_at(0)


def test_critical_faults_put_real_differences_before_ties(results: Results) -> None:
    assert results.critical(10)["fault_id"].tolist() == ["06", "05", "04"]
    assert results.critical(1)["fault_id"].tolist() == ["06"]


def test_to_json_has_what_the_command_promises(results: Results) -> None:
    answer = results.to_json()
    assert set(answer) == {
        *(
            "sdc1_live",
            "sdc1",
            "sdc5",
            "sdc1_live_without_ties",
            "sdc1_live_images_alike",
            "masked",
            "trials",
            "live_share",
            "space_size",
        ),
        *("by_layer", "by_register", "by_bit", "precision_at_100", "sampler"),
        *("state", "stop", "stopped_by"),
    }
    keys = ["value", "low", "high", "confidence", "n", "ess", "method"]
    assert list(answer["by_layer"]) == ["stem", "head"] and list(answer["by_bit"]) == ["0", "1", "2", "7"]
    for estimate in (answer["sdc1"], answer["by_bit"]["7"], answer["masked"]["dead"]):
        assert list(estimate) == keys


def test_until_cycle_stays_an_integer(results: Results) -> None:
    assert str(results.trials["until_cycle"].dtype) == "Int64"
    assert results.trials["until_cycle"].dropna().tolist() == [40]


def test_views_show_the_estimate(results: Results) -> None:
    assert str(results.rate()) in repr(results)
    assert str(results.population_rate()) in results._repr_html_()


@pytest.mark.parametrize("ask", [lambda r: r.rate("sdc2"), lambda r: r.by("colour"), lambda r: r.summary([])])
def test_unknown_questions_are_refused(results: Results, ask: Any) -> None:
    with pytest.raises(BadConfig, match="allowed"):
        ask(results)


def test_what_is_not_a_campaign_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="not a campaign"):
        Results.open(tmp_path)
    write_manifest(tmp_path, MANIFEST)
    with pytest.raises(BadData, match="no trials"):
        Results.open(tmp_path)
    with pytest.raises(BadData, match=r"lacks .*space"):
        campaign(tmp_path / "other", {"schema": SCHEMA})


def test_a_campaign_of_another_version_is_told(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace(f'"schema": {SCHEMA}', '"schema": 1'))
    for read in (Results.open, lambda directory: check_manifest(directory, MANIFEST)):
        with pytest.raises(
            BadData, match=rf"schema 1, of another version; allowed: {SCHEMA}\. Choose another -o"
        ):
            read(tmp_path)


def test_a_column_that_there_is_not_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"column 'sdc2' \(did you mean 'sdc20'\?\); allowed: trial_id, "):
        campaign(tmp_path).column("sdc2")


def stored(directory: Path, *chunks: int) -> None:
    write_manifest(directory, MANIFEST)
    for chunk in chunks:
        numbered = columns(chunk=np.full(8, chunk))
        write_part(directory, chunk, encoded_part(chunk, numbered, campaign_digest(directory)))


@pytest.mark.parametrize(
    ("chunks", "gap"),
    [
        ((0, 2, 3), "chunk 1 of 4 is missing: 500 trials"),
        ((8, 9), "chunks 0, 1, 2, ... of 10 are missing: 4,000 trials"),
    ],
)
def test_a_chunk_that_is_gone_is_told_and_the_rest_is_read(
    tmp_path: Path, chunks: tuple[int, ...], gap: str
) -> None:
    stored(tmp_path, *chunks)
    with pytest.warns(UserWarning, match=gap):
        results = Results.open(tmp_path)
    assert len(results) == 8 * len(chunks)
    assert f"; {gap})" in repr(results)


def test_no_chunk_is_missed_that_is_there_or_being_made(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored(tmp_path / "whole", 0, 1)
        assert Results.open(tmp_path / "whole").gap == ""
        stored(tmp_path / "live", 0, 2)
        with only_writer(tmp_path / "live"):
            assert Results.open(tmp_path / "live").gap == ""
