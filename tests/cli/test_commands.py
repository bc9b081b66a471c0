"""Every command: what it returns with --json, how fast it answers, and that its text is for people."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress

from emulator.campaign.config import CampaignConfig
from emulator.campaign.results import Results
from emulator.graph import load as loading
from emulator.graph.qgraph import MacLayer
from emulator.sampling.confidence_sequence import uniform_trials

Emulator = Callable[..., Any]

COMMANDS = "demo init run quantize check inspect inject rank status report replay info".split()
COMMANDS += "ber compare search train restrict checksum protect schema".split()
ESTIMATE = {"value", "low", "high", "confidence", "n", "ess", "method"}
CAMPAIGN = set(
    """sdc1_live sdc1 sdc5 masked trials live_share space_size by_layer by_register by_bit sampler""".split()
)
FAULT = "layer=conv1 register=pe_b row=3 col=2 cycle=40 bit=7"


def test_help_is_instant() -> None:
    """Processor time: what a user waits for on a machine that does nothing else."""
    program = Path(sys.executable).with_name("emulator")

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    median = statistics.median(seconds() for _ in range(5))
    print(f"emulator --help: {median:.3f} s")
    assert median < 0.3


@pytest.mark.parametrize("path", ["plain", "avx2", "vnni"])
def test_info_says_which_instructions_are_used(path: str) -> None:
    program = Path(sys.executable).with_name("emulator")

    def info(**variables: str) -> Any:
        done = subprocess.run(
            [program, "info", "--json"], env=os.environ | variables, check=True, capture_output=True
        )
        return json.loads(done.stdout)

    offered = info()["available"]
    assert info()["instructions"] == offered[0] and offered[-1] == "plain"
    if path in offered:
        assert info(EMULATOR_SIMD=path)["instructions"] == path


def test_help_lists_every_command_and_each_has_an_example(emulator: Emulator) -> None:
    overview = emulator("--help")
    for command in COMMANDS:
        assert f"\n  {command} " in overview.out
        assert f"Example: emulator {command}" in emulator(command, "--help").out
    assert "..." not in overview.out.split("Commands:")[1]  # no summary cut short


def test_version(emulator: Emulator) -> None:
    assert emulator("--version").out.startswith("emulator 0.")


# ---- what --json returns


def test_inspect(place: Path, emulator: Emulator) -> None:
    found = emulator("inspect", place / "model.onnx", "--json").json
    assert found.keys() >= {"macs", "cycles", "space_size", "live", "live_share", "layers", "registers"}
    assert [layer["name"] for layer in found["layers"]] == ["conv1", "conv2", "fc"]
    assert found["macs"] == 8192
    assert sum(part["sites"] for part in found["breakdown"]) == found["space_size"]


def test_check(place: Path, emulator: Emulator) -> None:
    answer = emulator("check", place / "model.onnx", "--inputs", place / "test.npz", "--limit", 20, "--json")
    assert answer.code == 0
    assert answer.json.keys() >= {
        "ok",
        "tensors",
        "mismatched_tensors",
        "samples",
        "top1_agreement",
        "layers",
    }
    assert answer.json["ok"] is True
    assert answer.json["mismatched_tensors"] == 0
    assert answer.json["accuracy"] > 0.8


def test_check_without_data_says_what_it_took_instead(place: Path, emulator: Emulator) -> None:
    answer = emulator("check", place / "model.onnx", "--json")
    assert answer.code == 0
    assert answer.json["accuracy"] is None
    assert answer.json["samples"] == 8
    assert "8 random samples" in answer.err


def test_check_with_labels_wanted_refuses_data_without(
    place: Path, tmp_path: Path, emulator: Emulator
) -> None:
    options = ("--labels", "--limit", 4, "--cycle-images", 0)
    assert emulator("check", place / "model.onnx", "--inputs", place / "test.npz", *options).code == 0
    with np.load(place / "test.npz") as data:
        np.savez(tmp_path / "bare.npz", inputs=data["inputs"])
    answer = emulator("check", place / "model.onnx", "--inputs", tmp_path / "bare.npz", *options)
    assert answer.code == 4
    assert "without labels" in answer.err and "leave --labels out" in answer.err


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_check_fails_if_one_weight_is_wrong(
    layer: int, place: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    network_of = loading.network_of

    def tampered(*arguments: Any, **settings: Any) -> loading.Network:
        network = network_of(*arguments, **settings)
        struck = network.graph.layers[layer]
        weight = struck.weight.copy()
        weight[0, 0, 0] ^= 1
        ops = [replace(op, weight=weight) if op is struck else op for op in network.graph.ops]
        assert isinstance(struck, MacLayer)
        return replace(network, graph=replace(network.graph, ops=tuple(ops)))

    monkeypatch.setattr(loading, "network_of", tampered)
    answer = emulator("check", place / "model.onnx", "--inputs", place / "test.npz", "--limit", 20, "--json")
    assert answer.code == 1
    assert answer.json["ok"] is False
    assert answer.json["mismatched_tensors"] > 0
    assert "error: " in answer.err


def test_inject(place: Path, emulator: Emulator) -> None:
    options = ("--inputs", place / "test.npz", "--fault", FAULT, "--json")
    found = emulator("inject", place / "model.onnx", *options).json
    assert found["site"] == {
        "layer": 0,
        "layer_name": "conv1",
        "register": "pe_b",
        "row": 3,
        "col": 2,
        "bits": [7],
        "kind": "flip",
        "cycle": 40,
        "until_cycle": None,
    }
    assert found["new_value"] == found["old_value"] ^ 1 << 7
    assert [set(error) for error in found["accumulator_error"]] == [{"m", "n", "delta"}]
    assert len(found["logits"]["golden"]) == len(found["logits"]["faulty"]) == 10
    by_cycles = emulator("inject", place / "model.onnx", *options, "--engine", "cycle").json
    assert by_cycles["accumulator_error"] == found["accumulator_error"]
    assert by_cycles["masked_at"] == found["masked_at"]


def test_inject_gives_faults_of_a_file_the_outcome_they_had(place: Path, emulator: Emulator) -> None:
    part = sorted((place / "runs/a/trials").glob("*.parquet"))[0]
    trials = Results.open(place / "runs/a").trials
    trials = trials[trials["chunk"] == 0]
    options = ("--inputs", place / "test.npz", "--faults", part, "--json")
    found = emulator("inject", place / "model.onnx", *options).json["explanations"]
    for key in ("masked_at", "sdc1", "tie", "engine"):
        assert [one[key] for one in found] == trials[key].tolist()
    assert [one["input"] for one in found] == trials["input_id"].tolist()
    assert trials["input_id"].nunique() > 1
    other = emulator("inject", place / "model.onnx", *options, "--index", 3).json["explanations"]
    assert {one["input"] for one in other} == {3}


@pytest.mark.parametrize("faults", [(), ("--fault", FAULT, "--faults", "a.parquet")])
def test_inject_wants_either_a_fault_or_a_file(place: Path, faults: Any, emulator: Emulator) -> None:
    answer = emulator("inject", place / "model.onnx", "--inputs", place / "test.npz", *faults)
    assert answer.code == 2
    assert "--faults, and not both" in " ".join(answer.err.split())


def test_inject_says_that_a_register_is_dead(place: Path, emulator: Emulator) -> None:
    fault = FAULT.replace("cycle=40", "cycle=0")
    options = ("--inputs", place / "test.npz", "--fault", fault, "--json")
    found = emulator("inject", place / "model.onnx", *options).json
    assert (found["live"], found["masked_at"], found["accumulator_error"]) == (False, "dead", [])


def test_rank(place: Path, emulator: Emulator) -> None:
    options = ("--limit", 10, "--candidates", 500, "--top", 7, "--registers", "pe_b", "--json")
    found = emulator("rank", place / "model.onnx", "--inputs", place / "test.npz", *options).json
    scores = [fault["score"] for fault in found["faults"]]
    assert found["scored"] == 500
    assert len(scores) == 7
    assert scores == sorted(scores, reverse=True)
    assert {fault["register"] for fault in found["faults"]} == {"pe_b"}
    text = emulator("rank", place / "model.onnx", "--inputs", place / "test.npz", *options[:-1]).out
    for line, fault in zip(text.splitlines()[2:], found["faults"], strict=True):
        _, layer, index, named = line.split(maxsplit=3)
        assert (layer, int(index), named) == (fault["layer_name"], fault["input"], fault["fault"])
    given = ("--inputs", place / "test.npz", "--index", index, "--fault", named, "--json")
    struck = emulator("inject", place / "model.onnx", *given).json["site"]
    assert {key: struck[key] for key in ("layer", "register", "row", "col", "cycle")} == {
        key: fault[key] for key in ("layer", "register", "row", "col", "cycle")
    }
    by_differences = emulator(
        "rank",
        place / "model.onnx",
        "--inputs",
        place / "test.npz",
        *options,
        "--sensitivity",
        "finite-difference",
    ).json
    # Two layers of lookahead leave no Jacobian to differ in a network of three.
    assert [fault["score"] for fault in by_differences["faults"]] == pytest.approx(scores)


def test_run_a_sweep(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    options = ("--limit", 2, "--sampler", "sweep", "--trials", 400, "--registers", "pe_b,accumulator")
    options = (*options, "--workers", 1, "-o", tmp_path / "s")
    found = emulator("run", place / "model.onnx", "--inputs", place / "test.npz", *options, "--json").json
    assert found["sdc1_live"]["method"] == "horvitz-thompson"
    assert 250 < found["trials"] < 550
    assert found["sdc1_live"]["n"] == found["trials"]
    text = emulator("status", tmp_path / "s").out
    assert "classes of sites" in text and "images like these" in text and "not finished" not in text


def test_away_from_a_terminal_a_long_run_tells_how_far_it_is(
    place: Path, tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emulator.cli.running.SECONDS_BETWEEN_LINES", 0)
    options = ("--limit", 2, "--trials", 1200, "--workers", 1, "-o", tmp_path / "lines")
    answer = emulator("run", place / "model.onnx", "--inputs", place / "test.npz", *options)
    assert re.search(r"500/1200  .*faults/s  SDC-1", answer.err)


def test_a_run_says_what_it_is_doing_and_where_there_is_nothing_to_do(
    place: Path, tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text beside the bar, from one to the next."""
    texts: list[str] = []
    add, update = Progress.add_task, Progress.update

    def told(method: Any) -> Any:
        def call(self: Any, *given: Any, **named: Any) -> Any:
            texts.append(named.get("description") or str(given[0]))
            return method(self, *given, **named)

        return call

    monkeypatch.setattr(Progress, "add_task", told(add))
    monkeypatch.setattr(Progress, "update", told(update))

    def run(trials: int, workers: int) -> Any:
        texts.clear()
        model, inputs = place / "model.onnx", place / "test.npz"
        options = ("--limit", 2, "--trials", trials, "--workers", workers, "-o", tmp_path / "run")
        return emulator("run", model, "--inputs", inputs, *options)

    assert run(500, 2).code == 0
    assert texts[0] == "starting 2 workers (the first time they compile kernels, a minute)"
    assert "faults/s" in texts[-1]
    again = run(500, 2)
    assert texts[0].startswith("reading what is there, then starting 2 workers")
    assert texts[-1] == "all 500 trials are there already"
    assert "faults/s" not in again.err and "SDC-1 of live sites" in again.out
    assert run(600, 1).code == 0
    assert texts[0] == "reading what is there, then first trials" and "faults/s" in texts[-1]
    assert run(100, 2).code == 2
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--workers", 1), r"--memory \([\d.]+ [MG]B, half of what is free\)"),
        (("--workers", "dask-local"), r"--memory \(4.0 GB for each worker\)"),
        (("--workers", 1, "--memory", "3GB"), ""),
    ],
)
def test_which_memory_was_taken_is_told(place: Path, emulator: Emulator, options: Any, words: str) -> None:
    answer = emulator("run", place / "model.onnx", "--inputs", place / "test.npz", "--dry-run", *options)
    (taken,) = (line for line in answer.err.splitlines() if line.startswith("defaults taken"))
    assert re.search(words, taken) and ("--memory" in taken) == bool(words)


