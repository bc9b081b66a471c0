"""Campaigns: the same files on any number of workers, after any interruption; nothing foreign is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.campaign.inputs import load_samples
from emulator.campaign.looking_back import read_past
from emulator.campaign.manifest import read_manifest
from emulator.campaign.parts import read_part
from emulator.campaign.processes import Processes
from emulator.campaign.replay import replay
from emulator.campaign.results import Results
from emulator.campaign.runner import Campaign, Progress
from emulator.errors import BadConfig, BadData
from emulator.faults.space import FaultSpace
from emulator.sampling.adaptive import Adaptive
from emulator.sampling.confidence_sequence import ConfidenceSequence
from emulator.sampling.exhaustive import Exhaustive
from emulator.sampling.importance import Importance
from emulator.sampling.past import no_past
from emulator.sampling.stopping import StopRule, ci_half_width, max_time, max_trials, min_critical
from emulator.sampling.stratified import Stratified
from emulator.sampling.uniform import Uniform
from emulator.sampling.workbench import Workbench

IMAGES = 12


def campaign(digits: Any, stop: StopRule | None, **changes: Any) -> Campaign:
    settings: dict[str, Any] = {"inputs": digits.data, "limit": IMAGES, "seed": 3, "sampler": Importance()}
    registers = changes.pop("registers", ["pe_a", "pe_b", "accumulator"])
    space = FaultSpace(digits.network, digits.array, registers=registers)
    return Campaign(digits.network, digits.array, space, stop=stop, **{**settings, **changes})


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def parts(directory: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(directory).items() if name.startswith("trials")}


def test_results_do_not_depend_on_the_number_of_workers(digits: Any, tmp_path: Path) -> None:
    one = campaign(digits, max_trials(1700)).collect(tmp_path / "one", workers=1)
    two = campaign(digits, max_trials(1700)).collect(tmp_path / "two", workers=2)
    assert len(one.trials) == len(two.trials) == 1700
    assert len(parts(tmp_path / "one")) == 4
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_rerun_reuses_every_trial_and_changes_no_byte(digits: Any, tmp_path: Path) -> None:
    campaign(digits, max_trials(1200)).collect(tmp_path, workers=1)
    before = files(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    seen: list[Progress] = []
    campaign(digits, max_trials(1200)).collect(tmp_path, workers=1, progress=seen.append)
    assert files(tmp_path) == before
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    assert (seen[-1].trials, seen[-1].reused, seen[-1].limit) == (1200, 1200, 1200)


def test_missing_and_damaged_parts_are_redone(digits: Any, tmp_path: Path) -> None:
    campaign(digits, max_trials(2000)).collect(tmp_path, workers=1)
    before = parts(tmp_path)
    first, second, *_ = sorted((tmp_path / "trials").iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=rf"set aside as {second.name}\.corrupt"):
        campaign(digits, max_trials(2000)).collect(tmp_path, workers=1)
    after = parts(tmp_path)
    assert {name: data for name, data in after.items() if not name.endswith(".corrupt")} == before


@pytest.mark.parametrize("lost", [1, 2])
def test_parts_that_are_lost_at_the_end_are_missed(digits: Any, tmp_path: Path, lost: int) -> None:
    campaign(digits, max_trials(1200)).collect(tmp_path, workers=1)
    assert Results.open(tmp_path).gap == ""
    before = parts(tmp_path)
    for path in sorted((tmp_path / "trials").iterdir())[-lost:]:
        path.unlink()
    gap = ["chunk 2 of 3 is missing: 200 trials", "chunks 1, 2 of 3 are missing: 700 trials"][lost - 1]
    with pytest.warns(UserWarning, match=gap):
        assert Results.open(tmp_path).gap == gap
    campaign(digits, max_trials(1200)).collect(tmp_path, workers=1)
    assert parts(tmp_path) == before and Results.open(tmp_path).gap == ""


def test_a_campaign_that_is_being_extended_misses_nothing(digits: Any, tmp_path: Path) -> None:
    """Killed meanwhile, it ends where it got to."""
    campaign(digits, max_trials(600)).collect(tmp_path, workers=1)

    def interrupt(state: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        campaign(digits, max_trials(1600)).collect(tmp_path, workers=1, progress=interrupt)
    assert "finished_trials" not in read_manifest(tmp_path)
    assert Results.open(tmp_path).gap == ""


def test_no_worker_is_started_where_nothing_is_left_to_do(digits: Any, tmp_path: Path) -> None:
    def counted(workers: Any) -> Results:
        settings = {"sampler": Exhaustive(), "limit": 1, "registers": ["accumulator"]}
        return campaign(digits, None, **settings).collect(tmp_path, workers=workers)

    first = counted(1)
    started: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "__call__", lambda *_: started.append(None))
        assert len(counted(2)) == len(first)
    assert not started


def test_more_trials_extend_a_campaign(digits: Any, tmp_path: Path) -> None:
    campaign(digits, max_trials(700)).collect(tmp_path / "grown", workers=1)
    full_chunk = parts(tmp_path / "grown")["trials/part-000000.parquet"]
    grown = campaign(digits, max_trials(1600)).collect(tmp_path / "grown", workers=1)
    campaign(digits, max_trials(1600)).collect(tmp_path / "straight", workers=1)
    assert len(grown.trials) == 1600
    assert files(tmp_path / "grown") == files(tmp_path / "straight")
    assert parts(tmp_path / "grown")["trials/part-000000.parquet"] == full_chunk


def test_trials_are_numbered_and_name_their_fault(digits: Any, tmp_path: Path) -> None:
    planned = campaign(digits, max_trials(600))
    trials = planned.collect(tmp_path, workers=1).trials
    assert trials["trial_id"].tolist() == list(range(600))
    assert set(trials["input_id"]) <= set(range(IMAGES))
    for row in trials.head(50).itertuples():
        image, index = divmod(int(row.fault_id, 16), planned.space.size)
        fault = planned.space.site(index)
        assert image == row.input_id
        assert (fault.layer, fault.upset.register) == (row.layer, row.register)
        assert (fault.upset.row, fault.upset.col, fault.upset.cycle) == (row.row, row.col, row.cycle)
        assert 1 << fault.upset.bits[0] == row.bits


def test_a_width_stops_a_campaign_after_the_same_chunk_on_any_workers(digits: Any, tmp_path: Path) -> None:
    stop = ci_half_width(0.006) | max_trials(20_000)
    settings = {"sampler": Uniform(), "registers": ["accumulator"]}
    one = campaign(digits, stop, **settings).collect(tmp_path / "one", workers=1)
    two = campaign(digits, stop, **settings).collect(tmp_path / "two", workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert (one.rate().method, one.rate().half_width <= 0.006) == ("betting", True)
    assert len(two.trials) < 20_000
    # No earlier look would have stopped it.
    sdc1, ends = one.trials["sdc1"].to_numpy(), chunk_ends(tmp_path / "one")
    sequence = ConfidenceSequence()
    for start, end in pairwise([0, *ends[:-1]]):
        sequence.add(sdc1[start:end], np.ones(end - start))
        assert sequence.estimate().half_width > 0.006


def test_more_trials_do_not_undo_a_look(digits: Any, tmp_path: Path) -> None:
    settings = {"sampler": Uniform(), "registers": ["accumulator"]}
    first = campaign(digits, ci_half_width(0.01), **settings).collect(tmp_path, workers=1)
    seen: list[Progress] = []
    longer = campaign(digits, max_trials(len(first) + 500), **settings).collect(
        tmp_path, workers=1, progress=seen.append
    )
    assert len(longer) == len(first) + 500
    assert longer.rate().method == seen[-1].estimate.method == "betting"


def chunk_ends(directory: Path) -> list[int]:
    return np.cumsum(
        [len(read_part(directory, chunk)["sdc1"]) for chunk in range(len(parts(directory)))]
    ).tolist()


def test_a_campaign_stops_at_so_many_distinct_critical_faults(digits: Any, tmp_path: Path) -> None:
    found = campaign(digits, min_critical(40) | max_trials(20_000)).collect(tmp_path, workers=1)
    ends = chunk_ends(tmp_path)
    critical = [found.trials["fault_id"][:end][found.trials["sdc1"][:end]] for end in ends]
    assert [names.nunique() >= 40 for names in critical] == [False] * (len(ends) - 1) + [True]
    assert found.rate().method == "betting"


def test_time_ends_a_run_and_its_rerun_has_it_again(digits: Any, tmp_path: Path) -> None:
    timed = max_time(1e-6)
    once = campaign(digits, timed).collect(tmp_path, workers=1)
    assert len(once) == len(read_part(tmp_path, 0)["sdc1"])  # the first chunk is always finished
    assert once.rate().method != "betting"
    stored = parts(tmp_path)
    again = campaign(digits, timed).collect(tmp_path, workers=1)
    assert len(again) > len(once)
    assert stored.items() <= parts(tmp_path).items()


# ---- interruption

SCRIPT = """
import sys
from emulator.array.spec import ArraySpec
from emulator.campaign.runner import Campaign
from emulator.faults.space import FaultSpace
from emulator.graph.load import load
from emulator.sampling.past import no_past
from emulator.sampling.stopping import max_trials