def test_an_interval_that_holds_at_any_time_says_so(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    options = ("--limit", 2, "--until-ci", "20%", "--trials", 500, "--workers", 1, "-o", tmp_path / "looked")
    answer = emulator("run", place / "model.onnx", "--inputs", place / "test.npz", *options)
    assert "the interval holds at any time" in answer.out


def test_run(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    options = ("--limit", 5, "--trials", 300, "--workers", 1, "-o", tmp_path / "b", "--json")
    answer = emulator("run", place / "model.onnx", "--inputs", place / "test.npz", *options)
    found = answer.json
    assert found.keys() >= CAMPAIGN | {"trials_per_second"}
    assert all(found[rate].keys() == ESTIMATE for rate in ("sdc1_live", "sdc1", "sdc5"))
    assert found["trials"] == 300
    assert found["sdc1"]["value"] == pytest.approx(found["live_share"] * found["sdc1_live"]["value"])
    assert found["by_layer"].keys() <= {"conv1", "conv2", "fc"}
    assert "--array gemmini-16 --registers all --layers all --kind flip --sampler importance" in answer.err


def test_a_dry_run_plans_and_writes_nothing(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    options = ("--dry-run", "--limit", 5, "-o", tmp_path / "b", "--json")
    found = emulator("run", place / "model.onnx", "--inputs", place / "test.npz", *options).json
    assert found.keys() >= {"space_size", "live", "images", "trials", "cycles"}
    assert found["images"] == 5
    assert found["uniform_half_width"] == pytest.approx(0.0098, rel=0.01)
    assert found["uniform_trials"] == pytest.approx(9604, rel=0.01)
    assert found["uniform_trials_until_ci"] is None
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_times_some_trials_here_and_never_for_a_cluster(place: Path, emulator: Emulator) -> None:
    def planned(*options: object) -> Any:
        fixed = ("--inputs", place / "test.npz", "--limit", 5, "--dry-run")
        return emulator("run", place / "model.onnx", *fixed, *options)

    probe = planned("--trials", 6000, "--workers", 3, "--json").json["probe"]
    assert 4 < probe["trials"] <= 64
    assert probe["seconds"] == pytest.approx(6000 / probe["trials_per_second"] / 3)
    until = planned("--until-ci", 0.01, "--workers", 3, "--json").json["probe"]
    rare = uniform_trials(0.01, rate=0.01)
    assert until["seconds"] == pytest.approx(rare / until["trials_per_second"] / 3)
    for others in (("--workers", "dask-local"), ("--sampler", "exhaustive")):
        assert planned(*others, "--json").json["probe"] is None
        assert "time: " not in planned(*others).out
    told = planned("--trials", 6000, "--workers", 3).out
    assert re.search(
        r"time: about [\d,.]+ trials/s in one process here \(probe of \d+ trials of one image\), ", told
    )
    assert re.search(r", \d+ s in 3 processes, beside", told)


def test_a_dry_run_says_what_a_width_takes(place: Path, emulator: Emulator) -> None:
    options = ("--inputs", place / "test.npz", "--limit", 5, "--until-ci", 0.01, "--dry-run")
    most = emulator("run", place / "model.onnx", *options, "--json").json["uniform_trials_until_ci"]
    assert most == uniform_trials(0.01)
    told = emulator("run", place / "model.onnx", *options).out
    assert re.search(r"until 1 %: about 3\d,000 uniform trials at worst, 1,\d00 at a rate of 1 %", told)


def test_of_several_stop_rules_the_first_that_is_met_ends_the_run(
    place: Path, tmp_path: Path, emulator: Emulator
) -> None:
    options = ("--limit", 5, "--inputs", place / "test.npz", "-o", tmp_path / "c")
    rules = ("--trials", 90_000, "--until-ci", 0.0001, "--max-time", 3600, "--min-critical", 2)
    plan = emulator("run", place / "model.onnx", *options, *rules, "--dry-run").out
    assert "stop: 90,000 trials or half-width 0.01 % or max time 3600 s or 2 critical faults" in plan
    assert re.search(r"uniform trials: a half-width of 0\.3\d % at most; 9,\d\d\d for 1 %", plan)
    found = emulator("run", place / "model.onnx", *options, *rules, "--workers", 1, "--json").json
    assert (found["trials"] < 90_000, found["sdc1_live"]["method"]) == (True, "betting")


def test_status(place: Path, emulator: Emulator) -> None:
    found = emulator("status", place / "runs/a", "--json").json
    assert found.keys() >= CAMPAIGN
    assert found["trials"] == 1000


def test_report(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    found = emulator("report", place / "runs/a", "-o", tmp_path / "r.html", "--json").json
    assert found == {"report": str(tmp_path / "r.html")}
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!")


def test_report_writes_figures_for_papers(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    options = ("-o", tmp_path / "r.html", "--figures", tmp_path / "f", "--format", "svg", "--json")
    found = emulator("report", place / "runs/a", *options).json
    names = {"layer", "register", "bit", "map", "funnel", "convergence"}
    assert {Path(file) for file in found["figures"]} == {tmp_path / "f" / f"{name}.svg" for name in names}
    assert set((tmp_path / "f").iterdir()) == {Path(file) for file in found["figures"]}
    wrong = emulator("report", place / "runs/a", "--format", "eps")
    assert (wrong.code, "pdf, svg, png" in wrong.err) == (2, True)


def test_a_report_takes_raw_rates_by_storage_from_a_file(
    place: Path, emulator: Emulator, tmp_path: Path
) -> None:
    rates = tmp_path / "raw.toml"
    rates.write_text("flip-flop = 30\nsram = 12\n")
    options = ("-o", tmp_path / "r.html", "--fit", rates)
    told = emulator("report", place / "runs/a", *options)
    assert told.code == 0
    assert "--fit-per-mbit" not in told.err
    assert "flip-flops 30, SRAM 12 FIT/Mbit raw" in (tmp_path / "r.html").read_text("utf-8")
    both = emulator("report", place / "runs/a", *options, "--fit-per-mbit", 20)
    assert both.code == 2
    assert "not with --fit-per-mbit" in both.err
    rates.write_text("flipflop = 30\n")
    wrong = emulator("report", place / "runs/a", *options)
    assert wrong.code == 2
    assert "'flipflop' is no register" in wrong.err


def test_a_live_report_of_a_finished_campaign_is_the_ordinary_one(
    place: Path, tmp_path: Path, emulator: Emulator
) -> None:
    pages = []
    for live in ((), ("--live", "--every", 1)):
        emulator("report", place / "runs/a", "-o", tmp_path / "r.html", *live)
        pages.append((tmp_path / "r.html").read_bytes())
    assert pages[0] == pages[1]


def test_demo(tmp_path: Path, emulator: Emulator) -> None:
    options = ("--trials", 200, "--limit", 4, "--workers", 1, "-o", tmp_path, "--json")
    found = emulator("demo", *options).json
    assert found.keys() == {"uniform", "importance", "report"}
    assert found["importance"].keys() >= CAMPAIGN
    assert (tmp_path / "report.html").is_file()


def test_init_prints_a_config_that_runs_as_it_is(place: Path, emulator: Emulator) -> None:
    template = emulator("init").out
    assert emulator("init", "--json").json == {"toml": template}
    assert tomllib.loads(template).keys() <= CampaignConfig.model_fields.keys()
    (place / "campaign.toml").write_text(template, encoding="utf-8")
    assert emulator("run", place / "campaign.toml", "--dry-run", "--json").json["trials"] == 10_000
    told = emulator("run", place / "campaign.toml", "--dry-run").err
    assert told.startswith("defaults taken: --answer ") and "--registers all" in told
    assert "--trials" not in told and "--sampler" not in told  # the file has them
    shorter = emulator("run", place / "campaign.toml", "--dry-run", "--trials", 70, "--json")
    assert shorter.json["trials"] == 70


def test_a_campaign_is_extended_by_its_directory_alone(
    place: Path, tmp_path: Path, emulator: Emulator
) -> None:
    inputs = (
        "--inputs",
        place / "test.npz",
        "--workers",
        1,
        "--limit",
        5,
        "--sampler",
        "uniform",
        "--seed",
        4,
    )
    model, choice = place / "model.onnx", ("--registers", "pe_b,accumulator", "--layers", "fc")
    assert emulator("run", model, *inputs, *choice, "--trials", 100, "-o", tmp_path / "a").code == 0
    again = emulator("run", tmp_path / "a", "--workers", 1, "--json")
    assert again.json["trials"] == 100
    assert "the settings of its manifest" in again.err and "--seed" not in again.err
    assert emulator("run", tmp_path / "a", "--trials", 300, "--workers", 1, "--json").json["trials"] == 300
    assert emulator("run", model, *inputs, *choice, "--trials", 300, "-o", tmp_path / "b").code == 0
    for file in ("manifest.json", "trials/part-000000.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


# ---- replay


def test_replay_gives_the_stored_outcome_by_both_engines(place: Path, emulator: Emulator) -> None:
    trials = Results.open(place / "runs/a").trials
    assert trials["sdc1"].any()
    chosen = trials.groupby(["engine", "masked_at"], observed=True).head(3)
    assert len(chosen) > 10
    for _, trial in chosen.iterrows():
        told = []
        for engine in ("auto", "cycle"):
            answer = emulator("replay", place / "runs/a", trial["fault_id"], "--engine", engine, "--json")
            found = answer.json
            assert found["engine"] == {"auto": trial["engine"], "cycle": "cycle"}[engine]
            assert found["site"]["register"] == trial["register"]
            stored = trial[["input_id", "masked_at", "sdc1", "tie", "top1_golden", "top1_faulty"]].tolist()
            top1 = [found["top1"]["golden"], found["top1"]["faulty"]]
            assert [found[key] for key in ("input", "masked_at", "sdc1", "tie")] + top1 == stored
            assert found["corrupted_outputs"] == trial["n_corrupt_out"]
            if engine == "auto":
                assert len(found["accumulator_error"]) == trial["n_corrupt_acc"]
            told.append(found["logits"])
        assert told[0] == told[1]


def test_replay_refuses_data_that_has_changed(place: Path, tmp_path: Path, emulator: Emulator) -> None:
    with np.load(place / "test.npz") as data:
        np.savez(tmp_path / "other.npz", inputs=data["inputs"][::-1])
    fault_id = Results.open(place / "runs/a").trials["fault_id"].iloc[0]
    answer = emulator("replay", place / "runs/a", fault_id, "--inputs", tmp_path / "other.npz")
    assert answer.code == 4
    assert "inputs changed since the campaign ran" in answer.err


def test_the_worst_fault_goes_on_to_its_waveform_and_to_inject(
    place: Path, tmp_path: Path, emulator: Emulator
) -> None:
    worst = Results.open(place / "runs/a").critical(top=1)["fault_id"].iloc[0]
    vcd, figure = tmp_path / "a.vcd", tmp_path / "a.svg"
    answer = emulator("replay", place / "runs/a", worst[:-1], "--vcd", vcd, "--figure", figure, "--json")
    assert f"warning: fault id '{worst[:-1]}': taken for {worst}" in answer.err
    found = answer.json
    assert (found["vcd"]["path"], found["figure"]) == (str(vcd), str(figure))
    assert found["fault"] in vcd.read_text(encoding="ascii") and figure.is_file()
    line = emulator("replay", place / "runs/a", worst).out.splitlines()[-1]
    options = shlex.split(line.removeprefix("for inject: "))
    again = emulator("inject", place / "model.onnx", "--inputs", place / "test.npz", *options, "--json").json
    assert again == {key: value for key, value in found.items() if key not in ("vcd", "figure")}


# ---- for people


@pytest.mark.parametrize("command", ["inspect", "check", "status"])
def test_tables_fit_a_terminal_and_end_without_blanks(command: str, place: Path, emulator: Emulator) -> None:
    target = {"status": place / "runs/a"}.get(command, place / "model.onnx")
    answer = emulator(command, target)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    tables = [line for line in lines if set(line) == {"-", " "}]
    assert tables
    assert max(len(line) for line in tables) <= 100