if __name__ == "__main__":
    model, data, directory, workers, trials = sys.argv[1:]
    network, array = load(model), ArraySpec.preset("gemmini-16")
    space = FaultSpace(network, array, registers=["pe_a", "pe_b", "accumulator"])
    Campaign(network, array, space, inputs=data, limit=12, seed=3, stop=max_trials(int(trials))).collect(
        directory, workers=int(workers)
    )
"""
TRIALS = 12_000


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_campaign_resumes_to_the_same_files(digits: Any, tmp_path: Path, workers: int) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    arguments = [digits.path, digits.data, killed, workers, TRIALS]
    process = subprocess.Popen([sys.executable, script, *map(str, arguments)], start_new_session=True)
    try:
        wait_for(lambda: len(parts_written(killed)) >= 3, process)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = parts_written(killed)
    assert 3 <= len(done) < TRIALS // 500
    kept = {path: path.stat().st_mtime_ns for path in done}
    seen: list[Progress] = []
    campaign(digits, max_trials(TRIALS)).collect(killed, workers=1, progress=seen.append)
    campaign(digits, max_trials(TRIALS)).collect(undisturbed, workers=1)
    assert files(killed) == files(undisturbed)
    assert seen[-1].reused >= 500 * len(done)
    if workers == 1:
        assert all(path.stat().st_mtime_ns == then for path, then in kept.items())


def parts_written(directory: Path) -> list[Path]:
    return sorted((directory / "trials").glob("part-*.parquet"))


def wait_for(condition: Any, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the campaign ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)


# ---- directories that are not this campaign's


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 4}, "seed"),
        ({"limit": 5}, "samples"),
        ({"sampler": Uniform()}, "sampler"),
        ({"sampler": Importance(alpha=0.3)}, "alpha"),
        ({"registers": ["pe_a"]}, "registers"),
    ],
)
def test_another_campaigns_directory_is_refused_and_untouched(
    digits: Any, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    campaign(digits, max_trials(500)).collect(tmp_path, workers=1)
    before = files(tmp_path)
    with pytest.raises(BadConfig, match=named):
        campaign(digits, max_trials(500), **change).collect(tmp_path, workers=1)
    assert files(tmp_path) == before


def test_a_foreign_directory_is_refused_and_untouched(digits: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("four years of work")
    with pytest.raises(BadConfig, match="not a campaign directory"):
        campaign(digits, max_trials(500)).collect(tmp_path, workers=1)
    assert files(tmp_path) == {"thesis.tex": b"four years of work"}


def test_the_manifest_identifies_model_and_data_by_content(digits: Any, tmp_path: Path) -> None:
    """The same files reached by another path are the same campaign."""
    campaign(digits, max_trials(500)).collect(tmp_path / "run", workers=1)
    before = parts(tmp_path / "run")
    copy = tmp_path / "elsewhere.npz"
    copy.write_bytes(digits.data.read_bytes())
    campaign(digits, max_trials(500), inputs=copy).collect(tmp_path / "run", workers=1)
    assert parts(tmp_path / "run") == before
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert len(manifest["model"]["sha256"]) == len(manifest["inputs"]["sha256"]) == 64


@pytest.mark.parametrize("workers", [0, -1, "many", 1.5])
def test_an_impossible_number_of_workers_is_refused(digits: Any, tmp_path: Path, workers: Any) -> None:
    with pytest.raises(BadConfig, match="workers"):
        campaign(digits, max_trials(500)).collect(tmp_path, workers=workers)


# ---- data


def shape_of(digits: Any, *samples: int) -> tuple[int, ...]:
    return (*samples, *digits.network.graph.inputs[0].sample_shape)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x: x[:, :, :7], ["shape", "1, 8, 8"]),
        (lambda x: x.reshape(len(x), -1), ["shape"]),
        (lambda x: x[0], ["shape"]),
        (lambda x: x[:0], ["at least one"]),
        (lambda x: np.float32(1), ["shape"]),
        (lambda x: x.astype(np.float64), ["float64", "float32"]),
        (lambda x: (x * 255).astype(np.uint8), ["uint8", "float32"]),
        (
            lambda x: np.where(np.arange(64).reshape(8, 8) == 9, np.nan, x).astype(np.float32),
            ["NaN", "sample 0"],
        ),
        (lambda x: np.concatenate([x[:2], np.full_like(x[2:3], np.inf), x[3:]]), ["infinity", "sample 2"]),
    ],
)
def test_inputs_that_do_not_fit_are_refused(digits: Any, tmp_path: Path, make: Any, words: list[str]) -> None:
    wrong = make(digits.inputs[:6])
    np.savez(tmp_path / "wrong.npz", inputs=wrong)
    sources = [tmp_path / "wrong.npz", *([wrong] if isinstance(wrong, np.ndarray) else [])]
    for source in sources:
        with pytest.raises(BadData) as caught:
            load_samples(source, digits.network.graph)
        message = str(caught.value)
        assert all(word in message for word in (*words, "allowed")), message


def test_a_missing_array_is_named(digits: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", images=digits.inputs[:2])
    with pytest.raises(BadData, match=r"images.*allowed.*'inputs'"):
        load_samples(tmp_path / "other.npz", digits.network.graph)


def test_the_array_named_like_the_input_comes_first(digits: Any, tmp_path: Path) -> None:
    name = digits.network.graph.inputs[0].name
    wrong = np.zeros(shape_of(digits, 2), np.float32)
    np.savez(tmp_path / "both.npz", **{name: digits.inputs[:3], "inputs": wrong})
    found = load_samples(tmp_path / "both.npz", digits.network.graph).inputs
    assert np.array_equal(np.stack(found), digits.inputs[:3])


@pytest.mark.parametrize(
    "labels", [np.zeros(5, np.int64), np.zeros(6, np.float32), np.zeros((6, 1), np.int64)]
)
def test_labels_that_do_not_fit_are_refused(digits: Any, tmp_path: Path, labels: Any) -> None:
    np.savez(tmp_path / "labels.npz", inputs=digits.inputs[:6], labels=labels)
    with pytest.raises(BadData, match="labels"):
        load_samples(tmp_path / "labels.npz", digits.network.graph)


@pytest.mark.parametrize(
    "damage", ["absent", "empty", "text", "truncated", "flipped", "npy", "objects", "folder"]
)
def test_a_file_that_is_no_npz_is_refused(digits: Any, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, inputs=digits.inputs[:20])
    data = bytearray(path.read_bytes())
    match damage:
        case "absent":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("label,pixel\n7,0.5\n")
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "flipped":
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)
        case "npy":
            with path.open("wb") as file:
                np.save(file, digits.inputs[:2])
        case "objects":
            np.savez(path, inputs=np.array([{"a": 1}], object))
        case "folder":
            path.unlink()
            path.mkdir()
    with pytest.raises(BadData, match=r"data\.npz"):
        load_samples(path, digits.network.graph)


def test_a_limit_takes_the_first_samples_and_their_labels(digits: Any) -> None:
    samples = load_samples(digits.data, digits.network.graph, 7)
    with np.load(digits.data) as data:
        assert np.array_equal(samples.inputs, data["inputs"][:7])
        assert np.array_equal(samples.labels, data["labels"][:7])


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(digits: Any, limit: int) -> None:
    with pytest.raises((BadData, BadConfig)):
        load_samples(digits.data, digits.network.graph, limit)


def test_asking_for_fewer_trials_than_are_there_deletes_nothing(digits: Any, tmp_path: Path) -> None:
    campaign(digits, max_trials(1200)).collect(tmp_path / "a", workers=1)
    before = files(tmp_path / "a")
    for stop in (max_trials(700), max_trials(1100)):
        with pytest.raises(BadConfig, match="holds 1200 trials"):
            campaign(digits, stop).collect(tmp_path / "a", workers=1)
    assert files(tmp_path / "a") == before


# ---- samplers that learn


@pytest.mark.parametrize("sampler", [Importance(learn=True), Adaptive(), Stratified()], ids=lambda s: s.name)
def test_what_is_learnt_does_not_depend_on_the_number_of_workers(
    digits: Any, tmp_path: Path, sampler: Any
) -> None:
    """4,000 trials in eight chunks, then one that looks back at them."""
    stop = max_trials(5000)
    one = campaign(digits, stop, sampler=sampler).collect(tmp_path / "one", workers=1)
    campaign(digits, stop, sampler=sampler).collect(tmp_path / "two", workers=2)
    assert len(parts(tmp_path / "one")) == 9
    assert files(tmp_path / "one") == files(tmp_path / "two")
    planned = campaign(digits, stop, sampler=sampler)
    bench = Workbench(planned.network, planned.array, planned.space, planned.samples.inputs)
    taught = planned.judged(bench, 8, read_past(tmp_path / "one", planned.array, 8))
    assert (taught["fault_id"] == one.trials["fault_id"].to_numpy()[4000:]).all()
    if not isinstance(sampler, Importance):  # here the crossing is better than what 4,000 trials teach
        forgetful = planned.judged(bench, 8, no_past())
        assert (forgetful["fault_id"] != taught["fault_id"]).any()
        assert taught["sdc1"].mean() > forgetful["sdc1"].mean()


# ---- replaying


def test_a_campaign_on_an_array_is_replayed_with_a_file_that_holds_it(digits: Any, tmp_path: Path) -> None:
    images = digits.inputs[:IMAGES]
    found = campaign(digits, max_trials(200), inputs=images, limit=None).collect(tmp_path / "run", workers=1)
    some = found.column("fault_id")[0]
    with pytest.raises(BadConfig, match=r"were no file \(the array\).*numpy\.savez"):
        found.replay(some)
    np.savez(tmp_path / "inputs.npz", inputs=images)
    explained = replay(tmp_path / "run", some, inputs=tmp_path / "inputs.npz")
    assert explained.top1_faulty == found.column("top1_faulty")[0]
